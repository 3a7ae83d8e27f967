// Sorting contributions by row with CUB's radix sort, which is stable and deterministic: over the bits that a
// row's number has, so that a table of 100,000 rows takes three passes of eight bits, not four. kNoRow has
// ones in all of them, and no row of the table has: it comes last.
#include <cub/device/device_radix_sort.cuh>

#include "model/kernels/cuda/device.cuh"
#include "model/kernels/cuda/row_update.cuh"

namespace tagspace::kernels::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr std::size_t kAlignment = 256;

__global__ void __launch_bounds__(kThreads) count_up(std::uint32_t* numbers, std::uint32_t count) {
  const std::uint32_t i = blockIdx.x * kThreads + threadIdx.x;
  if (i < count) numbers[i] = i;
}

int bits_of(std::uint32_t number) {
  int bits = 0;
  for (; number != 0; number >>= 1) ++bits;
  return bits;
}

}  // namespace

int sort_by_row(const std::uint32_t* rows, std::uint32_t count, std::uint32_t table_rows,
                std::uint32_t* sorted_rows, std::uint32_t* order, void* scratch, std::size_t& scratch_bytes,
                CUstream_st* stream) {
  if (count > 0x7FFFFFFF) return cudaErrorInvalidValue;
  if (count == 0) {
    if (scratch == nullptr) scratch_bytes = 1;
    return cudaSuccess;
  }
  // The numbers before the sort, and then what CUB asks for.
  const std::size_t numbers_bytes =
      (count * sizeof(std::uint32_t) + kAlignment - 1) / kAlignment * kAlignment;
  auto* const numbers = static_cast<std::uint32_t*>(scratch);
  std::size_t cub_bytes = scratch == nullptr ? 0 : scratch_bytes - numbers_bytes;
  void* const cub_scratch = scratch == nullptr ? nullptr : static_cast<char*>(scratch) + numbers_bytes;
  if (scratch != nullptr) {
    const dim3 blocks((count - 1) / kThreads + 1);
    TAGSPACE_LAUNCH(count_up, blocks, dim3(kThreads), 0, stream, numbers, count);
    if (const cudaError_t error = cudaGetLastError(); error != cudaSuccess) return error;
  }
  const cudaError_t error =
      cub::DeviceRadixSort::SortPairs(cub_scratch, cub_bytes, rows, sorted_rows, numbers, order,
                                      static_cast<int>(count), 0, bits_of(table_rows), stream);
  if (scratch == nullptr) scratch_bytes = numbers_bytes + cub_bytes;
  return error;
}

}  // namespace tagspace::kernels::cuda
