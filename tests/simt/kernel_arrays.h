// What a test of a kernel needs to be one and the same on the emulator and, with TAGSPACE_ON_GPU, on a GPU:
// vectors that both host and kernels read and write, and launches that are over when they return.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#ifdef TAGSPACE_ON_GPU
#include <cstdlib>
#include <gtest/gtest.h>

#include "model/kernels/cuda/device_array.h"
#include "tests/gpu/no_gpu.h"
#else
#include "tests/simt/simt.h"
#endif

namespace tagspace::kernels {

#ifdef TAGSPACE_ON_GPU

// Memory that moves between host and device by itself.
template <typename T>
struct ManagedAllocator {
  using value_type = T;

  ManagedAllocator() = default;
  template <typename U>
  explicit ManagedAllocator(const ManagedAllocator<U>& /*other*/) {}

  T* allocate(std::size_t count) {
    void* memory = nullptr;
    cuda::require(cudaMallocManaged(&memory, count * sizeof(T)), "allocating managed memory");
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, std::size_t /*count*/) { cudaFree(memory); }
  template <typename U>
  bool operator==(const ManagedAllocator<U>& /*other*/) const {
    return true;
  }
};
template <typename T>
using Array = std::vector<T, ManagedAllocator<T>>;

class NeedsGpu : public testing::Environment {
 public:
  void SetUp() override {
    // Before the first call of CUDA, for the driver reads it once. Launches return when they are over, and
    // with the errors of the kernel itself: arrays are read by the host right afterwards, which some systems
    // do not allow while a kernel runs.
    setenv("CUDA_LAUNCH_BLOCKING", "1", 1);  // NOLINT(concurrency-mt-unsafe): before there are threads
    if (no_gpu()) GTEST_SKIP() << "no usable GPU: no device";
    cuda::require_device();
  }
};
// gtest's, which owns it.
inline testing::Environment* const kNeedsGpu = testing::AddGlobalTestEnvironment(new NeedsGpu);

inline void set_schedule(std::uint64_t /*seed*/) {}  // the GPU's own

#else

template <typename T>
using Array = std::vector<T>;

inline void set_schedule(std::uint64_t seed) { simt::schedule_seed = seed; }

#endif

}  // namespace tagspace::kernels
