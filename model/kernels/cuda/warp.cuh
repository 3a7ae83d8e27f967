// The WARP search on a GPU: the contract of warp.h, for arrays in device memory.
//
// C++17, and free of CUDA's headers, for both nvcc and the host's compiler include it. What it takes is
// warp.h's WarpConfig, WarpBatch and WarpResult in one plain struct.
#pragma once

#include <cstddef>
#include <cstdint>

struct CUstream_st;  // cudaStream_t points to one

namespace tagspace::kernels::cuda {

struct WarpSearch {
  // WarpConfig
  bool cosine = false;
  float margin = 0.1F;
  std::uint32_t max_tries = 1000;
  std::uint64_t seed = 1;
  const float* weight_of_tries = nullptr;  // [max_tries]

  // WarpBatch
  std::uint32_t posts = 0;
  std::uint32_t dim = 0;
  std::uint32_t rows = 0;
  const float* post_vectors = nullptr;              // [posts, dim]
  const float* table = nullptr;                     // [rows, dim]
  const std::uint32_t* own = nullptr;               // ascending within a post
  const std::uint32_t* own_offsets = nullptr;       // [posts + 1]
  const std::uint32_t* positives = nullptr;         // [pairs]
  const std::uint32_t* positive_offsets = nullptr;  // [posts + 1]
  std::uint64_t step = 0;
  std::uint32_t first_pair = 0;

  float gradient_scale = 1;

  // WarpResult
  std::uint32_t* violator = nullptr;   // [pairs]
  std::uint32_t* tries = nullptr;      // [pairs]
  float* loss = nullptr;               // [pairs]
  float* positive_gradient = nullptr;  // [pairs, 2]: RowGradient's post and row
  float* negative_gradient = nullptr;  // [pairs, 2]
  float* post_gradient = nullptr;      // [posts, dim]
};

// How the search is spread over the device; the result does not depend on it.
struct WarpShape {
  unsigned lanes = 32;  // to a post: 8, 16 or 32; a quarter as many tries of a pair are scored at once
  unsigned warps = 4;   // to a block: 1 to 8
};

// A shape for posts that need about `mean_tries` tries a pair, as the last batches did.
WarpShape warp_shape(std::uint32_t dim, float mean_tries);

// Enqueues the search on `stream`. Returns a cudaError_t: cudaErrorInvalidValue for a shape that cannot be,
// or needs more than 48 KiB of shared memory a block, which no shape of warp_shape() does.
int warp_search(const WarpSearch& search, const WarpShape& shape, CUstream_st* stream);

}  // namespace tagspace::kernels::cuda
