// model/kernels/cuda/row_update.cu, compiled for the emulator: to be called with arrays in the host's memory
// and no stream.

// clang-format off
#include "tests/simt/simt.h"  // first, for it stands for CUDA's own header
#include "model/kernels/cuda/row_update.cu"
// clang-format on
