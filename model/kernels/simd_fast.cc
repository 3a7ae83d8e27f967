// Bag and row updates for one instruction set, with fused multiply-adds where it has them.
#include "model/kernels/simd.h"
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
    bool any = false;
    for (std::size_t i0 = 0; i0 < dim; i0 += kChunk) {
      const std::size_t count = dim - i0 < kChunk ? dim - i0 : kChunk;
      float gradient[kChunk] = {};
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
void warp_posts(const WarpConfig& config, const WarpBatch& batch, float gradient_scale,
                const WarpResult& result, std::size_t begin, std::size_t end);  // simd_exact.cc

#define TAGSPACE_NAME_OF(isa) #isa
#define TAGSPACE_NAME(isa) TAGSPACE_NAME_OF(isa)
extern const SimdKernels simd_kernels;
const SimdKernels simd_kernels = {
    TAGSPACE_NAME(TAGSPACE_ISA), supported,      &convolution_kernels, warp_posts, bag_posts,
    update_row_groups,           update_elements};
}  // namespace TAGSPACE_ISA

}  // namespace tagspace::kernels
