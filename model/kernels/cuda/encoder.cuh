// Everything of a training step on a GPU that is neither a matrix product nor WARP: the two encoders of
// encoder.h around their products, dropout, the choice of positives, the optimiser's step on whole arrays,
// and the statistics. All arrays in device memory; each function enqueues one launch on `stream` and returns
// a cudaError_t.
//
// C++17, and free of CUDA's headers, for both nvcc and the host's compiler include it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "model/kernels/cuda/table.cuh"
#include "model/kernels/encoder.h"
#include "model/kernels/row_update.h"

namespace tagspace::kernels::cuda {

// Which random numbers a step reads, and how many it drops.
struct Dropout {
  std::uint64_t seed = 0;
  std::uint64_t step = 0;
  std::uint32_t limit = 0;  // numbers below this, out of 65536, are dropped; 0: none
  float scale = 1;          // of what stays
};

// words[t] = tokens[t], or kNoWord where dropped. Token t reads number t % 8 of item t / 8.
int drop_words(const Dropout& dropout, std::uint32_t tokens, const std::uint32_t* from, std::uint32_t* words,
               CUstream_st* stream);

// One of each post's hashtags, uniformly, in `positives` [posts], and 0, 1, ..., posts in `positive_offsets`:
// one pair a post.
int draw_positives(std::uint64_t seed, std::uint64_t step, std::uint32_t posts, const std::uint32_t* hashtags,
                   const std::uint32_t* hashtag_offsets, std::uint32_t* positives,
                   std::uint32_t* positive_offsets, CUstream_st* stream);

// Dropout of `values` [posts, columns] in place. Value i of a post reads number i % 8 of block i / 8.
int drop_values(const Dropout& dropout, std::uint32_t posts, std::uint32_t columns, float* values,
                CUstream_st* stream);

// --- The mean of the word vectors: bag_forward of encoder.h, with the same additions in the same order.
int bag_forward(const PackedTokens& tokens, const Table& words, std::uint32_t dim, float* post_vectors,
                float* scales, CUstream_st* stream);

// What the words' rows receive from the posts' gradients: for token t of post i the row (kNoRow if the token
// is left out, or no violator was found for the post), source i and coefficient scales[i].
int bag_contributions(const PackedTokens& tokens, const std::uint32_t* violators, const float* scales,
                      std::uint32_t* rows, std::uint32_t* sources, float* coefficients, CUstream_st* stream);

// --- The convolution, as a product over the windows of all tokens.
//
// Of the posts given, which may be some of a batch: token t of the first of them is row 0 of `windows`,
// `products` and so on. `first_token`: tokens.offsets[0], which the host knows.

// windows[t, k] = the vector of token t + k - (window - 1) / 2 of t's post; zero beyond the post, or left
// out.
int unfold(const ConvShape& shape, const PackedTokens& tokens, std::uint32_t first_token, const Table& words,
           float* windows, CUstream_st* stream);  // [tokens, window, dim]

// From products [tokens, filters] = windows * weight^T, for each post and filter: place, the first token with
// the largest product; once = tanh(product + bias); features = tanh(once), after dropout. `first_post`: the
// number of the first of the posts within its batch, for the random numbers.
int max_over_time(const ConvShape& shape, const PackedTokens& tokens, std::uint32_t first_token,
                  std::uint32_t first_post, const float* products, const float* bias, const Dropout& dropout,
                  float* once, std::uint32_t* place, float* features, CUstream_st* stream);

// Backwards through max_over_time: `gradient` [posts, filters], of the features, becomes that of the maxima:
// times (1 - tanh(once)^2) (1 - once^2), after dropout.
int features_backward(const Dropout& dropout, std::uint32_t posts, std::uint32_t filters, const float* once,
                      float* gradient, CUstream_st* stream);

// product_gradient [tokens, filters]: the gradient of the maxima at their places, zero elsewhere.
int spread_gradient(const ConvShape& shape, const PackedTokens& tokens, std::uint32_t first_token,
                    const float* gradient, const std::uint32_t* place, float* product_gradient,
                    CUstream_st* stream);

// token_gradient[t] = the sum over k of window_gradient[t - k + (window - 1) / 2, k] within the post.
int fold(const ConvShape& shape, const PackedTokens& tokens, std::uint32_t first_token,
         const float* window_gradient, float* token_gradient, CUstream_st* stream);

// --- The rest.

// update_dense of row_update.h.
int update_dense(const Optimizer& optimizer, const float* gradient, std::size_t count, float* values,
                 float* sums, CUstream_st* stream);

// Sums over all pairs since the last time they were set to zero. The order of the additions is fixed.
struct Totals {
  double loss;
  std::uint64_t violators;
  std::uint64_t tries;
};
int add_to_totals(std::uint32_t pairs, const std::uint32_t* violator, const std::uint32_t* tries,
                  const float* loss, Totals* totals, CUstream_st* stream);

}  // namespace tagspace::kernels::cuda
