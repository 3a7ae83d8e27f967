// The plain references of encoder.h.
#include <algorithm>
#include <cmath>

#include "model/kernels/encoder.h"
#include "model/kernels/philox.h"

namespace tagspace::kernels {
namespace {

// The vector of token t of a post, null where it is zero: beyond the post's ends, or left out.
const float* token_vector(const PackedTokens& tokens, std::size_t post, std::int64_t t,
                          const float* word_vectors, std::size_t dim) {
  const std::int64_t length = tokens.offsets[post + 1] - tokens.offsets[post];
  if (t < 0 || t >= length) return nullptr;
  const std::uint32_t word = tokens.words[tokens.offsets[post] + static_cast<std::size_t>(t)];
  return word == kNoWord ? nullptr : word_vectors + word * dim;
}

}  // namespace

void bag_forward_reference(const PackedTokens& tokens, const float* word_vectors, std::size_t dim,
                           float* post_vectors, float* scales) {
  for (std::size_t post = 0; post < tokens.posts; ++post) {
    float* sum = post_vectors + post * dim;
    std::fill(sum, sum + dim, 0.0F);
    std::size_t count = 0;
    for (std::uint32_t t = tokens.offsets[post]; t < tokens.offsets[post + 1]; ++t) {
      if (tokens.words[t] == kNoWord) continue;
      ++count;
      for (std::size_t i = 0; i < dim; ++i) sum[i] += word_vectors[tokens.words[t] * dim + i];
    }
    const auto n = static_cast<float>(count);
    scales[post] = count == 0 ? 0 : 1 / (tokens.pooling == Pooling::mean ? n : std::sqrt(n));
    for (std::size_t i = 0; i < dim; ++i) sum[i] *= scales[post];
  }
}

void conv_max_forward_reference(const ConvShape& shape, const PackedTokens& tokens, const float* word_vectors,
                                const float* weight, const float* bias, float* maximum,
                                std::uint32_t* place) {
  const std::int64_t left = (shape.window - 1) / 2;
  for (std::size_t post = 0; post < tokens.posts; ++post) {
    const std::uint32_t length = std::max<std::uint32_t>(1, tokens.offsets[post + 1] - tokens.offsets[post]);
    for (std::size_t f = 0; f < shape.filters; ++f) {
      float best = 0;
      std::uint32_t best_place = 0;
      for (std::uint32_t t = 0; t < length; ++t) {
        float sum = 0;
        for (std::uint32_t k = 0; k < shape.window; ++k) {
          const float* x = token_vector(tokens, post, std::int64_t{t} + k - left, word_vectors, shape.dim);
          if (x == nullptr) continue;
          const float* w = weight + (f * shape.window + k) * shape.dim;
          float product = 0;
          for (std::size_t i = 0; i < shape.dim; ++i) product += w[i] * x[i];
          sum += product;
        }
        if (t == 0 || sum > best) {
          best = sum;
          best_place = t;
        }
      }
      maximum[post * shape.filters + f] = best + bias[f];
      place[post * shape.filters + f] = best_place;
    }
  }
}

void conv_max_backward_reference(const ConvShape& shape, const PackedTokens& tokens,
                                 const float* word_vectors, const float* weight, const float* gradient,
                                 const std::uint32_t* place, float* weight_gradient, float* bias_gradient,
                                 float* token_gradient) {
  const std::int64_t left = (shape.window - 1) / 2;
  const std::size_t dim = shape.dim;
  std::fill_n(weight_gradient, std::size_t{shape.filters} * shape.window * dim, 0.0F);
  std::fill_n(bias_gradient, shape.filters, 0.0F);
  std::fill_n(token_gradient, tokens.offsets[tokens.posts] * dim, 0.0F);
  for (std::size_t post = 0; post < tokens.posts; ++post) {
    for (std::size_t f = 0; f < shape.filters; ++f) {
      const float g = gradient[post * shape.filters + f];
      const std::int64_t t0 = place[post * shape.filters + f];
      bias_gradient[f] += g;
      for (std::uint32_t k = 0; k < shape.window; ++k) {
        const std::int64_t t = t0 + k - left;
        const float* x = token_vector(tokens, post, t, word_vectors, dim);
        if (x == nullptr) continue;
        const std::size_t row = (f * shape.window + k) * dim;
        float* x_gradient = token_gradient + (tokens.offsets[post] + static_cast<std::size_t>(t)) * dim;
        for (std::size_t i = 0; i < dim; ++i) {
          weight_gradient[row + i] += g * x[i];
          x_gradient[i] += g * weight[row + i];
        }
      }
    }
  }
}

void draw_kept_reference(const Dropout& dropout, std::size_t begin, std::size_t end, std::size_t columns,
                         std::uint8_t* kept) {
  for (std::size_t post = begin; post < end; ++post) {
    for (std::size_t i = 0; i < bytes_of(columns); ++i) {
      const Philox4 random = random_words(dropout.seed, RandomStream::feature_dropout, dropout.step,
                                          static_cast<std::uint32_t>(post), static_cast<std::uint32_t>(i));
      std::uint8_t bits = 0;
      for (std::size_t j = 0; j < 8; ++j) {
        const std::uint32_t number = (random.word[j / 2] >> (16 * (j % 2))) & 0xFFFF;
        if (number >= dropout.limit) bits = static_cast<std::uint8_t>(bits | (1U << j));
      }
      kept[post * bytes_of(columns) + i] = bits;
    }
  }
}

void drop_words_reference(const Dropout& dropout, const std::uint32_t* from, std::size_t begin,
                          std::size_t end, std::uint32_t* words) {
  for (std::size_t t = begin; t < end; ++t) {
    const Philox4 random = random_words(dropout.seed, RandomStream::word_dropout, dropout.step,
                                        static_cast<std::uint32_t>(t / 8), 0);
    const std::uint32_t number = (random.word[t % 8 / 2] >> (16 * (t % 2))) & 0xFFFF;
    words[t] = number < dropout.limit ? kNoWord : from[t];
  }
}

void draw_positives_reference(std::uint64_t seed, std::uint64_t step, const std::uint32_t* hashtags,
                              const std::uint32_t* offsets, std::size_t begin, std::size_t end,
                              std::uint32_t* positives) {
  for (std::size_t post = begin; post < end; ++post) {
    const Philox4 random =
        random_words(seed, RandomStream::positives, step, static_cast<std::uint32_t>(post), 0);
    positives[post] =
        hashtags[offsets[post] + negative_of_words(random, 0, offsets[post + 1] - offsets[post])];
  }
}

void drop_values_reference(const Dropout& dropout, const std::uint8_t* kept, std::size_t columns,
                           float* values) {
  for (std::size_t i = 0; i < columns; ++i) {
    values[i] = (kept[i / 8] >> (i % 8) & 1) != 0 ? dropout.scale * values[i] : 0;
  }
}

void features_forward_reference(const Dropout& dropout, const std::uint8_t* kept, std::size_t columns,
                                float* maxima, float* features) {
  for (std::size_t i = 0; i < columns; ++i) {
    maxima[i] = std::tanh(maxima[i]);
    features[i] = (kept[i / 8] >> (i % 8) & 1) != 0 ? dropout.scale * std::tanh(maxima[i]) : 0;
  }
}

void features_backward_reference(const Dropout& dropout, const std::uint8_t* kept, std::size_t columns,
                                 const float* once, const float* features, float* gradient) {
  for (std::size_t i = 0; i < columns; ++i) {
    const float feature = features[i] / dropout.scale;
    const float derivative = (1 - feature * feature) * (1 - once[i] * once[i]);
    gradient[i] = (kept[i / 8] >> (i % 8) & 1) != 0 ? dropout.scale * gradient[i] * derivative : 0;
  }
}

}  // namespace tagspace::kernels
