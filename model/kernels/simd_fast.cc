// Encoders and row updates for one instruction set, with fused multiply-adds where it has them.
#include "model/kernels/simd.h"
#include "model/kernels/simd_vector.h"

namespace tagspace::kernels {
namespace {

// Rows of words multiplied at a time: as many sums as the registers hold beside the filters' vectors.
#if TAGSPACE_LANES == 16
constexpr std::size_t kWordTile = 14;
#elif TAGSPACE_LANES == 8
constexpr std::size_t kWordTile = 6;
#else
constexpr std::size_t kWordTile = 3;
#endif
static_assert(kBlock == kFilterBlock);

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
  constexpr std::uint32_t kAhead = 4;
  for (std::size_t post = begin; post < end; ++post) {
    float* sum = post_vectors + post * dim;
    for (std::size_t i = 0; i < dim; ++i) sum[i] = 0;
    std::uint32_t count = 0;
    const std::uint32_t first = tokens.offsets[post];
    const std::uint32_t last = tokens.offsets[post + 1];
    for (std::uint32_t t = first; t < last; ++t) {
      if (t + kAhead < last && tokens.words[t + kAhead] != kNoWord) {
        const float* ahead = word_vectors + tokens.words[t + kAhead] * dim;
        for (std::size_t i = 0; i < dim; i += 16) __builtin_prefetch(ahead + i);
      }
      if (tokens.words[t] == kNoWord) continue;
      ++count;
      add_scaled(1, word_vectors + tokens.words[t] * dim, sum, dim);
    }
    scales[post] = count == 0 ? 0 : 1 / static_cast<float>(count);
    for (std::size_t i = 0; i < dim; ++i) sum[i] *= scales[post];
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
  for (std::size_t group = begin; group < end; ++group) {
    float* row = table + groups.rows[group] * dim;
    float* row_sums = sums == nullptr ? nullptr : sums + groups.rows[group] * dim;
    if (group + 1 < end) {
      const float* next = table + groups.rows[group + 1] * dim;
      for (std::size_t i = 0; i < dim; i += 16) __builtin_prefetch(next + i);
      if (sums != nullptr) {
        const float* next_sums = sums + groups.rows[group + 1] * dim;
        for (std::size_t i = 0; i < dim; i += 16) __builtin_prefetch(next_sums + i);
      }
    }
    for (std::size_t i0 = 0; i0 < dim; i0 += kChunk) {
      const std::size_t count = dim - i0 < kChunk ? dim - i0 : kChunk;
      float gradient[kChunk] = {};
      for (std::uint32_t at = groups.offsets[group]; at < groups.offsets[group + 1]; ++at) {
        const std::uint32_t c = groups.order[at];
        const float coefficient = contributions.coefficient == nullptr ? 1 : contributions.coefficient[c];
        add_scaled(coefficient, contributions.vectors + contributions.source[c] * dim + i0, gradient, count);
        if (contributions.self != nullptr && contributions.self[c] != 0) {
          add_scaled(contributions.self[c], row + i0, gradient, count);
        }
      }
      update_elements(optimizer, gradient, row + i0, row_sums == nullptr ? nullptr : row_sums + i0, 0, count);
    }
    if (optimizer.max_norm > 0) {
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

// `Words` rows of words times one column of the window: sums stay in registers over all of dim.
template <std::size_t Words>
inline void multiply_tile(const float* words, std::size_t dim, const float* weight, float* products,
                          std::size_t products_stride) {
  Vec sums[Words][kVecs] = {};
  for (std::size_t d = 0; d < dim; ++d) {
    Vec w[kVecs];
    for (std::size_t j = 0; j < kVecs; ++j) w[j] = load(weight + d * kBlock + j * kLanes);
    for (std::size_t r = 0; r < Words; ++r) {
      const Vec x = splat(words[r * dim + d]);
      for (std::size_t j = 0; j < kVecs; ++j) sums[r][j] += x * w[j];
    }
  }
  for (std::size_t r = 0; r < Words; ++r) {
    for (std::size_t j = 0; j < kVecs; ++j) store(products + r * products_stride + j * kLanes, sums[r][j]);
  }
}

void filter_products(const ConvShape& shape, const float* word_vectors, std::size_t word_count,
                     const float* packed_weight, float* products) {
  const std::size_t dim = shape.dim;
  const std::size_t stride = shape.window * kBlock;
  std::size_t w = 0;
  for (; w + kWordTile <= word_count; w += kWordTile) {
    for (std::size_t k = 0; k < shape.window; ++k) {
      multiply_tile<kWordTile>(word_vectors + w * dim, dim, packed_weight + k * dim * kBlock,
                               products + w * stride + k * kBlock, stride);
    }
  }
  for (; w < word_count; ++w) {
    for (std::size_t k = 0; k < shape.window; ++k) {
      multiply_tile<1>(word_vectors + w * dim, dim, packed_weight + k * dim * kBlock,
                       products + w * stride + k * kBlock, stride);
    }
  }
  for (std::size_t i = 0; i < stride; ++i) products[word_count * stride + i] = 0;
}

// `Window` is the window where it is known when compiling, 0 where it is not.
template <std::uint32_t Window>
void filter_maxima_of(const ConvShape& shape, const PackedTokens& tokens, std::size_t word_count,
                      const float* products, float* maximum, std::uint32_t* place) {
  const std::uint32_t window = Window == 0 ? shape.window : Window;
  const std::uint32_t left = (window - 1) / 2;
  const std::size_t stride = window * kBlock;
  for (std::size_t post = 0; post < tokens.posts; ++post) {
    const std::uint32_t* words = tokens.words + tokens.offsets[post];
    const std::uint32_t length = tokens.offsets[post + 1] - tokens.offsets[post];
    Vec best[kVecs];
    VecMask best_place[kVecs];
    for (std::size_t j = 0; j < kVecs; ++j) {
      best[j] = Vec{};
      best_place[j] = VecMask{};
    }
    for (std::uint32_t t = 0; t < length; ++t) {
      Vec sum[kVecs] = {};
      for (std::uint32_t k = 0; k < window; ++k) {
        const std::uint32_t at = t + k - left;  // below zero it wraps, and is beyond the length too
        if (at >= length) continue;
        const std::size_t word = words[at] == kNoWord ? word_count : words[at];
        const float* product = products + word * stride + k * kBlock;
        for (std::size_t j = 0; j < kVecs; ++j) sum[j] += load(product + j * kLanes);
      }
      // The first sum is taken whatever it is, so that one that is not a number is kept.
      const VecMask first = (t == 0 ? -1 : 0) - VecMask{};
      const VecMask here = static_cast<std::int32_t>(t) - VecMask{};
      for (std::size_t j = 0; j < kVecs; ++j) {
        const VecMask better = (sum[j] > best[j]) | first;
        best[j] = better ? sum[j] : best[j];
        best_place[j] = better ? here : best_place[j];
      }
    }
    for (std::size_t j = 0; j < kVecs; ++j) {
      store(maximum + post * kBlock + j * kLanes, best[j]);
      __builtin_memcpy(place + post * kBlock + j * kLanes, &best_place[j], sizeof best_place[j]);
    }
  }
}

void filter_maxima(const ConvShape& shape, const PackedTokens& tokens, std::size_t word_count,
                   const float* products, float* maximum, std::uint32_t* place) {
  if (shape.window == 5) {
    filter_maxima_of<5>(shape, tokens, word_count, products, maximum, place);
  } else {
    filter_maxima_of<0>(shape, tokens, word_count, products, maximum, place);
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
void warp_posts(const WarpConfig& config, const WarpBatch& batch, float gradient_scale,
                const WarpResult& result, std::size_t begin, std::size_t end);  // simd_exact.cc

#define TAGSPACE_NAME_OF(isa) #isa
#define TAGSPACE_NAME(isa) TAGSPACE_NAME_OF(isa)
extern const SimdKernels simd_kernels;
const SimdKernels simd_kernels = {TAGSPACE_NAME(TAGSPACE_ISA),
                                  supported,
                                  warp_posts,
                                  bag_posts,
                                  update_row_groups,
                                  update_elements,
                                  filter_products,
                                  filter_maxima,
                                  add_scaled};
}  // namespace TAGSPACE_ISA

}  // namespace tagspace::kernels
