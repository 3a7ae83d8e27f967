// The optimiser's step on a table's touched rows, on a GPU: update_rows of row_update.h, for arrays in device
// memory.
//
// C++17, and free of CUDA's headers, for both nvcc and the host's compiler include it.
#pragma once

#include <cstddef>
#include <cstdint>

struct CUstream_st;  // cudaStream_t points to one

namespace tagspace::kernels::cuda {

struct RowUpdate {
  // Optimizer
  bool adagrad = true;  // else sgd
  float learning_rate = 0.05F;
  float max_norm = 0;  // 0: none

  // RowGroups
  std::uint32_t groups = 0;  // or, with `group_count`, an upper bound
  const std::uint32_t* group_count =
      nullptr;                          // [1], null or the number of groups, where only the device knows it
  const std::uint32_t* rows = nullptr;  // [groups], distinct
  const std::uint32_t* offsets = nullptr;  // [groups + 1]
  const std::uint32_t* order = nullptr;    // [contributions]

  // RowContributions
  const float* vectors = nullptr;         // [sources, dim]
  const std::uint32_t* source = nullptr;  // [contributions]
  const float* coefficient = nullptr;     // [contributions]; null: all 1
  const float* self = nullptr;            // [contributions]; null: all 0

  std::uint32_t dim = 0;
  float* table = nullptr;  // [rows of the table, dim]
  float* sums = nullptr;   // [rows of the table, dim]; null under sgd
};

// Enqueues the update on `stream`, with `warps` (1 to 8) to a block. Returns a cudaError_t.
int update_rows(const RowUpdate& update, unsigned warps, CUstream_st* stream);

}  // namespace tagspace::kernels::cuda
