// What a .cu file of the project includes instead of CUDA's own header, so that the same source is compiled
// by nvcc for a GPU and, after including tests/simt/simt.h, by a C++ compiler to be run on the CPU.
#pragma once

#if defined(__CUDACC__)

#include <cuda_runtime.h>

// A launch: TAGSPACE_LAUNCH(kernel, grid, block, shared_bytes, stream, arguments...). The kernel is a name
// without commas, a template's instance therefore a variable.
#define TAGSPACE_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  (kernel)<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__)
// Declares `name`, the shared memory whose size the launch gave, aligned to 16 bytes.
#define TAGSPACE_DYNAMIC_SHARED(type, name)                                      \
  extern __shared__ __align__(16) unsigned char tagspace_dynamic_shared_bytes[]; \
  type* const name = reinterpret_cast<type*>(tagspace_dynamic_shared_bytes)

namespace tagspace::kernels::cuda {

// Reads and writes of memory that other threads of the GPU write or read at the same time. Each number is
// read or written as a whole, and where all threads see it: neither a multiprocessor's own cache nor the
// compiler answers from what it saw before. Nothing else is ordered by them.
__device__ __forceinline__ float load_relaxed(const float* source) {
  float value;
  asm volatile("ld.relaxed.gpu.global.f32 %0, [%1];" : "=f"(value) : "l"(source));
  return value;
}
__device__ __forceinline__ unsigned short load_relaxed(const unsigned short* source) {
  unsigned short value;
  asm volatile("ld.relaxed.gpu.global.u16 %0, [%1];" : "=h"(value) : "l"(source));
  return value;
}
__device__ __forceinline__ float4 load_relaxed(const float4* source) {
  float4 value;
  asm volatile("ld.relaxed.gpu.global.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
               : "l"(source));
  return value;
}
__device__ __forceinline__ uint2 load_relaxed(const uint2* source) {
  uint2 value;
  asm volatile("ld.relaxed.gpu.global.v2.u32 {%0, %1}, [%2];" : "=r"(value.x), "=r"(value.y) : "l"(source));
  return value;
}
__device__ __forceinline__ void store_relaxed(unsigned short* target, unsigned short value) {
  asm volatile("st.relaxed.gpu.global.u16 [%0], %1;" : : "l"(target), "h"(value) : "memory");
}

}  // namespace tagspace::kernels::cuda

#elif defined(TAGSPACE_SIMT)

namespace tagspace::kernels::cuda {
using simt::load_relaxed;
using simt::store_relaxed;
}  // namespace tagspace::kernels::cuda

#else
#error "compile this with nvcc, or include tests/simt/simt.h first"
#endif
