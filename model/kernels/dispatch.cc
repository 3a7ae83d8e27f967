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

constexpr std::size_t kPostsPerTask = 16;

}  // namespace

void warp(const WarpConfig& config, const WarpBatch& batch, float gradient_scale, const WarpResult& result,
          CpuContext& context) {
  for_ranges(context, batch.posts, kPostsPerTask, [&](std::size_t begin, std::size_t end) {
    context.simd->warp_posts(config, batch, gradient_scale, result, begin, end);
  });
}

}  // namespace tagspace::kernels
