// The optimiser's step on a table's touched rows, on a GPU: update_rows of row_update.h, for arrays in device
// memory.
//
// C++17, and free of CUDA's headers, for both nvcc and the host's compiler include it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "model/kernels/cuda/table.cuh"
#include "model/kernels/row_update.h"

namespace tagspace::kernels::cuda {

// Sorts the contributions 0 .. count - 1 by the row that each goes to, keeping the order of those to one row:
// `rows` [count] becomes `sorted_rows` [count], contributions to kNoRow last, and `order` [count] their
// numbers. `table_rows`: all others are below it. With `scratch` null, only the bytes of scratch memory that
// this needs are written to `scratch_bytes`. Enqueued on `stream`; returns a cudaError_t.
int sort_by_row(const std::uint32_t* rows, std::uint32_t count, std::uint32_t table_rows,
                std::uint32_t* sorted_rows, std::uint32_t* order, void* scratch, std::size_t& scratch_bytes,
                CUstream_st* stream);

struct RowUpdate {
  Optimizer optimizer;
  std::uint32_t contributions = 0;
  const std::uint32_t* rows = nullptr;   // [contributions] ascending: sort_by_row's
  const std::uint32_t* order = nullptr;  // [contributions] sort_by_row's
  RowContributions from;                 // its `source` may be null: contribution c has vector c
  std::uint32_t dim = 0;
  Table table;
  RoundingSource rounding;  // of a bfloat16 table; the item is the row
};

// Enqueues the update on `stream`, with `warps` (1 to 8) to a block. Returns a cudaError_t.
int update_rows(const RowUpdate& update, unsigned warps, CUstream_st* stream);

}  // namespace tagspace::kernels::cuda
