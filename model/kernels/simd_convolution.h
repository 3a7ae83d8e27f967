// The convolution's inner loops for one instruction set; private to this folder. Each function does one task
// on one thread; the loops around them are in encoder.cc.
#pragma once

#include <cstddef>
#include <cstdint>

#include "model/kernels/encoder.h"

namespace tagspace::kernels {

// Filters are worked on in blocks of this many, and dims in slices: a cache line of floats.
constexpr std::size_t kFilterBlock = 16;
constexpr std::size_t kSlice = 16;

// The gradient of one filter in one post, to be multiplied with the window at its place.
struct WindowTerm {
  float factor;
  std::uint32_t row;  // where the window begins
};

// Lists of terms, one for each filter: terms[f * capacity .. f * capacity + counts[f]).
struct WindowTerms {
  const WindowTerm* terms;
  std::size_t capacity;
  const std::uint32_t* counts;  // [filters]
};

struct ConvolutionKernels {
  // products[w, k, :] = <word_vectors[w], weight[f, k]> for the block's filters f, w < word_count.
  // `packed_weight` [window, dim, kFilterBlock]; `products` [word_count + 1, window, kFilterBlock], whose
  // last row is set to zero, for tokens that were left out.
  void (*filter_products)(const ConvShape&, const float* word_vectors, std::size_t word_count,
                          const float* packed_weight, float* products);
  // Maximum, bias included, and place of the block's first `count` filters for every post: [posts, filters],
  // from the block's first filter on. `place` may be null.
  void (*filter_maxima)(const ConvShape&, const PackedTokens&, std::size_t word_count, const float* products,
                        const float* bias, std::size_t count, float* maximum, std::uint32_t* place);

  // sums[f, :, :] += the sum over filter f's terms of factor * vectors[row .. row + window, :].
  // `vectors` [rows, kSlice], `sums` [filters, window, kSlice].
  void (*gather_windows)(std::size_t window, std::size_t filters, const WindowTerms&, const float* vectors,
                         float* sums);
  // For filter after filter and each of its terms: sums[row - first_row .. row - first_row + window, :] +=
  // factor * weights[f, :, :]. `weights` [filters, window, kSlice], `sums` [rows from first_row on, kSlice].
  void (*scatter_windows)(std::size_t window, std::size_t filters, const WindowTerms&, std::size_t first_row,
                          const float* weights, float* sums);
};

}  // namespace tagspace::kernels
