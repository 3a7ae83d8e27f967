// The program tagspace_kernel_check, compiled for the emulator, in a random schedule.
//
// The environment variable TAGSPACE_DAMAGE, which the program itself knows nothing of, damages one value that
// the search has written, to see whether the program finds it.

// clang-format off
#include "tests/simt/simt.h"  // first, for it stands for CUDA's own header
// clang-format on

#include <cmath>
#include <cstdlib>
#include <limits>
#include <string_view>

#include "model/kernels/cuda/warp.cuh"

namespace tagspace::kernels::cuda {
namespace {

[[maybe_unused]] const std::uint64_t seed_of_schedule = simt::schedule_seed = 1;

float next_to(float value) { return std::nextafter(value, std::numeric_limits<float>::infinity()); }

int damaged_warp_search(const WarpSearch& search, const WarpShape& shape, CUstream_st* stream) {
  const int status = warp_search(search, shape, stream);
  const char* const variable = std::getenv("TAGSPACE_DAMAGE");
  const std::string_view damage = variable == nullptr ? "" : variable;
  const WarpOutput& output = search.output;
  if (damage == "violator") output.violator[3] += 1;
  if (damage == "tries") output.tries[3] += 1;
  if (damage == "loss") output.loss[3] = std::numeric_limits<float>::quiet_NaN();
  if (damage == "post gradient") output.post_gradient[3] = next_to(output.post_gradient[3]);
  if (damage == "coefficient") output.coefficients[3] = next_to(output.coefficients[3]);
  if (damage == "table") search.table.floats[3] += 0.01F;
  return status;
}

}  // namespace
}  // namespace tagspace::kernels::cuda

#define warp_search damaged_warp_search
#include "model/kernels/cuda/kernel_check.cc"  // NOLINT(bugprone-suspicious-include)
