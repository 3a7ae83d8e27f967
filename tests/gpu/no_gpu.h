// Whether this machine is one without a GPU, where tests of a GPU are skipped. Where there is a GPU that
// cannot be used they fail: a broken installation must not look like none.
#pragma once

#include "model/kernels/cuda/runtime.cuh"

namespace tagspace {

inline bool no_gpu() {
  constexpr int kStubLibrary = 34;         // cudaErrorStubLibrary
  constexpr int kInsufficientDriver = 35;  // cudaErrorInsufficientDriver
  int count = 0;
  const int error = kernels::cuda::device_count(count);
  if (error == 0) return count == 0;
  return error == kStubLibrary || (error == kInsufficientDriver && !kernels::cuda::driver_is_there());
}

}  // namespace tagspace
