// What row_sort.cu does, without CUB, whose code is no part of what is tested here.
#include <algorithm>
#include <numeric>

#include "model/kernels/cuda/row_update.cuh"
#include "tests/simt/simt.h"

namespace tagspace::kernels::cuda {

int sort_by_row(const std::uint32_t* rows, std::uint32_t count, std::uint32_t /*table_rows*/,
                std::uint32_t* sorted_rows, std::uint32_t* order, void* scratch, std::size_t& scratch_bytes,
                CUstream_st* /*stream*/) {
  if (scratch == nullptr) {
    scratch_bytes = 1;
    return cudaSuccess;
  }
  std::iota(order, order + count, 0U);
  std::stable_sort(order, order + count, [&](std::uint32_t a, std::uint32_t b) { return rows[a] < rows[b]; });
  std::transform(order, order + count, sorted_rows, [&](std::uint32_t c) { return rows[c]; });
  return cudaSuccess;
}

}  // namespace tagspace::kernels::cuda
