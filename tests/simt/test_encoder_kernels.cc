// The kernels of the training step around its products, on the emulator or on a GPU, against the plain
// references.
#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <random>
#include <string>

#include "model/kernels/cuda/encoder.cuh"
#include "model/kernels/encoder.h"
#include "model/kernels/philox.h"
#include "tests/simt/kernel_arrays.h"
#include "tests/simt/sparse_array.h"

namespace tagspace::kernels {
namespace {

// Posts of odd lengths, one of them empty and one long, over a few words; some tokens are left out.
struct Posts {
  Array<std::uint32_t> offsets = {0};
  Array<std::uint32_t> words;
  Array<float> table, weight, bias;
  ConvShape shape;

  Posts(std::uint32_t dim, std::uint32_t window, std::uint32_t filters) : shape{dim, window, filters} {
    std::mt19937_64 engine(dim + window);
    const auto normals = [&](std::size_t count) {
      std::normal_distribution<float> normal;
      Array<float> values(count);
      for (auto& value : values) value = normal(engine);
      return values;
    };
    for (const std::uint32_t length : {3, 0, 1, 2, 40, 5, 9, 0}) {
      for (std::uint32_t t = 0; t < length; ++t)
        words.push_back(engine() % 6 == 0 ? kNoWord : static_cast<std::uint32_t>(engine() % 30));
      offsets.push_back(static_cast<std::uint32_t>(words.size()));
    }
    table = normals(std::size_t{30} * dim);
    weight = normals(std::size_t{filters} * window * dim);
    bias = normals(filters);
  }
  Pooling pooling = Pooling::mean;

  [[nodiscard]] PackedTokens packed() const {
    return {offsets.size() - 1, offsets.data(), words.data(), pooling};
  }
  // `count` of the posts, from `first` on.
  [[nodiscard]] PackedTokens packed(std::size_t first, std::size_t count) const {
    return {count, offsets.data() + first, words.data()};
  }
  [[nodiscard]] cuda::Table device_table() { return {table.data(), nullptr, nullptr}; }
};

std::uint32_t number(const Philox4& words, std::uint32_t j) {
  return (words.word[j / 2] >> (16 * (j % 2))) & 0xFFFF;
}

bool dropped(const cuda::Dropout& dropout, std::uint32_t post, std::uint32_t i) {
  const auto words = random_words(dropout.seed, RandomStream::feature_dropout, dropout.step, post, i / 8);
  return number(words, i % 8) < dropout.limit;
}

void expect_close(const char* what, const Array<float>& actual, const Array<float>& expected,
                  float tolerance) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    ASSERT_TRUE(std::abs(actual[i] - expected[i]) <= tolerance * (1 + std::abs(expected[i])))
        << what << ' ' << i << ": " << actual[i] << " and not " << expected[i];
  }
}

TEST(EncoderKernels, TheBagBitForBit) {
  for (const std::uint32_t dim : {1U, 20U, 64U, 200U, 1024U}) {
    Posts posts(dim, 1, 1);
    if (dim % 3 == 2) posts.pooling = Pooling::sqrtn;
    const std::size_t count = posts.packed().posts;
    Array<float> expected(count * dim);
    Array<float> expected_scales(count);
    bag_forward_reference(posts.packed(), posts.table.data(), dim, expected.data(), expected_scales.data());
    Array<float> actual(count * dim, 99);
    Array<float> scales(count, 99);
    ASSERT_EQ(
        cuda::bag_forward(posts.packed(), posts.device_table(), dim, actual.data(), scales.data(), nullptr),
        0);
    EXPECT_EQ(actual, expected);
    EXPECT_EQ(scales, expected_scales);

    // From a table in bfloat16, that of its widened values.
    Array<Bfloat16> halves;
    for (float& value : posts.table) {
      halves.push_back(round_to_nearest(value));
      value = to_float(halves.back());
    }
    bag_forward_reference(posts.packed(), posts.table.data(), dim, expected.data(), expected_scales.data());
    ASSERT_EQ(cuda::bag_forward(posts.packed(), {nullptr, halves.data(), nullptr}, dim, actual.data(),
                                scales.data(), nullptr),
              0);
    EXPECT_EQ(actual, expected);
  }
}

TEST(EncoderKernels, WhatTheWordsReceive) {
  const Array<std::uint32_t> offsets = {0, 2, 2, 5};
  const Array<std::uint32_t> words = {7, kNoWord, 1, 2, 3};
  const Array<std::uint32_t> violators = {4, 4, kNoRow};
  const Array<float> scales = {1, 0, 0.25};
  Array<std::uint32_t> rows(5);
  Array<std::uint32_t> sources(5);
  Array<float> coefficients(5);
  ASSERT_EQ(cuda::bag_contributions({3, offsets.data(), words.data()}, violators.data(), scales.data(),
                                    rows.data(), sources.data(), coefficients.data(), nullptr),
            0);
  EXPECT_EQ(rows, (Array<std::uint32_t>{7, kNoRow, kNoRow, kNoRow, kNoRow}));
  EXPECT_EQ(sources, (Array<std::uint32_t>{0, 0, 2, 2, 2}));
  EXPECT_EQ(coefficients, (Array<float>{1, 1, 0.25, 0.25, 0.25}));
}

TEST(EncoderKernels, WhatTheWordsOfALongPostReceive) {
  const Array<std::uint32_t> offsets = {0, 1000};
  Array<std::uint32_t> words(1000);
  for (std::uint32_t t = 0; t < 1000; ++t) words[t] = 7 * t;
  const Array<std::uint32_t> violators = {4};
  const Array<float> scales = {0.001F};
  Array<std::uint32_t> rows(1000);
  Array<std::uint32_t> sources(1000, 99);
  Array<float> coefficients(1000);
  ASSERT_EQ(cuda::bag_contributions({1, offsets.data(), words.data()}, violators.data(), scales.data(),
                                    rows.data(), sources.data(), coefficients.data(), nullptr),
            0);
  EXPECT_EQ(rows, words);
  EXPECT_EQ(sources, Array<std::uint32_t>(1000, 0));
  EXPECT_EQ(coefficients, Array<float>(1000, scales[0]));
}

// A word whose offset does not fit into 32 bits.
TEST(EncoderKernels, OffsetsOfWordsHave64Bits) {
  constexpr std::uint32_t kLast = 20'000'000;
  constexpr std::uint32_t kDim = 256;
  SparseArray<float> table((std::size_t{kLast} + 1) * kDim);
  if (!table.exists()) GTEST_SKIP() << "no sparse table of 20 GB here";
  std::fill_n(table.data() + std::size_t{kLast} * kDim, kDim, 3.0F);
  const Array<std::uint32_t> offsets = {0, 1};
  const Array<std::uint32_t> word = {kLast};
  const PackedTokens tokens{1, offsets.data(), word.data()};
  const cuda::Table words{table.data(), nullptr, nullptr};
  Array<float> vector(kDim);
  Array<float> scale(1);
  ASSERT_EQ(cuda::bag_forward(tokens, words, kDim, vector.data(), scale.data(), nullptr), 0);
  EXPECT_EQ(vector, Array<float>(kDim, 3));
  Array<float> window(kDim);
  ASSERT_EQ(cuda::unfold({kDim, 1, 1}, tokens, 0, words, window.data(), nullptr), 0);
  EXPECT_EQ(window, Array<float>(kDim, 3));
}

// Posts of which a block has more elements than loads under way, windows wider than those, both tables.
TEST(EncoderKernels, WindowsOfLongPostsAreUnfoldedAndFolded) {
  struct Case {
    std::uint32_t dim, window;
  };
  for (const auto& [dim, window] : {Case{130, 5}, Case{260, 19}}) {
    SCOPED_TRACE("dim " + std::to_string(dim) + ", window " + std::to_string(window));
    Posts posts(dim, window, 1);
    const std::size_t width = std::size_t{window} * dim;
    const std::size_t tokens = posts.words.size();
    const std::uint32_t left = (window - 1) / 2;
    Array<Bfloat16> halves;
    for (float& value : posts.table) {
      halves.push_back(round_to_nearest(value));
      value = to_float(halves.back());
    }
    Array<float> expected(tokens * width, 0);
    Array<float> expected_sums(tokens * dim, 0);
    Array<float> gradient(tokens * width);
    for (std::size_t i = 0; i < gradient.size(); ++i) gradient[i] = static_cast<float>(i % 101) / 7;
    for (std::size_t post = 0; post + 1 < posts.offsets.size(); ++post) {
      const std::uint32_t begin = posts.offsets[post];
      const std::uint32_t end = posts.offsets[post + 1];
      for (std::uint32_t t = begin; t < end; ++t) {
        // From the last window that the token is in to the first: its places there ascend.
        for (std::uint32_t k = 0; k < window; ++k) {
          if (t + left < begin + k || t + left >= end + k) continue;
          const std::size_t place = (t + left - k) * width + std::size_t{k} * dim;
          for (std::uint32_t i = 0; i < dim; ++i) {
            expected_sums[t * dim + i] += gradient[place + i];
            if (posts.words[t] != kNoWord) expected[place + i] = posts.table[posts.words[t] * dim + i];
          }
        }
      }
    }
    for (const bool in_halves : {false, true}) {
      const cuda::Table table{in_halves ? nullptr : posts.table.data(), in_halves ? halves.data() : nullptr,
                              nullptr};
      Array<float> windows(tokens * width, 99);
      ASSERT_EQ(cuda::unfold(posts.shape, posts.packed(), 0, table, windows.data(), nullptr), 0);
      EXPECT_TRUE(windows == expected) << "halves " << in_halves;
    }
    Array<float> sums(tokens * dim, 99);
    ASSERT_EQ(cuda::fold(posts.shape, posts.packed(), 0, gradient.data(), sums.data(), nullptr), 0);
    EXPECT_TRUE(sums == expected_sums);
  }
}

// The kernels with plain products between them, in pieces of the batch, against the references of encoder.h.
TEST(EncoderKernels, TheConvolutionForwardsAndBackwards) {
  struct Case {
    std::uint32_t dim, window, filters;
    std::size_t piece;
  };
  unsigned seed = 0;
  for (const auto& [dim, window, filters, piece] :
       {Case{1, 1, 1, 8}, Case{3, 2, 5, 1}, Case{4, 3, 200, 3}, Case{40, 5, 130, 8}, Case{7, 10, 129, 4}}) {
    SCOPED_TRACE("dim " + std::to_string(dim) + ", window " + std::to_string(window));
    set_schedule(seed++);
    Posts posts(dim, window, filters);
    const ConvShape& shape = posts.shape;
    const std::size_t count = posts.packed().posts;
    const std::size_t tokens = posts.words.size();
    const std::size_t width = std::size_t{window} * dim;
    const cuda::Dropout dropout{5, 9, 20000, 1.5F};

    Array<float> maximum(count * filters);
    Array<std::uint32_t> expected_place(count * filters);
    conv_max_forward_reference(shape, posts.packed(), posts.table.data(), posts.weight.data(),
                               posts.bias.data(), maximum.data(), expected_place.data());
    Array<float> expected_once;
    Array<float> expected_features;
    for (std::uint32_t post = 0; post < count; ++post) {
      for (std::uint32_t f = 0; f < filters; ++f) {
        const float once = std::tanh(maximum[post * filters + f]);
        expected_once.push_back(once);
        expected_features.push_back(dropped(dropout, post, f) ? 0 : std::tanh(once) * dropout.scale);
      }
    }
    // Any gradient will do.
    Array<float> feature_gradient;
    for (std::size_t i = 0; i < count * filters; ++i) {
      feature_gradient.push_back(std::sin(static_cast<float>(i)));
    }
    Array<float> expected_gradient;
    for (std::uint32_t post = 0; post < count; ++post) {
      for (std::uint32_t f = 0; f < filters; ++f) {
        const std::size_t i = post * filters + f;
        const float once = expected_once[i];
        const float twice = std::tanh(once);
        const float g = dropped(dropout, post, f) ? 0 : feature_gradient[i] * dropout.scale;
        expected_gradient.push_back(g * (1 - twice * twice) * (1 - once * once));
      }
    }
    Array<float> expected_weight_gradient(posts.weight.size());
    Array<float> expected_bias_gradient(filters);
    Array<float> expected_token_gradient(tokens * dim);
    conv_max_backward_reference(shape, posts.packed(), posts.table.data(), posts.weight.data(),
                                expected_gradient.data(), expected_place.data(),
                                expected_weight_gradient.data(), expected_bias_gradient.data(),
                                expected_token_gradient.data());

    Array<float> once(count * filters, 99);
    Array<float> features(count * filters, 99);
    Array<std::uint32_t> place(count * filters, 99);
    Array<float> gradient = feature_gradient;
    Array<float> weight_gradient(posts.weight.size(), 0);
    Array<float> token_gradient(tokens * dim, 99);
    for (std::size_t first = 0; first < count; first += piece) {
      const std::size_t in_piece = std::min(piece, count - first);
      const PackedTokens packed = posts.packed(first, in_piece);
      const std::uint32_t first_token = posts.offsets[first];
      const std::size_t rows = posts.offsets[first + in_piece] - first_token;
      Array<float> windows(rows * width, 99);
      ASSERT_EQ(cuda::unfold(shape, packed, first_token, posts.device_table(), windows.data(), nullptr), 0);
      Array<float> products(rows * filters);
      for (std::size_t t = 0; t < rows; ++t) {
        for (std::size_t f = 0; f < filters; ++f) {
          float sum = 0;
          for (std::size_t k = 0; k < window; ++k) {  // in the reference's order, so that ties are its ties
            float product = 0;
            for (std::size_t i = k * dim; i < (k + 1) * dim; ++i) {
              product += windows[t * width + i] * posts.weight[f * width + i];
            }
            sum += product;
          }
          products[t * filters + f] = sum;
        }
      }
      const std::size_t out = first * filters;
      ASSERT_EQ(cuda::max_over_time(shape, packed, first_token, static_cast<std::uint32_t>(first),
                                    products.data(), posts.bias.data(), dropout, once.data() + out,
                                    place.data() + out, features.data() + out, nullptr),
                0);
    }
    EXPECT_EQ(place, expected_place);
    expect_close("once", once, expected_once, 1e-6F);
    expect_close("features", features, expected_features, 1e-6F);

    ASSERT_EQ(cuda::features_backward(dropout, static_cast<std::uint32_t>(count), filters, once.data(),
                                      gradient.data(), nullptr),
              0);
    expect_close("gradient", gradient, expected_gradient, 1e-6F);
    for (std::size_t first = 0; first < count; first += piece) {
      const std::size_t in_piece = std::min(piece, count - first);
      const PackedTokens packed = posts.packed(first, in_piece);
      const std::uint32_t first_token = posts.offsets[first];
      const std::size_t rows = posts.offsets[first + in_piece] - first_token;
      Array<float> windows(rows * width, 99);
      ASSERT_EQ(cuda::unfold(shape, packed, first_token, posts.device_table(), windows.data(), nullptr), 0);
      Array<float> product_gradient(rows * filters, 99);
      ASSERT_EQ(cuda::spread_gradient(shape, packed, first_token, gradient.data() + first * filters,
                                      place.data() + first * filters, product_gradient.data(), nullptr),
                0);
      Array<float> window_gradient(rows * width, 0);
      for (std::size_t t = 0; t < rows; ++t) {
        for (std::size_t f = 0; f < filters; ++f) {
          const float g = product_gradient[t * filters + f];
          for (std::size_t i = 0; i < width; ++i) {
            weight_gradient[f * width + i] += g * windows[t * width + i];
            window_gradient[t * width + i] += g * posts.weight[f * width + i];
          }
        }
      }
      ASSERT_EQ(cuda::fold(shape, packed, first_token, window_gradient.data(),
                           token_gradient.data() + std::size_t{first_token} * dim, nullptr),
                0);
    }
    // A word that was left out has a gradient here, which goes nowhere.
    for (std::size_t t = 0; t < tokens; ++t) {
      if (posts.words[t] == kNoWord) std::fill_n(token_gradient.begin() + t * dim, dim, 0.0F);
    }
    expect_close("weight_gradient", weight_gradient, expected_weight_gradient, 1e-5F);
    expect_close("token_gradient", token_gradient, expected_token_gradient, 1e-5F);
  }
  set_schedule(0);
}

TEST(EncoderKernels, TheFirstOfEqualMaximaCounts) {
  constexpr std::size_t kFilters = 150;
  const Posts posts(1, 1, kFilters);
  std::mt19937_64 engine(1);
  Array<float> products(posts.words.size() * kFilters);
  for (auto& product : products) product = static_cast<float>(engine() % 3) - 4;
  const std::size_t features = posts.packed().posts * kFilters;
  Array<float> once(features);
  Array<float> twice(features);
  Array<std::uint32_t> place(features, 99);
  ASSERT_EQ(cuda::max_over_time(posts.shape, posts.packed(), 0, 0, products.data(), posts.bias.data(), {},
                                once.data(), place.data(), twice.data(), nullptr),
            0);
  for (std::size_t i = 0; i < features; ++i) {
    const std::uint32_t begin = posts.offsets[i / kFilters];
    const std::uint32_t end = posts.offsets[i / kFilters + 1];
    const auto product = [&](std::size_t t) { return products[t * kFilters + i % kFilters]; };
    std::uint32_t first = begin;
    for (std::uint32_t t = begin; t < end; ++t) {
      if (product(t) > product(first)) first = t;
    }
    EXPECT_EQ(place[i], first - begin) << i;
    const float maximum = begin == end ? 0 : product(first);
    EXPECT_TRUE(std::abs(once[i] - std::tanh(maximum + posts.bias[i % kFilters])) <= 1e-6F) << i;
  }
}

TEST(EncoderKernels, UnfoldsHalfTablesToo) {
  Posts posts(6, 3, 1);
  Array<Bfloat16> halves;
  for (float& value : posts.table) {
    halves.push_back(round_to_nearest(value));
    value = to_float(halves.back());
  }
  Array<float> of_floats(posts.words.size() * 18, 99);
  Array<float> of_halves(posts.words.size() * 18, 98);
  ASSERT_EQ(cuda::unfold(posts.shape, posts.packed(), 0, posts.device_table(), of_floats.data(), nullptr), 0);
  ASSERT_EQ(cuda::unfold(posts.shape, posts.packed(), 0, {nullptr, halves.data(), nullptr}, of_halves.data(),
                         nullptr),
            0);
  EXPECT_EQ(of_floats, of_halves);
}

// The limits are a quarter, and a number that is drawn, which stays.
TEST(EncoderKernels, DropWords) {
  constexpr std::uint32_t kTokens = 1025;  // one more than a block of threads takes
  Array<std::uint32_t> tokens(kTokens);
  for (std::uint32_t t = 0; t < tokens.size(); ++t) tokens[t] = t;
  const auto number_of = [](std::uint32_t t) {
    return number(random_words(3, RandomStream::word_dropout, 5'000'000'000, t / 8, 0), t % 8);
  };
  for (const std::uint32_t limit : {16384U, number_of(77)}) {
    const cuda::Dropout dropout{3, 5'000'000'000, limit, 1};
    Array<std::uint32_t> words(tokens.size(), 99999);
    ASSERT_EQ(cuda::drop_words(dropout, kTokens, tokens.data(), words.data(), nullptr), 0);
    for (std::uint32_t t = 0; t < tokens.size(); ++t) {
      EXPECT_EQ(words[t], number_of(t) < limit ? kNoWord : t);
    }
    const double share = limit / 65536.0;
    const auto left_out = std::count(words.begin(), words.end(), kNoWord);
    EXPECT_NEAR(static_cast<double>(left_out), kTokens * share, 4 * std::sqrt(kTokens * share * (1 - share)));
  }
}

TEST(EncoderKernels, DropValues) {
  const auto drawn = number(random_words(3, RandomStream::feature_dropout, 11, 2, 150 / 8), 150 % 8);
  for (const std::uint32_t limit : {32768U, drawn}) {
    const cuda::Dropout dropout{3, 11, limit, 2};
    Array<float> values(std::size_t{5} * 203, 1);
    ASSERT_EQ(cuda::drop_values(dropout, 5, 203, values.data(), nullptr), 0);
    for (std::uint32_t post = 0; post < 5; ++post) {
      for (std::uint32_t i = 0; i < 203; ++i) {
        EXPECT_EQ(values[post * 203 + i], dropped(dropout, post, i) ? 0.0F : 2.0F);
      }
    }
  }
}

TEST(EncoderKernels, PositivesAreThoseOfThePosts) {
  const Array<std::uint32_t> hashtags = {3, 5, 9, 1, 2};
  const Array<std::uint32_t> offsets = {0, 3, 4, 5};
  Array<unsigned> counts(10);
  for (std::uint64_t step = 0; step < 900; ++step) {
    Array<std::uint32_t> positives(3, 99);
    Array<std::uint32_t> positive_offsets(4, 99);
    ASSERT_EQ(cuda::draw_positives(1, step, 3, hashtags.data(), offsets.data(), positives.data(),
                                   positive_offsets.data(), nullptr),
              0);
    EXPECT_EQ(positive_offsets, (Array<std::uint32_t>{0, 1, 2, 3}));
    EXPECT_EQ(positives[1], 1U);
    EXPECT_EQ(positives[2], 2U);
    ++counts[positives[0]];
  }
  for (const unsigned hashtag : {3U, 5U, 9U}) EXPECT_NEAR(counts[hashtag], 300, 4 * std::sqrt(200));
}

// The same as on the CPU, for as many posts as fill whole blocks of threads, and for more and for fewer.
TEST(EncoderKernels, PositivesHaveRandomNumbersOfTheirOwn) {
  for (const std::uint32_t posts : {127U, 128U, 129U}) {
    Array<std::uint32_t> hashtags;
    Array<std::uint32_t> offsets = {0};
    Array<std::uint32_t> expected;
    Array<std::uint32_t> numbers(posts + 1);
    for (std::uint32_t post = 0; post < posts; ++post) {
      numbers[post + 1] = post + 1;
      const std::uint32_t count = 1 + post % 5;
      for (std::uint32_t i = 0; i < count; ++i) hashtags.push_back(10 * post + i);
      offsets.push_back(static_cast<std::uint32_t>(hashtags.size()));
      const auto random = random_words(1, RandomStream::positives, 5'000'000'000, post, 0);
      expected.push_back(10 * post + negative_of_words(random, 0, count));
    }
    Array<std::uint32_t> positives(posts, 99);
    Array<std::uint32_t> positive_offsets(posts + 1, 9999);
    ASSERT_EQ(cuda::draw_positives(1, 5'000'000'000, posts, hashtags.data(), offsets.data(), positives.data(),
                                   positive_offsets.data(), nullptr),
              0);
    EXPECT_EQ(positives, expected);
    EXPECT_EQ(positive_offsets, numbers);
  }
}

TEST(EncoderKernels, UpdatesOfWholeArraysBitForBit) {
  for (const auto kind : {OptimizerKind::adagrad, OptimizerKind::sgd}) {
    const bool adagrad = kind == OptimizerKind::adagrad;
    Array<float> values(301);
    Array<float> sums(301);
    Array<float> gradient(301);
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = std::sin(static_cast<float>(i));
      sums[i] = i % 5 == 0 ? 0 : static_cast<float>(i);
      gradient[i] = i % 10 == 0 ? 0 : std::cos(static_cast<float>(3 * i));
    }
    // One row is what the reference knows.
    Array<float> expected = values;
    Array<float> expected_sums = sums;
    const std::uint32_t source = 0;
    update_rows_reference({kind, 0.3F, 0}, {{0}, {0, 1}, {0}}, {gradient.data(), &source, nullptr, nullptr},
                          301, expected.data(), adagrad ? expected_sums.data() : nullptr);
    ASSERT_EQ(cuda::update_dense({kind, 0.3F, 0}, gradient.data(), 301, values.data(),
                                 adagrad ? sums.data() : nullptr, nullptr),
              0);
    EXPECT_EQ(values, expected);
    EXPECT_EQ(sums, expected_sums);
  }
}

TEST(EncoderKernels, AdagradNeedsItsSums) {
  float value = 1;
  EXPECT_EQ(cuda::update_dense({OptimizerKind::adagrad, 0.3F, 0}, &value, 1, &value, nullptr, nullptr),
            static_cast<int>(cudaErrorInvalidValue));
}

TEST(EncoderKernels, TotalsOfManyPairs) {
  for (const std::uint32_t pairs : {0U, 1U, 255U, 256U, 1000U}) {
    Array<std::uint32_t> violator(pairs);
    Array<std::uint32_t> tries(pairs);
    Array<float> loss(pairs);
    cuda::Totals expected{1.5, 10, 20};
    Array<cuda::Totals> sums = {expected};
    const cuda::Totals& totals = sums[0];
    for (std::uint32_t i = 0; i < pairs; ++i) {
      violator[i] = i % 3 == 0 ? kNoRow : i;
      tries[i] = 1'000'000 + i;
      loss[i] = 0.25F * static_cast<float>(i % 9);
      expected.violators += i % 3 == 0 ? 0 : 1;
      expected.tries += tries[i];
      expected.loss += static_cast<double>(loss[i]);
    }
    set_schedule(pairs);
    ASSERT_EQ(cuda::add_to_totals(pairs, violator.data(), tries.data(), loss.data(), sums.data(), nullptr),
              0);
    set_schedule(0);
    EXPECT_EQ(totals.violators, expected.violators);
    EXPECT_EQ(totals.tries, expected.tries);
    EXPECT_EQ(totals.loss, expected.loss);  // quarters: exact in any order
  }
}

}  // namespace
}  // namespace tagspace::kernels
