// model/kernels/cuda/row_sort.cu, compiled for the emulator; stubs/cub stands for CUB.

// clang-format off
#include "tests/simt/simt.h"  // first, for it stands for CUDA's own header
#include "model/kernels/cuda/row_sort.cu"
// clang-format on
