// model/kernels/cuda/warp.cu, compiled for the emulator: to be called with arrays in the host's memory and no
// stream.

// clang-format off
#include "tests/simt/simt.h"  // first, for it stands for CUDA's own header
#include "model/kernels/cuda/warp.cu"
// clang-format on
