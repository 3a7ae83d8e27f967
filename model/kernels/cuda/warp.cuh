// The WARP search on a GPU: the contract of warp.h, for arrays in device memory, with or without the
// optimiser's step on the table.
//
// C++17, and free of CUDA's headers, for both nvcc and the host's compiler include it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "model/kernels/cuda/table.cuh"
#include "model/kernels/row_update.h"
#include "model/kernels/warp.h"

namespace tagspace::kernels::cuda {

// All arrays are overwritten.
struct WarpOutput {
  std::uint32_t* violator = nullptr;  // [pairs], kNoViolator where none was found
  std::uint32_t* tries = nullptr;     // [pairs]
  float* loss = nullptr;              // [pairs]
  float* post_gradient = nullptr;     // [posts, dim], the sum over a post's pairs

  // What the table's rows receive, as update_rows() takes it: contribution 2 i is that of pair i's positive,
  // 2 i + 1 that of its violator. Not written in hogwild mode.
  std::uint32_t* rows = nullptr;     // [2 pairs], kNoRow where no violator was found
  std::uint32_t* sources = nullptr;  // [2 pairs], the post
  float* coefficients = nullptr;     // [2 pairs], of the post vector
  float* selves = nullptr;           // [2 pairs], of the row itself
};

struct WarpSearch {
  WarpConfig config;
  WarpBatch batch;  // its `table` is not read
  Table table;
  float gradient_scale = 1;
  WarpOutput output;

  // hogwild: each pair changes its two rows as soon as it has them, one after the other, while others read
  // and change them (Recht, Re, Wright, Niu, "Hogwild!", NIPS 2011). One launch does everything; the result
  // depends on the schedule. Additions to float32 tables are atomic, so that none is lost; those to bfloat16
  // tables may be. With max_norm a pair then cuts each of its rows, but no element that another has changed
  // since it was measured: no addition is lost to a cut, and a row that many pairs make longer at once is
  // cut once. It may be left a little longer than max_norm if others change it all the time; the next pair
  // that it belongs to cuts it.
  bool hogwild = false;
  Optimizer optimizer;
};

// How the search is spread over the device; without hogwild, the result does not depend on it.
struct WarpShape {
  unsigned lanes = 32;  // to a post: 8, 16 or 32; a quarter as many tries of a pair are scored at once
  unsigned warps = 4;   // to a block: 1 to 8
};

// A shape for posts that need about `mean_tries` tries a pair, as the last batches did. There is one for each
// dim up to 12288.
WarpShape warp_shape(std::uint32_t dim, float mean_tries);

// Enqueues the search on `stream`. Returns a cudaError_t: cudaErrorInvalidValue for a shape that cannot be,
// or needs more than 48 KiB of shared memory a block, which no shape of warp_shape() up to dim 12288 does.
int warp_search(const WarpSearch& search, const WarpShape& shape, CUstream_st* stream);

}  // namespace tagspace::kernels::cuda
