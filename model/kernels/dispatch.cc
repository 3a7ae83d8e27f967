// The choice of an instruction set, and the loop around simd.h's WARP; encoder.cc and row_update.cc hold the
// others.
#include <span>
#include <vector>

#include "model/kernels/cpu_context.h"
#include "model/kernels/simd.h"
#include "model/kernels/tasks.h"
#include "model/kernels/warp.h"

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

}  // namespace

void warp(const WarpConfig& config, const WarpBatch& batch, float gradient_scale, const WarpResult& result,
          CpuContext& context) {
  const std::size_t posts_per_task =
      config.negatives == Negatives::exact
          ? std::max<std::size_t>(kPairsAtOnce, batch.posts / (2 * context.pool.threads()))
          : kPostsPerTask;
  SharedPool pool{};
  if (config.negatives == Negatives::shared) {
    const std::size_t draws = config.pool;
    pool.vectors = shared_of(context, draws * (batch.dim + 2));
    pool.inverses = pool.vectors + draws * batch.dim;
    pool.rows = reinterpret_cast<std::uint32_t*>(pool.inverses + draws);
    for_ranges(context, draws, kPoolTask, [&](std::size_t begin, std::size_t end) {
      context.simd->fill_pool(config, batch, pool, static_cast<std::uint32_t>(begin),
                              static_cast<std::uint32_t>(end));
    });
  }
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
