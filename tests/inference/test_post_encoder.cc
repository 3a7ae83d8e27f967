#include <algorithm>
#include <cmath>

#include "model/inference/post_encoder.h"
#include "model/kernels/scoring.h"
#include "tests/model/kernel_cases.h"

namespace tagspace {
namespace {

using kernels::Random;

struct Case {
  ModelConfig config;
  std::vector<float> words, convolution, bias, linear, linear_bias;
  PackedBatch batch;

  Case(std::uint32_t dim, std::uint32_t window, std::uint32_t filters, std::size_t posts, Random& random) {
    config.vocab_size = 50;
    config.dim = dim;
    config.window = window;
    config.filters = filters;
    words = random.normals(std::size_t{50} * dim);
    convolution = random.normals(std::size_t{filters} * window * dim, 0.2F);
    bias = random.normals(filters, 0.2F);
    linear = random.normals(std::size_t{dim} * filters, 0.2F);
    linear_bias = random.normals(dim);
    for (std::size_t post = 0; post < posts; ++post) {
      // The first has no token.
      for (std::size_t t = 0; t < post % 13; ++t) batch.tokens.push_back(random.below(50));
      batch.end_post();
    }
  }
  [[nodiscard]] EncoderWeights weights() const {
    return {words.data(), convolution.data(), bias.data(), linear.data(), linear_bias.data()};
  }
};

std::vector<float> plain_vectors(const Case& c, bool as_bag) {
  const std::size_t posts = c.batch.posts();
  std::vector<float> vectors(posts * c.config.dim);
  const kernels::PackedTokens tokens{posts, c.batch.token_offsets.data(), c.batch.tokens.data(),
                                     pooling_of(c.config)};
  if (as_bag) {
    std::vector<float> scales(posts);
    kernels::bag_forward_reference(tokens, c.words.data(), c.config.dim, vectors.data(), scales.data());
    return vectors;
  }
  std::vector<float> features(posts * c.config.filters);
  std::vector<std::uint32_t> places(features.size());
  kernels::conv_max_forward_reference({c.config.dim, c.config.window, c.config.filters}, tokens,
                                      c.words.data(), c.convolution.data(), c.bias.data(), features.data(),
                                      places.data());
  for (auto& x : features) x = std::tanh(std::tanh(x));
  for (std::size_t post = 0; post < posts; ++post) {
    for (std::size_t i = 0; i < c.config.dim; ++i) {
      float sum = c.linear_bias[i];
      for (std::size_t f = 0; f < c.config.filters; ++f) {
        sum += features[post * c.config.filters + f] * c.linear[i * c.config.filters + f];
      }
      vectors[post * c.config.dim + i] = sum;
    }
  }
  return vectors;
}

TEST(PostEncoder, EqualsThePlainFormulas) {
  struct Shape {
    std::uint32_t dim, window, filters;
  };
  for (const auto& shape : {Shape{1, 1, 1}, Shape{16, 5, 40}, Shape{50, 3, 33}, Shape{64, 5, 300}}) {
    Random random(shape.dim);
    Case c(shape.dim, shape.window, shape.filters, 70, random);
    for (const bool as_bag : {false, true}) {
      const auto expected = plain_vectors(c, as_bag);
      kernels::for_each_context([&](kernels::CpuContext& context) {
        PostEncoder encoder(c.config);
        std::vector<float> actual(expected.size(), 99);
        encoder.encode(c.weights(), c.batch, as_bag, actual.data(), context);
        kernels::expect_close(actual, expected);
      });
    }
    // The bag of a model that is one.
    c.config.encoder = EncoderType::bag;
    for (const auto pooling : {PoolingType::mean, PoolingType::sqrtn}) {
      c.config.pooling = pooling;
      PostEncoder encoder(c.config);
      kernels::CpuContext context(1);
      std::vector<float> actual(c.batch.posts() * shape.dim, 99);
      encoder.encode({c.words.data()}, c.batch, false, actual.data(), context);
      kernels::expect_close(actual, plain_vectors(c, true));
    }
  }
}

TEST(PostEncoder, APostAloneHasTheSameBitsAsAmongOthers) {
  Random random(3);
  const Case c(24, 5, 50, 2500, random);
  for (const bool as_bag : {false, true}) {
    std::vector<float> first;
    kernels::for_each_context([&](kernels::CpuContext& context) {
      PostEncoder encoder(c.config);
      std::vector<float> all(c.batch.posts() * c.config.dim, 99);
      encoder.encode(c.weights(), c.batch, as_bag, all.data(), context);
      if (context.pool.threads() == 1) first = all;
      ASSERT_EQ(all, first);
      for (const std::size_t i : {0, 1, 12, 1023, 1024, 1025, 2499}) {
        PackedBatch alone;
        alone.tokens.assign(c.batch.tokens.begin() + c.batch.token_offsets[i],
                            c.batch.tokens.begin() + c.batch.token_offsets[i + 1]);
        alone.end_post();
        std::vector<float> vector(c.config.dim, 99);
        encoder.encode(c.weights(), alone, as_bag, vector.data(), context);
        ASSERT_TRUE(std::equal(vector.begin(), vector.end(),
                               all.begin() + static_cast<std::ptrdiff_t>(i * c.config.dim)));
      }
    });
  }
}

TEST(NormalizeRows, LengthOneOrZero) {
  std::vector<float> rows = {3, 4, 0, 0, -5, 0};
  normalize_rows(rows, 2);
  EXPECT_EQ(rows, (std::vector<float>{0.6F, 0.8F, 0, 0, -1, 0}));
}

}  // namespace
}  // namespace tagspace
