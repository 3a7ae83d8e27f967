#include <algorithm>

#include "model/kernels/encoder.h"
#include "model/kernels/row_update.h"
#include "tests/model/kernel_cases.h"

namespace tagspace::kernels {
namespace {

// Posts of the given lengths over a few words; some tokens are left out.
struct Posts {
  std::vector<std::uint32_t> offsets = {0};
  std::vector<std::uint32_t> words;

  Pooling pooling = Pooling::mean;

  Posts(const std::vector<std::uint32_t>& lengths, std::uint32_t word_count, Random& random) {
    for (const auto length : lengths) {
      for (std::uint32_t t = 0; t < length; ++t) {
        words.push_back(random.below(6) == 0 ? kNoWord : random.below(word_count));
      }
      offsets.push_back(static_cast<std::uint32_t>(words.size()));
    }
  }
  [[nodiscard]] PackedTokens packed() const {
    return {offsets.size() - 1, offsets.data(), words.data(), pooling};
  }
};

// Empty, of one token, shorter than a window, longer, and longer than what a task takes together; enough of
// them for several tasks.
std::vector<std::uint32_t> odd_lengths(Random& random) {
  std::vector<std::uint32_t> lengths = {0, 1, 2, 3, 4, 5, 6, 40, 300};
  for (int i = 0; i < 60; ++i) lengths.push_back(random.below(12));
  return lengths;
}

TEST(Bag, MeanByHand) {
  const std::vector<float> vectors = {1, 2, 3, 4, 10, 20};
  const std::vector<std::uint32_t> offsets = {0, 3, 3, 4};
  const std::vector<std::uint32_t> words = {0, 2, kNoWord, kNoWord};
  std::vector<float> means(6);
  std::vector<float> scales(3);
  bag_forward_reference({3, offsets.data(), words.data()}, vectors.data(), 2, means.data(), scales.data());
  EXPECT_EQ(means, (std::vector<float>{5.5, 11, 0, 0, 0, 0}));
  EXPECT_EQ(scales, (std::vector<float>{0.5, 0, 0}));
}

TEST(Bag, SumOverTheRootByHand) {
  const std::vector<float> vectors = {1, 2, 3, 4, 10, 20};
  const std::vector<std::uint32_t> offsets = {0, 5, 5, 6};
  const std::vector<std::uint32_t> words = {0, 2, kNoWord, 1, 0, kNoWord};
  std::vector<float> sums(6);
  std::vector<float> scales(3);
  bag_forward_reference({3, offsets.data(), words.data(), Pooling::sqrtn}, vectors.data(), 2, sums.data(),
                        scales.data());
  EXPECT_EQ(sums, (std::vector<float>{7.5, 14, 0, 0, 0, 0}));
  EXPECT_EQ(scales, (std::vector<float>{0.5, 0, 0}));
}

class BagOf : public testing::TestWithParam<Pooling> {};
INSTANTIATE_TEST_SUITE_P(Both, BagOf, testing::Values(Pooling::mean, Pooling::sqrtn),
                         [](const auto& test) { return test.param == Pooling::mean ? "Mean" : "Sqrtn"; });

TEST_P(BagOf, EqualsTheReference) {
  for (const std::size_t dim : {1, 7, 16, 64, 100}) {
    Random random(dim);
    Posts posts(odd_lengths(random), 30, random);
    posts.pooling = GetParam();
    const auto vectors = random.normals(30 * dim);
    const std::size_t count = posts.packed().posts;
    std::vector<float> expected(count * dim);
    std::vector<float> expected_scales(count);
    bag_forward_reference(posts.packed(), vectors.data(), dim, expected.data(), expected_scales.data());
    for_each_context([&](CpuContext& context) {
      std::vector<float> actual(count * dim, 99);
      std::vector<float> scales(count, 99);
      bag_forward(posts.packed(), vectors.data(), dim, actual.data(), scales.data(), context);
      expect_close(actual, expected);
      EXPECT_EQ(scales, expected_scales);

      std::vector<float> again(count * dim, 99);
      for (const std::size_t begin : {std::size_t{0}, count / 3}) {
        const std::size_t end = begin == 0 ? count / 3 : count;
        bag_forward(posts.packed(), vectors.data(), dim, begin, end, again.data(), scales.data(), context);
      }
      EXPECT_EQ(again, actual);
    });
  }
}

TEST(ConvMax, WindowOverAShortPostByHand) {
  // dim 1, window 3, one filter of weights (1, 10, 100), bias 0.5; post (2, 3): c = (0 + 20 + 300, 2 + 30 +
  // 0).
  const ConvShape shape{1, 3, 1};
  const std::vector<float> vectors = {2, 3};
  const std::vector<float> weight = {1, 10, 100};
  const float bias = 0.5;
  const std::vector<std::uint32_t> offsets = {0, 2, 3, 3};
  const std::vector<std::uint32_t> words = {0, 1, 1};
  std::vector<float> maximum(3);
  std::vector<std::uint32_t> place(3);
  conv_max_forward_reference(shape, {3, offsets.data(), words.data()}, vectors.data(), weight.data(), &bias,
                             maximum.data(), place.data());
  EXPECT_EQ(maximum, (std::vector<float>{320.5, 30.5, 0.5}));
  EXPECT_EQ(place, (std::vector<std::uint32_t>{0, 0, 0}));
}

TEST(ConvMax, EqualsTheReferenceForwardAndBackward) {
  struct Case {
    std::size_t dim, window, filters;
  };
  for (const auto& test : {Case{1, 1, 1}, Case{3, 2, 5}, Case{16, 3, 16}, Case{20, 4, 33}, Case{64, 5, 130},
                           Case{50, 7, 70}, Case{8, 5, 1000}}) {
    const std::size_t dim = test.dim;
    const std::size_t window = test.window;
    const std::size_t filters = test.filters;
    SCOPED_TRACE("dim " + std::to_string(dim) + ", window " + std::to_string(window));
    const ConvShape shape{static_cast<std::uint32_t>(dim), static_cast<std::uint32_t>(window),
                          static_cast<std::uint32_t>(filters)};
    Random random(dim * 31 + window);
    const std::uint32_t word_count = 29;
    const Posts posts(odd_lengths(random), word_count, random);
    const std::size_t count = posts.packed().posts;
    const auto vectors = random.normals(word_count * dim);
    const auto weight = random.normals(filters * window * dim);
    const auto bias = random.normals(filters);
    auto gradient = random.normals(count * filters);
    // A post without a violator has no gradient.
    std::fill_n(gradient.begin() + static_cast<std::ptrdiff_t>(5 * filters), filters, 0.0F);
    // Nor has a feature that dropout left out.
    for (auto& g : gradient) g = random.below(3) == 0 ? 0 : g;

    std::vector<float> maximum(count * filters);
    std::vector<std::uint32_t> place(count * filters);
    conv_max_forward_reference(shape, posts.packed(), vectors.data(), weight.data(), bias.data(),
                               maximum.data(), place.data());
    std::vector<float> weight_gradient(weight.size());
    std::vector<float> bias_gradient(filters);
    std::vector<float> token_gradient(posts.words.size() * dim);
    conv_max_backward_reference(shape, posts.packed(), vectors.data(), weight.data(), gradient.data(),
                                place.data(), weight_gradient.data(), bias_gradient.data(),
                                token_gradient.data());

    std::vector<float> first;
    for_each_context([&](CpuContext& context) {
      std::vector<float> actual(count * filters, 99);
      std::vector<std::uint32_t> actual_place(count * filters, 99);
      conv_max_forward(shape, posts.packed(), vectors.data(), word_count, weight.data(), bias.data(),
                       actual.data(), actual_place.data(), context);
      expect_close(actual, maximum);
      std::vector<float> alone(count * filters, 99);
      conv_max_forward(shape, posts.packed(), vectors.data(), word_count, weight.data(), bias.data(),
                       alone.data(), nullptr, context);
      EXPECT_EQ(alone, actual);
      // Where two windows are equal up to rounding, either place is right; with these few words that happens
      // only for windows of the same words.
      std::size_t other_places = 0;
      for (std::size_t i = 0; i < place.size(); ++i) other_places += place[i] != actual_place[i] ? 1 : 0;
      EXPECT_LE(other_places, place.size() / 1000);

      std::vector<float> actual_weight(weight.size(), 99);
      std::vector<float> actual_bias(filters, 99);
      std::vector<float> actual_token(token_gradient.size(), 99);
      conv_max_backward(shape, posts.packed(), vectors.data(), weight.data(), gradient.data(), place.data(),
                        actual_weight.data(), actual_bias.data(), actual_token.data(), context);
      expect_close(actual_weight, weight_gradient);
      expect_close(actual_bias, bias_gradient);
      expect_close(actual_token, token_gradient);
      if (context.pool.threads() == 1) {
        first = actual;
        first.insert(first.end(), actual_weight.begin(), actual_weight.end());
        first.insert(first.end(), actual_token.begin(), actual_token.end());
      } else {
        actual.insert(actual.end(), actual_weight.begin(), actual_weight.end());
        actual.insert(actual.end(), actual_token.begin(), actual_token.end());
        EXPECT_EQ(actual, first);  // bit for bit
      }
    });
  }
}

TEST(ConvMax, TheFirstOfEqualPlacesWins) {
  const ConvShape shape{2, 1, 16};
  const std::vector<float> vectors = {1, 1};
  const std::vector<float> weight(32, 0.25F);
  const std::vector<float> bias(16, 0);
  const std::vector<std::uint32_t> offsets = {0, 4};
  const std::vector<std::uint32_t> words = {0, 0, 0, 0};
  for_each_context([&](CpuContext& context) {
    std::vector<float> maximum(16);
    std::vector<std::uint32_t> place(16, 99);
    conv_max_forward(shape, {1, offsets.data(), words.data()}, vectors.data(), 1, weight.data(), bias.data(),
                     maximum.data(), place.data(), context);
    EXPECT_EQ(place, std::vector<std::uint32_t>(16, 0));
  });
}

TEST(Features, DropoutAndBothWaysEqualTheReference) {
  for (const std::size_t columns : {1, 7, 8, 64, 100, 1003}) {
    for (const std::uint32_t limit : {0U, 20'000U, 65'536U}) {
      SCOPED_TRACE(std::to_string(columns) + " columns, limit " + std::to_string(limit));
      Random random(columns);
      const std::size_t posts = 9;
      const Dropout dropout{7, 0x1'0000'0005, limit, 1.5F};
      std::vector<std::uint8_t> kept(posts * bytes_of(columns), 99);
      draw_kept_reference(dropout, 2, posts, columns, kept.data());
      const auto maxima = random.normals(columns);
      const auto gradient = random.normals(columns);
      const std::uint8_t* bits = kept.data() + 3 * bytes_of(columns);
      auto values = gradient;
      drop_values_reference(dropout, bits, columns, values.data());
      auto once = maxima;
      std::vector<float> features(columns, 99);
      features_forward_reference(dropout, bits, columns, once.data(), features.data());
      auto expected = gradient;
      features_backward_reference(dropout, bits, columns, once.data(), features.data(), expected.data());
      for_each_context([&](CpuContext& context) {
        std::vector<std::uint8_t> actual_kept(kept.size(), 99);
        draw_kept(dropout, 2, posts, columns, actual_kept.data(), context);
        EXPECT_EQ(actual_kept, kept);
        auto dropped = gradient;
        drop_values(dropout, bits, columns, dropped.data(), context);
        EXPECT_EQ(dropped, values);
        auto actual_once = maxima;
        std::vector<float> actual_features(columns, 99);
        features_forward(dropout, bits, columns, actual_once.data(), actual_features.data(), context);
        expect_close(actual_once, once);
        expect_close(actual_features, features);
        auto actual = gradient;
        features_backward(dropout, bits, columns, once.data(), features.data(), actual.data(), context);
        expect_close(actual, expected);
      });
    }
  }
}

TEST(Draws, EqualTheReference) {
  Random random(3);
  for (const std::size_t posts : {1, 7, 8, 9, 100}) {
    std::vector<std::uint32_t> offsets = {0};
    for (std::size_t i = 0; i < posts; ++i) offsets.push_back(offsets.back() + 1 + random.below(5));
    std::vector<std::uint32_t> hashtags(offsets.back());
    for (auto& hashtag : hashtags) hashtag = random.below(1000);
    std::vector<std::uint32_t> expected(posts, 99);
    const std::size_t first = posts / 3;
    draw_positives_reference(5, 0x1'0000'0007, hashtags.data(), offsets.data(), first, posts,
                             expected.data());
    for_each_context([&](CpuContext& context) {
      std::vector<std::uint32_t> actual(posts, 99);
      draw_positives(5, 0x1'0000'0007, hashtags.data(), offsets.data(), first, posts, actual.data(), context);
      EXPECT_EQ(actual, expected);
    });
  }
  for (const std::size_t tokens : {1, 8, 63, 64, 65, 1000}) {
    std::vector<std::uint32_t> from(tokens);
    for (auto& token : from) token = random.below(1000);
    for (const std::uint32_t limit : {0U, 20'000U, 65'536U}) {
      const Dropout dropout{7, 0x1'0000'0005, limit, 1};
      const std::size_t begin = tokens / 3;
      std::vector<std::uint32_t> expected(tokens, 99);
      drop_words_reference(dropout, from.data(), begin, tokens, expected.data());
      for_each_context([&](CpuContext& context) {
        std::vector<std::uint32_t> actual(tokens, 99);
        drop_words(dropout, from.data(), begin, tokens, actual.data(), context);
        EXPECT_EQ(actual, expected);
      });
    }
  }
}

TEST(Draws, HaveTheSharesThatTheyShould) {
  constexpr std::uint32_t kPosts = 30'000;
  std::vector<std::uint32_t> hashtags;
  std::vector<std::uint32_t> offsets = {0};
  for (std::uint32_t i = 0; i < kPosts; ++i) {
    hashtags.insert(hashtags.end(), {0, 1, 2});
    offsets.push_back(offsets.back() + 3);
  }
  std::vector<std::uint32_t> positives(kPosts);
  draw_positives_reference(1, 2, hashtags.data(), offsets.data(), 0, kPosts, positives.data());
  for (std::uint32_t hashtag = 0; hashtag < 3; ++hashtag) {
    const auto drawn = static_cast<double>(std::count(positives.begin(), positives.end(), hashtag));
    EXPECT_NEAR(drawn, kPosts / 3.0, 4 * std::sqrt(kPosts * 2 / 9.0));
  }
  std::vector<std::uint32_t> words(kPosts);
  drop_words_reference({1, 2, 65'536 / 4, 1}, positives.data(), 0, kPosts, words.data());
  const auto left_out = static_cast<double>(std::count(words.begin(), words.end(), kNoWord));
  EXPECT_NEAR(left_out, kPosts / 4.0, 4 * std::sqrt(kPosts * 3 / 16.0));
}

TEST(Features, ForwardByHand) {
  // The second of three is left out; the others become 2 tanh(tanh(x)).
  std::vector<float> maxima = {0.5F, -1, -20};
  std::vector<float> features(3);
  const std::uint8_t kept = 0b101;
  features_forward_reference({1, 1, 9, 2}, &kept, 3, maxima.data(), features.data());
  expect_close(maxima, {0.46211716F, -0.76159416F, -1});
  expect_close(features, {2 * 0.43180819F, 0, 2 * -0.76159416F});
}

}  // namespace
}  // namespace tagspace::kernels
