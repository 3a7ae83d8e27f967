// The choice of an instruction set, and the loop around simd.h's WARP; encoder.cc and row_update.cc hold the
// others.
#include <span>
#include <vector>

#include "model/kernels/cpu_context.h"
#include "model/kernels/simd.h"
#include "model/kernels/tasks.h"
#include "model/kernels/warp.h"
#include "model/kernels/warp_draws.h"

namespace tagspace::kernels {

#ifdef TAGSPACE_HAS_AVX512
namespace avx512 {
extern const SimdKernels simd_kernels;
}
#endif
#ifdef TAGSPACE_HAS_AVX2
namespace avx2 {
extern const SimdKernels simd_kernels;
}
#endif
namespace baseline {
extern const SimdKernels simd_kernels;
}

std::span<const SimdKernels* const> available_simd_kernels() {
  static const std::vector<const SimdKernels*> available = [] {
    std::vector<const SimdKernels*> kernels = {&baseline::simd_kernels};
#ifdef TAGSPACE_HAS_AVX2
    if (avx2::simd_kernels.supported()) kernels.push_back(&avx2::simd_kernels);
#endif
#ifdef TAGSPACE_HAS_AVX512
    if (avx512::simd_kernels.supported()) kernels.push_back(&avx512::simd_kernels);
#endif
    return kernels;
  }();
  return available;
}

namespace {

constexpr std::size_t kPostsPerTask = 4;  // some of them need a thousand tries

static_assert(kSmallestPool / 4 % kPoolTask == 0);

SharedPool pool_of(const WarpConfig& config, std::size_t dim, CpuContext& context) {
  const std::uint32_t gathered = first_part(config);
  float* const vectors = context.negatives.data();
  float* const inverses = vectors + std::size_t{gathered} * dim;
  return {gathered, reinterpret_cast<std::uint32_t*>(inverses + gathered), vectors, inverses};
}

}  // namespace

std::size_t start_pool(const WarpConfig& config, std::size_t dim, CpuContext& context) {
  if (config.negatives != Negatives::shared) return 0;
  room_for(context.negatives, first_part(config) * (dim + 2));
  return first_part(config) / kPoolTask;
}

void fill_pool(const WarpConfig& config, const WarpBatch& batch, std::size_t task, CpuContext& context) {
  const auto begin = static_cast<std::uint32_t>(task) * kPoolTask;
  context.simd->fill_pool(config, batch, pool_of(config, batch.dim, context), begin, begin + kPoolTask);
}

void warp(const WarpConfig& config, const WarpBatch& batch, float gradient_scale, const WarpResult& result,
          CpuContext& context) {
  const std::size_t posts_per_task =
      config.negatives == Negatives::exact
          ? std::max<std::size_t>(kPairsAtOnce, batch.posts / (2 * context.pool.threads()))
          : kPostsPerTask;
  if (!batch.pool_is_filled) {
    context.pool.run(start_pool(config, batch.dim, context),
                     [&](std::size_t task, std::size_t) { fill_pool(config, batch, task, context); });
  }
  const SharedPool pool =
      config.negatives == Negatives::shared ? pool_of(config, batch.dim, context) : SharedPool{};
  const std::size_t floats_of_bits =
      config.negatives == Negatives::exact
          ? kPairsAtOnce * words_of_bits(batch.rows) * (sizeof(std::uint64_t) / sizeof(float))
          : 0;
  context.pool.run(tasks_of(batch.posts, posts_per_task), [&](std::size_t task, std::size_t thread) {
    const std::size_t begin = task * posts_per_task;
    context.simd->warp_posts(config, batch, gradient_scale, result, begin,
                             std::min(batch.posts, begin + posts_per_task), pool,
                             reinterpret_cast<std::uint64_t*>(scratch_of(context, thread, floats_of_bits)));
  });
}

}  // namespace tagspace::kernels
