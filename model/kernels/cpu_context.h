// What a kernel on the CPU works with: threads, and vector code for the processor at hand.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "model/kernels/thread_pool.h"

namespace tagspace::kernels {

struct SimdKernels;  // simd.h

// One entry for each instruction set that this build has code for and this processor can run, slowest first;
// never empty. All give the same result where a kernel's contract says so.
[[nodiscard]] std::span<const SimdKernels* const> available_simd_kernels();

struct CpuContext {
  explicit CpuContext(std::size_t threads, const SimdKernels* kernels = available_simd_kernels().back())
      : pool(threads), simd(kernels), scratch(pool.threads()) {}

  ThreadPool pool;
  const SimdKernels* simd;
  std::vector<std::vector<float>> scratch;  // one for each thread; grows to what the largest task needs
};

}  // namespace tagspace::kernels
