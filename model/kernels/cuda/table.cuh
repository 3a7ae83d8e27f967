// A table of vectors in device memory.
//
// C++17, and free of CUDA's headers, for both nvcc and the host's compiler include it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "model/kernels/bfloat16.h"

struct CUstream_st;  // cudaStream_t points to one

namespace tagspace::kernels::cuda {

// One of `floats` and `halves` is null. Scores and gradients are computed in float32 in either case; what is
// written to `halves` is rounded at random.
struct Table {
  float* floats = nullptr;     // [rows, dim]
  Bfloat16* halves = nullptr;  // [rows, dim]
  float* sums = nullptr;       // [rows, dim], Adagrad's sums of squares; null under sgd
};

}  // namespace tagspace::kernels::cuda
