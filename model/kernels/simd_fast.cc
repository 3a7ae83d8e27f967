// Bag and row updates for one instruction set, with fused multiply-adds where it has them.
#include <cmath>

#include "model/kernels/philox.h"
#include "model/kernels/simd.h"
#include "model/kernels/simd_philox.h"
#include "model/kernels/simd_vector.h"

namespace tagspace::kernels {
namespace {

void add_scaled(float factor, const float* source, float* target, std::size_t count) {
  const Vec f = splat(factor);
  std::size_t i = 0;
  for (; i + 2 * kLanes <= count; i += 2 * kLanes) {
    store(target + i, load(target + i) + f * load(source + i));
    store(target + i + kLanes, load(target + i + kLanes) + f * load(source + i + kLanes));
  }
  for (; i < count; ++i) target[i] += factor * source[i];
}

void bag_posts(const PackedTokens& tokens, const float* word_vectors, std::size_t dim, float* post_vectors,
               float* scales, std::size_t begin, std::size_t end) {
  constexpr std::uint32_t kAhead = 10;
  for (std::size_t post = begin; post < end; ++post) {
    float* sum = post_vectors + post * dim;
    for (std::size_t i = 0; i < dim; ++i) sum[i] = 0;
    std::uint32_t count = 0;
    const std::uint32_t first = tokens.offsets[post];
    const std::uint32_t last = tokens.offsets[post + 1];
    for (std::uint32_t t = first; t < last; ++t) {
      if (t + kAhead < tokens.offsets[end] && tokens.words[t + kAhead] != kNoWord)
        prefetch(word_vectors + tokens.words[t + kAhead] * dim, dim);
      if (tokens.words[t] == kNoWord) continue;
      ++count;
      add_scaled(1, word_vectors + tokens.words[t] * dim, sum, dim);
    }
    const auto n = static_cast<float>(count);
    scales[post] = count == 0 ? 0 : 1 / (tokens.pooling == Pooling::mean ? n : std::sqrt(n));
    for (std::size_t i = 0; i < dim; ++i) sum[i] *= scales[post];
  }
}

// The random numbers of random_words() for (item, block); one of these is the same for all eight.
struct EightBlocks {
  Eight words[4];
  EightBlocks(std::uint64_t seed, RandomStream stream, std::uint64_t step, const Eight& items,
              const Eight& blocks)
      : words{blocks, items, Eight{} + static_cast<std::uint32_t>(step),
              Eight{} + static_cast<std::uint32_t>(step >> 32)} {
    philox_eight(philox_key(seed, stream), words);
  }
  // The j-th of the eight numbers of 16 bits that each block has.
  void get(std::uint32_t j, Eight& number) const { number = (words[j / 2] >> (16 * (j % 2))) & 0xFFFF; }
};
constexpr Eight kFirstEight = {0, 1, 2, 3, 4, 5, 6, 7};

void draw_kept(const Dropout& dropout, std::size_t begin, std::size_t end, std::size_t columns,
               std::uint8_t* kept) {
  const std::size_t bytes = bytes_of(columns);
  for (std::size_t post = begin; post < end; ++post) {
    std::uint8_t* bits = kept + post * bytes;
    for (std::size_t i = 0; i < bytes; i += 8) {
      const EightBlocks random(dropout.seed, RandomStream::feature_dropout, dropout.step,
                               Eight{} + static_cast<std::uint32_t>(post),
                               kFirstEight + static_cast<std::uint32_t>(i));
      Eight stays = {};
      for (std::uint32_t j = 0; j < 8; ++j) {
        Eight number;
        random.get(j, number);
        stays |= reinterpret_cast<Eight>(number >= dropout.limit) & (1U << j);
      }
      for (std::size_t lane = 0; lane < 8 && i + lane < bytes; ++lane) {
        bits[i + lane] = static_cast<std::uint8_t>(stays[lane]);
      }
    }
  }
}

// Of 64 tokens, from one on whose number is a multiple of 8: all ones for a token that is left out, else
// zeros.
using Sixteen = std::uint32_t __attribute__((vector_size(64)));
inline void draw_left_out(const Dropout& dropout, std::size_t first, Sixteen (&left_out)[4]) {
  const EightBlocks random(dropout.seed, RandomStream::word_dropout, dropout.step,
                           kFirstEight + static_cast<std::uint32_t>(first / 8), Eight{});
  const Eight(&w)[4] = random.words;
  const Eight low01 = __builtin_shufflevector(w[0], w[1], 0, 8, 1, 9, 2, 10, 3, 11);
  const Eight low23 = __builtin_shufflevector(w[2], w[3], 0, 8, 1, 9, 2, 10, 3, 11);
  const Eight high01 = __builtin_shufflevector(w[0], w[1], 4, 12, 5, 13, 6, 14, 7, 15);
  const Eight high23 = __builtin_shufflevector(w[2], w[3], 4, 12, 5, 13, 6, 14, 7, 15);
  // A block's four words side by side hold the numbers in the tokens' order; two blocks a vector.
  const Eight blocks[4] = {__builtin_shufflevector(low01, low23, 0, 1, 8, 9, 2, 3, 10, 11),
                           __builtin_shufflevector(low01, low23, 4, 5, 12, 13, 6, 7, 14, 15),
                           __builtin_shufflevector(high01, high23, 0, 1, 8, 9, 2, 3, 10, 11),
                           __builtin_shufflevector(high01, high23, 4, 5, 12, 13, 6, 7, 14, 15)};
  using Numbers = std::uint16_t __attribute__((vector_size(32)));
  const Numbers limit = Numbers{} + static_cast<std::uint16_t>(dropout.limit - 1);
  for (int i = 0; i < 4; ++i)
    left_out[i] = reinterpret_cast<Sixteen>(__builtin_convertvector(
        reinterpret_cast<Numbers>(blocks[i]) <= limit, std::int32_t __attribute__((vector_size(64)))));
}

void drop_words(const Dropout& dropout, const std::uint32_t* from, std::size_t begin, std::size_t end,
                std::uint32_t* words) {
  if (dropout.limit == 0) {
    for (std::size_t t = begin; t < end; ++t) words[t] = from[t];
    return;
  }
  static_assert(kNoWord == 0xFFFFFFFF);
  for (std::size_t first = begin / 8 * 8; first < end; first += 64) {
    Sixteen left_out[4];
    draw_left_out(dropout, first, left_out);
    if (begin <= first && first + 64 <= end) {
      for (std::size_t i = 0; i < 4; ++i) {
        Sixteen tokens;
        __builtin_memcpy(&tokens, from + first + 16 * i, sizeof tokens);
        tokens |= left_out[i];
        __builtin_memcpy(words + first + 16 * i, &tokens, sizeof tokens);
      }
      continue;
    }
    std::uint32_t each[64];
    __builtin_memcpy(each, left_out, sizeof each);
    const std::size_t last = first + 64 < end ? first + 64 : end;
    for (std::size_t t = first < begin ? begin : first; t < last; ++t) words[t] = from[t] | each[t - first];
  }
}

void draw_positives(std::uint64_t seed, std::uint64_t step, const std::uint32_t* hashtags,
                    const std::uint32_t* offsets, std::size_t begin, std::size_t end,
                    std::uint32_t* positives) {
  for (std::size_t first = begin; first < end; first += 8) {
    const EightBlocks random(seed, RandomStream::positives, step,
                             kFirstEight + static_cast<std::uint32_t>(first), Eight{});
    for (std::size_t lane = 0; lane < 8 && first + lane < end; ++lane) {
      const std::uint32_t* const of_post = offsets + first + lane;
      const Philox4 words = {{random.words[0][lane], random.words[1][lane], 0, 0}};
      positives[first + lane] = hashtags[of_post[0] + negative_of_words(words, 0, of_post[1] - of_post[0])];
    }
  }
}

// Which of the values [i, i + kLanes) stay, of `columns`; i is a multiple of kLanes.
inline VecMask kept_lanes(const std::uint8_t* kept, std::size_t columns, std::size_t i) {
  std::uint32_t bits = std::uint32_t{kept[i / 8]} >> (i % 8);
  if (kLanes > 8 && i + 8 < columns) bits |= std::uint32_t{kept[i / 8 + 1]} << 8;
  VecMask bit_of_lane;
  for (std::size_t lane = 0; lane < kLanes; ++lane) bit_of_lane[lane] = std::int32_t{1} << lane;
  return ((static_cast<std::int32_t>(bits) - VecMask{}) & bit_of_lane) != 0;
}

// The vector at values[i], zeros beyond the end; and the way back.
inline Vec load_columns(const float* values, std::size_t columns, std::size_t i) {
  if (i + kLanes <= columns) return load(values + i);
  float lanes[kLanes] = {};
  for (std::size_t lane = 0; i + lane < columns; ++lane) lanes[lane] = values[i + lane];
  return load(lanes);
}
inline void store_columns(float* values, std::size_t columns, std::size_t i, Vec v) {
  if (i + kLanes <= columns) return store(values + i, v);
  for (std::size_t lane = 0; i + lane < columns; ++lane) values[i + lane] = v[lane];
}

void drop_values(const Dropout& dropout, const std::uint8_t* kept, std::size_t columns, float* values) {
  for (std::size_t i = 0; i < columns; i += kLanes) {
    const Vec value = dropout.scale * load_columns(values, columns, i);
    store_columns(values, columns, i, kept_lanes(kept, columns, i) ? value : Vec{});
  }
}

void features_forward(const Dropout& dropout, const std::uint8_t* kept, std::size_t columns, float* maxima,
                      float* features) {
  for (std::size_t i = 0; i < columns; i += kLanes) {
    const Vec once = tanh_of(load_columns(maxima, columns, i));
    const Vec feature = dropout.scale * tanh_of(once);
    store_columns(maxima, columns, i, once);
    store_columns(features, columns, i, kept_lanes(kept, columns, i) ? feature : Vec{});
  }
}

void features_backward(const Dropout& dropout, const std::uint8_t* kept, std::size_t columns,
                       const float* once, const float* features, float* gradient) {
  const float inverse = 1 / dropout.scale;
  for (std::size_t i = 0; i < columns; i += kLanes) {
    const Vec feature = inverse * load_columns(features, columns, i);
    const Vec first = load_columns(once, columns, i);
    const Vec g =
        dropout.scale * load_columns(gradient, columns, i) * ((1 - feature * feature) * (1 - first * first));
    store_columns(gradient, columns, i, kept_lanes(kept, columns, i) ? g : Vec{});
  }
}

void update_elements(const Optimizer& optimizer, const float* gradient, float* values, float* sums,
                     std::size_t begin, std::size_t end) {
  const float rate = optimizer.learning_rate;
  if (optimizer.kind == OptimizerKind::adagrad) {
    for (std::size_t i = begin; i < end; ++i) {
      const float sum = sums[i] + gradient[i] * gradient[i];
      sums[i] = sum;
      values[i] -= rate * gradient[i] / (__builtin_sqrtf(sum) + kAdagradEpsilon);
    }
  } else {
    for (std::size_t i = begin; i < end; ++i) values[i] -= rate * gradient[i];
  }
}

void update_row_groups(const Optimizer& optimizer, const RowGroupsView& groups,
                       const RowContributions& contributions, std::size_t dim, float* table, float* sums,
                       std::size_t begin, std::size_t end) {
  constexpr std::size_t kChunk = 64;
  constexpr std::size_t kAhead = 6;
  for (std::size_t group = begin; group < end; ++group) {
    float* row = table + groups.rows[group] * dim;
    float* row_sums = sums == nullptr ? nullptr : sums + groups.rows[group] * dim;
    if (group + kAhead < end) {
      const std::size_t ahead = groups.rows[group + kAhead] * dim;
      prefetch<Access::write>(table + ahead, dim);
      if (sums != nullptr) prefetch<Access::write>(sums + ahead, dim);
    }
    bool any = false;
    for (std::size_t i0 = 0; i0 < dim; i0 += kChunk) {
      const std::size_t count = dim - i0 < kChunk ? dim - i0 : kChunk;
      float gradient[kChunk];
      for (std::size_t i = 0; i < kChunk; i += kLanes) store(gradient + i, Vec{});
      for (std::uint32_t at = groups.offsets[group]; at < groups.offsets[group + 1]; ++at) {
        const std::uint32_t c = groups.order[at];
        const float coefficient = contributions.coefficient == nullptr ? 1 : contributions.coefficient[c];
        const float self = contributions.self == nullptr ? 0 : contributions.self[c];
        if (coefficient == 0 && self == 0) continue;
        any = true;
        add_scaled(coefficient, contributions.vectors + contributions.source[c] * dim + i0, gradient, count);
        if (self != 0) add_scaled(self, row + i0, gradient, count);
      }
      if (!any) break;
      update_elements(optimizer, gradient, row + i0, row_sums == nullptr ? nullptr : row_sums + i0, 0, count);
    }
    if (any && optimizer.max_norm > 0) {
      float squared_norm = 0;
      for (std::size_t i = 0; i < dim; ++i) squared_norm += row[i] * row[i];
      const float norm = __builtin_sqrtf(squared_norm);
      if (norm > optimizer.max_norm) {
        const float factor = optimizer.max_norm / norm;
        for (std::size_t i = 0; i < dim; ++i) row[i] *= factor;
      }
    }
  }
}

bool supported() {
#if TAGSPACE_LANES == 16
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#elif TAGSPACE_LANES == 8
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return true;
#endif
}

}  // namespace

namespace TAGSPACE_ISA {
extern const ConvolutionKernels convolution_kernels;  // simd_convolution.cc
extern const ScoringKernels scoring_kernels;          // simd_scoring.cc
extern const SkipgramKernel skipgram_kernel;          // simd_skipgram.cc
// simd_exact.cc
void fill_pool(const WarpConfig& config, const WarpBatch& batch, const SharedPool& pool, std::uint32_t begin,
               std::uint32_t end);
void warp_posts(const WarpConfig& config, const WarpBatch& batch, float gradient_scale,
                const WarpResult& result, std::size_t begin, std::size_t end, const SharedPool& pool,
                std::uint64_t* bits);

#define TAGSPACE_NAME_OF(isa) #isa
#define TAGSPACE_NAME(isa) TAGSPACE_NAME_OF(isa)
extern const SimdKernels simd_kernels;
const SimdKernels simd_kernels = {TAGSPACE_NAME(TAGSPACE_ISA),
                                  supported,
                                  &convolution_kernels,
                                  &scoring_kernels,
                                  fill_pool,
                                  warp_posts,
                                  bag_posts,
                                  draw_kept,
                                  drop_words,
                                  draw_positives,
                                  drop_values,
                                  features_forward,
                                  features_backward,
                                  update_row_groups,
                                  update_elements,
                                  skipgram_kernel};
}  // namespace TAGSPACE_ISA

}  // namespace tagspace::kernels
