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

#elif !defined(TAGSPACE_SIMT)
#error "compile this with nvcc, or include tests/simt/simt.h first"
#endif
