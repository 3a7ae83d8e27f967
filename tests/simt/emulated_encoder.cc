// model/kernels/cuda/encoder.cu, compiled for the emulator: to be called with arrays in the host's memory and
// no stream.

// clang-format off
#include "tests/simt/simt.h"  // first, for it stands for CUDA's own header
#include "model/kernels/cuda/encoder.cu"
// clang-format on
