// The training step on a GPU around its products and WARP.
//
// How it works. Everything here moves memory; nothing computes enough to matter. Kernels over posts give a
// block to a post, its threads to the elements, in order: neighbouring threads read and write neighbouring
// elements; where each token has elements of its own, several blocks. Kernels over arrays give an element, or
// the eight that share a draw of random numbers, to a thread. No thread writes what another one writes, sums
// are in a fixed order: all results are reproducible. A thread that reads many elements has several loads
// under way, without a branch among them: else each would wait for the one before it.
//
// The convolution is a dense product of all windows with all filters, for tensor cores, with the maximum in
// one pass over the result: [tokens, filters], which lives from the product to the pass, a piece of the batch
// at a time, small enough for the L2 cache. Nothing of that size is kept for the backward pass, only the
// places; it spreads the gradient of the maxima over such a piece again, zeros elsewhere, and lets two
// products do the rest. A product over the few places alone needs fewer operations, but at rates far below
// those of the tensor cores (docs/gpu.md).
#include "model/kernels/cuda/device.cuh"
#include "model/kernels/cuda/encoder.cuh"
#include "model/kernels/cuda/memory.cuh"
#include "model/kernels/philox.h"

namespace tagspace::kernels::cuda {
namespace {

constexpr unsigned kThreads = 128;  // to a block
constexpr unsigned kTotalsThreads = 256;
constexpr unsigned kNumbers = 8;  // 16-bit numbers in four random words
constexpr unsigned kWords = 4;    // whose loads are in flight a thread
constexpr unsigned kLoads = 8;    // in flight a thread, of one element each of a token or a window
constexpr int kBlocks = 12;  // of a multiprocessor with as many loads: for more, ptxas has fewer in flight
constexpr unsigned kShares = 8;  // blocks to a post, where its tokens have elements of their own
constexpr unsigned kStride = kShares * kThreads;

__device__ __forceinline__ std::uint32_t number_of(const Philox4& words, unsigned j) {
  const unsigned half = j / 2;
  // Not words.word[half]: an index that is not known to the compiler would put them in memory.
  const std::uint32_t word = half == 0   ? words.word[0]
                             : half == 1 ? words.word[1]
                             : half == 2 ? words.word[2]
                                         : words.word[3];
  return (word >> (16 * (j % 2))) & 0xFFFF;
}

// `value`, element i of a post, after dropout.
__device__ __forceinline__ float dropped(const Dropout& dropout, std::uint32_t post, unsigned i,
                                         float value) {
  if (dropout.limit == 0) return value;
  const Philox4 words =
      random_words(dropout.seed, RandomStream::feature_dropout, dropout.step, post, i / kNumbers);
  return number_of(words, i % kNumbers) < dropout.limit ? 0.0F : __fmul_rn(value, dropout.scale);
}

__global__ void __launch_bounds__(kThreads)
    drop_words_kernel(Dropout dropout, std::uint32_t tokens, const std::uint32_t* from,
                      std::uint32_t* words) {
  const std::uint32_t item = blockIdx.x * kThreads + threadIdx.x;
  const std::uint32_t first = item * kNumbers;
  if (first >= tokens) return;
  const Philox4 random = random_words(dropout.seed, RandomStream::word_dropout, dropout.step, item, 0);
#pragma unroll
  for (unsigned j = 0; j < kNumbers; ++j) {
    if (first + j < tokens) {
      words[first + j] = number_of(random, j) < dropout.limit ? kNoWord : from[first + j];
    }
  }
}

__global__ void __launch_bounds__(kThreads)
    draw_positives_kernel(std::uint64_t seed, std::uint64_t step, std::uint32_t posts,
                          const std::uint32_t* hashtags, const std::uint32_t* offsets,
                          std::uint32_t* positives, std::uint32_t* positive_offsets) {
  const std::uint32_t post = blockIdx.x * kThreads + threadIdx.x;
  if (post > posts) return;
  positive_offsets[post] = post;
  if (post == posts) return;
  const Philox4 random = random_words(seed, RandomStream::positives, step, post, 0);
  const std::uint32_t first = offsets[post];
  positives[post] = hashtags[first + negative_of_words(random, 0, offsets[post + 1] - first)];
}

__global__ void __launch_bounds__(kThreads)
    drop_values_kernel(Dropout dropout, std::uint32_t columns, float* values) {
  const std::uint32_t post = blockIdx.x;
  for (unsigned i = threadIdx.x; i < columns; i += kThreads) {
    float& value = values[std::size_t{post} * columns + i];
    value = dropped(dropout, post, i, value);
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    bag_forward_kernel(PackedTokens tokens, const T* word_vectors, std::uint32_t dim, float* post_vectors,
                       float* scales) {
  const std::uint32_t post = blockIdx.x;
  const std::uint32_t begin = tokens.offsets[post];
  const std::uint32_t end = tokens.offsets[post + 1];
  std::uint32_t count = 0;
  for (std::uint32_t t = begin; t < end; ++t) count += tokens.words[t] == kNoWord ? 0 : 1;
  const float n = static_cast<float>(count);
  const float scale = count == 0 ? 0.0F : __fdiv_rn(1, tokens.pooling == Pooling::mean ? n : __fsqrt_rn(n));
  for (unsigned i = threadIdx.x; i < dim; i += kThreads) {
    float sum = 0;
    // A word that is left out, or beyond the end, reads row 0 in vain: a branch would let each load wait for
    // the one before it. So would asking here what the table is kept in.
#pragma unroll 1
    for (std::uint32_t t = begin; t < end; t += kWords) {
      std::uint32_t word[kWords];
      float value[kWords];
#pragma unroll
      for (unsigned j = 0; j < kWords; ++j) word[j] = t + j < end ? tokens.words[t + j] : kNoWord;
#pragma unroll
      for (unsigned j = 0; j < kWords; ++j) {
        value[j] =
            read_element<false>(word_vectors + std::size_t{word[j] == kNoWord ? 0 : word[j]} * dim + i);
      }
#pragma unroll
      for (unsigned j = 0; j < kWords; ++j) sum = word[j] == kNoWord ? sum : __fadd_rn(sum, value[j]);
    }
    post_vectors[std::size_t{post} * dim + i] = __fmul_rn(sum, scale);
  }
  if (threadIdx.x == 0) scales[post] = scale;
}

__global__ void __launch_bounds__(kThreads)
    bag_contributions_kernel(PackedTokens tokens, const std::uint32_t* violators, const float* scales,
                             std::uint32_t* rows, std::uint32_t* sources, float* coefficients) {
  const std::uint32_t post = blockIdx.x;
  const bool found = violators[post] != kNoRow;
  const float scale = scales[post];
  for (std::uint32_t t = tokens.offsets[post] + threadIdx.x; t < tokens.offsets[post + 1]; t += kThreads) {
    rows[t] = found ? tokens.words[t] : kNoRow;
    sources[t] = post;
    coefficients[t] = scale;
  }
}

// An element of a word's vector is read once, and written to all windows that the word is in. Before and
// after the post are words without a vector.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    unfold_kernel(ConvShape shape, PackedTokens tokens, std::uint32_t first_token, const T* word_vectors,
                  float* windows) {
  const std::uint32_t begin = tokens.offsets[blockIdx.x];
  const std::uint32_t length = tokens.offsets[blockIdx.x + 1] - begin;
  if (length == 0) return;
  const std::uint32_t left = (shape.window - 1) / 2;
  const std::uint32_t elements = (length + shape.window - 1) * shape.dim;
  const std::size_t width = std::size_t{shape.window} * shape.dim;
  float* const target = windows + std::size_t{begin - first_token} * width;
#pragma unroll 1
  for (std::uint32_t first = blockIdx.y * kThreads + threadIdx.x; first < elements;
       first += kWords * kStride) {
    std::uint32_t word[kWords];
    float value[kWords];
#pragma unroll
    for (unsigned j = 0; j < kWords; ++j) {
      const std::uint32_t t = (first + j * kStride) / shape.dim - left;  // wraps around before the post
      word[j] = t < length ? tokens.words[begin + t] : kNoWord;
    }
#pragma unroll
    for (unsigned j = 0; j < kWords; ++j) {
      value[j] =
          read_element<false>(word_vectors + std::size_t{word[j] == kNoWord ? 0 : word[j]} * shape.dim +
                              (first + j * kStride) % shape.dim);
    }
#pragma unroll
    for (unsigned j = 0; j < kWords; ++j) {
      // The last of the windows that the word is in; it is at the beginning of that one.
      const std::uint32_t last = (first + j * kStride) / shape.dim;
      std::size_t at = last * width + (first + j * kStride) % shape.dim;
      const float element = word[j] == kNoWord ? 0.0F : value[j];
#pragma unroll 1
      for (std::uint32_t k = 0; k < shape.window; ++k, at -= width - shape.dim) {
        if (last - k < length) target[at] = element;  // wraps around where it is before the post
      }
    }
  }
}

__global__ void __launch_bounds__(kThreads, kBlocks)
    max_over_time_kernel(ConvShape shape, PackedTokens tokens, std::uint32_t first_token,
                         std::uint32_t first_post, const float* products, const float* bias, Dropout dropout,
                         float* once, std::uint32_t* place, float* features) {
  const std::uint32_t f = blockIdx.y * kThreads + threadIdx.x;
  if (f >= shape.filters) return;
  const std::uint32_t post = blockIdx.x;
  const std::uint32_t begin = tokens.offsets[post];
  const std::uint32_t length = tokens.offsets[post + 1] - begin;
  const float* const column = products + std::size_t{begin - first_token} * shape.filters + f;
  float best = length == 0 ? 0.0F : column[0];  // no token: as one zero vector
  std::uint32_t best_place = 0;
#pragma unroll 1
  for (std::uint32_t t = 1; t < length; t += kLoads) {
    float value[kLoads];
#pragma unroll
    for (unsigned j = 0; j < kLoads; ++j) {
      value[j] = t + j < length ? column[std::size_t{t + j} * shape.filters] : 0.0F;
    }
#pragma unroll
    for (unsigned j = 0; j < kLoads; ++j) {
      if (t + j < length && value[j] > best) {
        best = value[j];
        best_place = t + j;
      }
    }
  }
  const std::size_t out = std::size_t{post} * shape.filters + f;
  const float first_tanh = tanhf(__fadd_rn(best, bias[f]));
  once[out] = first_tanh;
  place[out] = best_place;
  features[out] = dropped(dropout, first_post + post, f, tanhf(first_tanh));
}

__global__ void __launch_bounds__(kThreads)
    features_backward_kernel(Dropout dropout, std::uint32_t filters, const float* once, float* gradient) {
  const std::uint32_t post = blockIdx.x;
  for (unsigned f = threadIdx.x; f < filters; f += kThreads) {
    const std::size_t i = std::size_t{post} * filters + f;
    const float first_tanh = once[i];
    const float twice = tanhf(first_tanh);
    gradient[i] =
        dropped(dropout, post, f, gradient[i]) * ((1 - twice * twice) * (1 - first_tanh * first_tanh));
  }
}

__global__ void __launch_bounds__(kThreads)
    spread_gradient_kernel(ConvShape shape, PackedTokens tokens, std::uint32_t first_token,
                           const float* gradient, const std::uint32_t* place, float* product_gradient) {
  const std::uint32_t f = blockIdx.y * kThreads + threadIdx.x;
  if (f >= shape.filters) return;
  const std::uint32_t post = blockIdx.x;
  const std::uint32_t begin = tokens.offsets[post];
  const std::uint32_t length = tokens.offsets[post + 1] - begin;
  const std::size_t in = std::size_t{post} * shape.filters + f;
  const float g = gradient[in];
  const std::uint32_t at_place = place[in];
  float* const column = product_gradient + std::size_t{begin - first_token} * shape.filters + f;
  for (std::uint32_t t = 0; t < length; ++t) {
    column[std::size_t{t} * shape.filters] = t == at_place ? g : 0.0F;
  }
}

__global__ void __launch_bounds__(kThreads, kBlocks)
    fold_kernel(ConvShape shape, PackedTokens tokens, std::uint32_t first_token, const float* window_gradient,
                float* token_gradient) {
  const std::uint32_t begin = tokens.offsets[blockIdx.x];
  const std::uint32_t length = tokens.offsets[blockIdx.x + 1] - begin;
  const std::uint32_t left = (shape.window - 1) / 2;
  const std::size_t width = std::size_t{shape.window} * shape.dim;
  const float* const source = window_gradient + (begin - first_token) * width;
  float* const target = token_gradient + std::size_t{begin - first_token} * shape.dim;
#pragma unroll 1
  for (std::uint32_t at = blockIdx.y * kThreads + threadIdx.x; at < length * shape.dim; at += kStride) {
    const std::uint32_t t = at / shape.dim;
    const std::uint32_t i = at % shape.dim;
    // The windows that the token is in, and its places in them.
    const std::uint32_t last = t + left;
    const std::uint32_t begin_k = last < length ? 0 : last - length + 1;
    const std::uint32_t end_k = last < shape.window ? last + 1 : shape.window;
    float sum = 0;
#pragma unroll 1
    for (std::uint32_t first = begin_k; first < end_k; first += kLoads) {
      float value[kLoads];
#pragma unroll
      for (unsigned j = 0; j < kLoads; ++j) {
        // The last place once more, in vain: there are too few predicates for eight loads that may not be.
        const std::uint32_t k = first + j < end_k ? first + j : end_k - 1;
        const std::uint32_t window = last - k;
        value[j] = source[window * width + k * shape.dim + i];
      }
#pragma unroll
      for (unsigned j = 0; j < kLoads; ++j) sum = first + j < end_k ? __fadd_rn(sum, value[j]) : sum;
    }
    target[at] = sum;
  }
}

__global__ void __launch_bounds__(kThreads)
    update_dense_kernel(Optimizer optimizer, const float* gradient, std::size_t count, float* values,
                        float* sums) {
  const std::size_t i = std::size_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  const float g = gradient[i];
  float move = __fmul_rn(optimizer.learning_rate, g);
  if (optimizer.kind == OptimizerKind::adagrad) {
    const float sum = __fadd_rn(sums[i], __fmul_rn(g, g));
    sums[i] = sum;
    move = adagrad_move(optimizer.learning_rate, g, sum);
  }
  values[i] = __fsub_rn(values[i], move);
}

template <typename V>
__device__ __forceinline__ V sum_of_warp(V value) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(0xFFFFFFFF, value, lanes);
  return value;
}

__global__ void __launch_bounds__(kTotalsThreads)
    add_to_totals_kernel(std::uint32_t pairs, const std::uint32_t* violator, const std::uint32_t* tries,
                         const float* loss, Totals* totals) {
  Totals mine = {0, 0, 0};
  for (std::uint32_t i = threadIdx.x; i < pairs; i += kTotalsThreads) {
    mine.loss += static_cast<double>(loss[i]);
    mine.violators += violator[i] == kNoRow ? 0 : 1;
    mine.tries += tries[i];
  }
  mine = {sum_of_warp(mine.loss), sum_of_warp(mine.violators), sum_of_warp(mine.tries)};
  TAGSPACE_DYNAMIC_SHARED(Totals, of_warps);
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = mine;
  __syncthreads();
  if (threadIdx.x != 0) return;
  Totals sum = *totals;
  for (unsigned warp = 0; warp < kTotalsThreads / 32; ++warp) {
    sum.loss += of_warps[warp].loss;
    sum.violators += of_warps[warp].violators;
    sum.tries += of_warps[warp].tries;
  }
  *totals = sum;
}

// Blocks of kThreads for `count` threads; `count` is not 0.
dim3 blocks_for(std::size_t count) { return dim3(static_cast<unsigned>((count - 1) / kThreads + 1)); }
// A block for each post, and as many of those as filters need.
dim3 blocks_for(const ConvShape& shape, const PackedTokens& tokens) {
  return dim3(static_cast<unsigned>(tokens.posts), (shape.filters - 1) / kThreads + 1);
}

}  // namespace

int drop_words(const Dropout& dropout, std::uint32_t tokens, const std::uint32_t* from, std::uint32_t* words,
               CUstream_st* stream) {
  if (tokens == 0) return cudaSuccess;
  TAGSPACE_LAUNCH(drop_words_kernel, blocks_for((tokens - 1) / kNumbers + 1), dim3(kThreads), 0, stream,
                  dropout, tokens, from, words);
  return cudaGetLastError();
}

int draw_positives(std::uint64_t seed, std::uint64_t step, std::uint32_t posts, const std::uint32_t* hashtags,
                   const std::uint32_t* hashtag_offsets, std::uint32_t* positives,
                   std::uint32_t* positive_offsets, CUstream_st* stream) {
  TAGSPACE_LAUNCH(draw_positives_kernel, blocks_for(std::size_t{posts} + 1), dim3(kThreads), 0, stream, seed,
                  step, posts, hashtags, hashtag_offsets, positives, positive_offsets);
  return cudaGetLastError();
}

int drop_values(const Dropout& dropout, std::uint32_t posts, std::uint32_t columns, float* values,
                CUstream_st* stream) {
  if (posts == 0) return cudaSuccess;
  TAGSPACE_LAUNCH(drop_values_kernel, dim3(posts), dim3(kThreads), 0, stream, dropout, columns, values);
  return cudaGetLastError();
}

int bag_forward(const PackedTokens& tokens, const Table& words, std::uint32_t dim, float* post_vectors,
                float* scales, CUstream_st* stream) {
  if (tokens.posts == 0) return cudaSuccess;
  const dim3 blocks(static_cast<unsigned>(tokens.posts));
  if (words.floats != nullptr) {
    TAGSPACE_LAUNCH(bag_forward_kernel<float>, blocks, dim3(kThreads), 0, stream, tokens, words.floats, dim,
                    post_vectors, scales);
  } else {
    TAGSPACE_LAUNCH(bag_forward_kernel<Bfloat16>, blocks, dim3(kThreads), 0, stream, tokens, words.halves,
                    dim, post_vectors, scales);
  }
  return cudaGetLastError();
}

int bag_contributions(const PackedTokens& tokens, const std::uint32_t* violators, const float* scales,
                      std::uint32_t* rows, std::uint32_t* sources, float* coefficients, CUstream_st* stream) {
  if (tokens.posts == 0) return cudaSuccess;
  TAGSPACE_LAUNCH(bag_contributions_kernel, dim3(static_cast<unsigned>(tokens.posts)), dim3(kThreads), 0,
                  stream, tokens, violators, scales, rows, sources, coefficients);
  return cudaGetLastError();
}

int unfold(const ConvShape& shape, const PackedTokens& tokens, std::uint32_t first_token, const Table& words,
           float* windows, CUstream_st* stream) {
  if (tokens.posts == 0) return cudaSuccess;
  const dim3 blocks(static_cast<unsigned>(tokens.posts), kShares);
  if (words.floats != nullptr) {
    TAGSPACE_LAUNCH(unfold_kernel<float>, blocks, dim3(kThreads), 0, stream, shape, tokens, first_token,
                    words.floats, windows);
  } else {
    TAGSPACE_LAUNCH(unfold_kernel<Bfloat16>, blocks, dim3(kThreads), 0, stream, shape, tokens, first_token,
                    words.halves, windows);
  }
  return cudaGetLastError();
}

int max_over_time(const ConvShape& shape, const PackedTokens& tokens, std::uint32_t first_token,
                  std::uint32_t first_post, const float* products, const float* bias, const Dropout& dropout,
                  float* once, std::uint32_t* place, float* features, CUstream_st* stream) {
  if (tokens.posts == 0) return cudaSuccess;
  TAGSPACE_LAUNCH(max_over_time_kernel, blocks_for(shape, tokens), dim3(kThreads), 0, stream, shape, tokens,
                  first_token, first_post, products, bias, dropout, once, place, features);
  return cudaGetLastError();
}

int features_backward(const Dropout& dropout, std::uint32_t posts, std::uint32_t filters, const float* once,
                      float* gradient, CUstream_st* stream) {
  if (posts == 0) return cudaSuccess;
  TAGSPACE_LAUNCH(features_backward_kernel, dim3(posts), dim3(kThreads), 0, stream, dropout, filters, once,
                  gradient);
  return cudaGetLastError();
}

int spread_gradient(const ConvShape& shape, const PackedTokens& tokens, std::uint32_t first_token,
                    const float* gradient, const std::uint32_t* place, float* product_gradient,
                    CUstream_st* stream) {
  if (tokens.posts == 0) return cudaSuccess;
  TAGSPACE_LAUNCH(spread_gradient_kernel, blocks_for(shape, tokens), dim3(kThreads), 0, stream, shape, tokens,
                  first_token, gradient, place, product_gradient);
  return cudaGetLastError();
}

int fold(const ConvShape& shape, const PackedTokens& tokens, std::uint32_t first_token,
         const float* window_gradient, float* token_gradient, CUstream_st* stream) {
  if (tokens.posts == 0) return cudaSuccess;
  TAGSPACE_LAUNCH(fold_kernel, dim3(static_cast<unsigned>(tokens.posts), kShares), dim3(kThreads), 0, stream,
                  shape, tokens, first_token, window_gradient, token_gradient);
  return cudaGetLastError();
}

int update_dense(const Optimizer& optimizer, const float* gradient, std::size_t count, float* values,
                 float* sums, CUstream_st* stream) {
  if (optimizer.kind == OptimizerKind::adagrad && sums == nullptr) return cudaErrorInvalidValue;
  if (count == 0) return cudaSuccess;
  TAGSPACE_LAUNCH(update_dense_kernel, blocks_for(count), dim3(kThreads), 0, stream, optimizer, gradient,
                  count, values, sums);
  return cudaGetLastError();
}

int add_to_totals(std::uint32_t pairs, const std::uint32_t* violator, const std::uint32_t* tries,
                  const float* loss, Totals* totals, CUstream_st* stream) {
  TAGSPACE_LAUNCH(add_to_totals_kernel, dim3(1), dim3(kTotalsThreads), kTotalsThreads / 32 * sizeof(Totals),
                  stream, pairs, violator, tries, loss, totals);
  return cudaGetLastError();
}

}  // namespace tagspace::kernels::cuda
