// The convolution for one instruction set, with fused multiply-adds where it has them.
#include "model/kernels/simd_convolution.h"

#include "model/kernels/simd_vector.h"

namespace tagspace::kernels {
namespace {

// Rows of words multiplied at a time: as many sums as the registers hold beside the filters' vectors.
#if TAGSPACE_LANES == 16
constexpr std::size_t kWordTile = 14;
#elif TAGSPACE_LANES == 8
constexpr std::size_t kWordTile = 6;
#else
constexpr std::size_t kWordTile = 3;
#endif
static_assert(kBlock == kFilterBlock && kBlock == kSlice);

constexpr std::size_t kRowsOfPointer = 3;

// The compiler knows nothing of the value any more.
inline void hide(std::size_t& value) { asm("" : "+r"(value)); }

// `Words` rows of words times one column of the window: sums stay in registers over all of dim, for which the
// loops over them have to be unrolled.
template <std::size_t Words>
inline void multiply_tile(const float* words, std::size_t dim, const float* weight, float* products,
                          std::size_t products_stride) {
  Vec sums[Words][kVecs];
#pragma GCC unroll 16
  for (std::size_t r = 0; r < Words; ++r) {
#pragma GCC unroll 4
    for (std::size_t j = 0; j < kVecs; ++j) sums[r][j] = Vec{};
  }
  // Three rows from each of a few pointers: so the addresses of all fit into the registers. The compiler
  // would take a pointer for each row, could it see that the indices belong together.
  std::size_t at[kRowsOfPointer] = {0, dim, 2 * dim};
  for (std::size_t d = 0; d < dim; ++d) {
    hide(at[1]);
    hide(at[2]);
    Vec w[kVecs];
    for (std::size_t j = 0; j < kVecs; ++j) w[j] = load(weight + d * kBlock + j * kLanes);
#pragma GCC unroll 16
    for (std::size_t r = 0; r < Words; ++r) {
      const float* const rows = words + r / kRowsOfPointer * kRowsOfPointer * dim;
      const Vec x = splat(rows[at[r % kRowsOfPointer]]);
      for (std::size_t j = 0; j < kVecs; ++j) sums[r][j] += x * w[j];
    }
    for (std::size_t& index : at) ++index;
  }
#pragma GCC unroll 16
  for (std::size_t r = 0; r < Words; ++r) {
#pragma GCC unroll 4
    for (std::size_t j = 0; j < kVecs; ++j) store(products + r * products_stride + j * kLanes, sums[r][j]);
  }
}

void filter_products(const ConvShape& shape, const float* word_vectors, std::size_t word_count,
                     const float* packed_weight, float* products) {
  const std::size_t dim = shape.dim;
  const std::size_t stride = shape.window * kBlock;
  std::size_t w = 0;
  for (; w + kWordTile <= word_count; w += kWordTile) {
    for (std::size_t k = 0; k < shape.window; ++k) {
      multiply_tile<kWordTile>(word_vectors + w * dim, dim, packed_weight + k * dim * kBlock,
                               products + w * stride + k * kBlock, stride);
    }
  }
  for (; w < word_count; ++w) {
    for (std::size_t k = 0; k < shape.window; ++k) {
      multiply_tile<1>(word_vectors + w * dim, dim, packed_weight + k * dim * kBlock,
                       products + w * stride + k * kBlock, stride);
    }
  }
  for (std::size_t i = 0; i < stride; ++i) products[word_count * stride + i] = 0;
}

// A block's values to an array of which it is `count` columns.
template <typename T>
inline void store_columns(const T (&block)[kVecs], std::size_t count, void* target) {
  static_assert(sizeof block == kBlock * 4);
  if (count == kBlock) {
    __builtin_memcpy(target, block, sizeof block);
  } else {
    __builtin_memcpy(target, block, count * 4);
  }
}

// The largest of the sums of a post's windows, and with kPlaces the first window that has it.
template <bool kPlaces>
struct Maxima {
  Vec best[kVecs];
  VecMask place[kVecs];

  void take(const Vec (&sum)[kVecs], std::uint32_t window) {
    // The first sum is taken whatever it is, so that one that is not a number is kept.
    const VecMask first = (window == 0 ? -1 : 0) - VecMask{};
    const VecMask here = static_cast<std::int32_t>(window) - VecMask{};
    for (std::size_t j = 0; j < kVecs; ++j) {
      const VecMask better = (sum[j] > best[j]) | first;
      best[j] = better ? sum[j] : best[j];
      if constexpr (kPlaces) place[j] = better ? here : place[j];
    }
  }
};

// A block's products with the distinct words, [word_count + 1, window, kBlock], and where the batch's words
// end.
struct BlockProducts {
  const float* products;
  std::size_t word_count;
  const std::uint32_t* end;

  [[nodiscard]] const float* of(std::uint32_t word, std::size_t stride) const {
    return products + (word == kNoWord ? word_count : word) * stride;
  }
  // Asks for those of a word some way behind, be it of this post or of the next.
  [[gnu::always_inline]] void ask_ahead(const std::uint32_t* word, std::size_t stride) const {
    constexpr std::ptrdiff_t kAhead = 6;
    if (end - word > kAhead && word[kAhead] != kNoWord) prefetch(products + word[kAhead] * stride, stride);
  }
};

// The windows one after the other.
template <bool kPlaces>
inline void take_windows(std::uint32_t window, const std::uint32_t* words, std::uint32_t length,
                         const BlockProducts& block, Maxima<kPlaces>& maxima) {
  const std::uint32_t left = (window - 1) / 2;
  for (std::uint32_t t = 0; t < length; ++t) {
    block.ask_ahead(words + t, window * kBlock);
    Vec sum[kVecs] = {};
    for (std::uint32_t k = 0; k < window; ++k) {
      const std::uint32_t at = t + k - left;  // below zero it wraps, and is beyond the length too
      if (at >= length) continue;
      const float* product = block.of(words[at], window * kBlock) + k * kBlock;
      for (std::size_t j = 0; j < kVecs; ++j) sum[j] += load(product + j * kLanes);
    }
    maxima.take(sum, t);
  }
}

// The same for a window that is known when compiling, word by word: a word's products are for as many
// windows, whose sums stay in registers until the last of their words has come. The additions are the same.
template <std::uint32_t Window, bool kPlaces>
inline void take_windows(const std::uint32_t* words, std::uint32_t length, const BlockProducts& block,
                         Maxima<kPlaces>& maxima) {
  constexpr std::uint32_t kRight = Window - 1 - (Window - 1) / 2;  // words behind a window's middle
  Vec open[Window][kVecs];
#pragma GCC unroll 8
  for (auto& sum : open) {
    for (Vec& v : sum) v = Vec{};
  }
  for (std::uint32_t t = 0; t < length + kRight; ++t) {
    if (t < length) {
      block.ask_ahead(words + t, Window * kBlock);
      const float* const product = block.of(words[t], Window * kBlock);
#pragma GCC unroll 8
      for (std::uint32_t k = 0; k < Window; ++k) {
        for (std::size_t j = 0; j < kVecs; ++j) open[k][j] += load(product + k * kBlock + j * kLanes);
      }
    }
    if (t >= kRight) maxima.take(open[Window - 1], t - kRight);
#pragma GCC unroll 8
    for (std::uint32_t k = Window - 1; k > 0; --k) {
      for (std::size_t j = 0; j < kVecs; ++j) open[k][j] = open[k - 1][j];
    }
    for (Vec& v : open[0]) v = Vec{};
  }
}

// `Window` is the window where it is known when compiling, 0 where it is not. Without kPlaces only the maxima
// are taken.
template <std::uint32_t Window, bool kPlaces>
void filter_maxima_of(const ConvShape& shape, const PackedTokens& tokens, std::size_t word_count,
                      const float* products, const float* bias, std::size_t count, float* maximum,
                      std::uint32_t* place) {
  const BlockProducts block{products, word_count, tokens.words + tokens.offsets[tokens.posts]};
  for (std::size_t post = 0; post < tokens.posts; ++post) {
    const std::uint32_t* words = tokens.words + tokens.offsets[post];
    const std::uint32_t length = tokens.offsets[post + 1] - tokens.offsets[post];
    Maxima<kPlaces> maxima = {};
    if constexpr (Window == 0) {
      take_windows(shape.window, words, length, block, maxima);
    } else {
      take_windows<Window>(words, length, block, maxima);
    }
    for (std::size_t j = 0; j < kVecs; ++j) maxima.best[j] += load(bias + j * kLanes);
    store_columns(maxima.best, count, maximum + post * shape.filters);
    if constexpr (kPlaces) store_columns(maxima.place, count, place + post * shape.filters);
  }
}

void filter_maxima(const ConvShape& shape, const PackedTokens& tokens, std::size_t word_count,
                   const float* products, const float* bias, std::size_t count, float* maximum,
                   std::uint32_t* place) {
  const auto of = [&](auto of_window, auto of_any) {
    (shape.window == 5 ? of_window : of_any)(shape, tokens, word_count, products, bias, count, maximum,
                                             place);
  };
  if (place == nullptr) {
    of(filter_maxima_of<5, false>, filter_maxima_of<0, false>);
  } else {
    of(filter_maxima_of<5, true>, filter_maxima_of<0, true>);
  }
}

// Vectors [first, first + Vecs) of the windows' sums: they stay in registers over all terms.
template <std::size_t Vecs>
inline void gather_piece(const WindowTerm* terms, std::size_t count, const float* vectors, float* sums) {
  Vec sum[Vecs];
  for (std::size_t v = 0; v < Vecs; ++v) sum[v] = load(sums + v * kLanes);
  for (std::size_t i = 0; i < count; ++i) {
    const Vec factor = splat(terms[i].factor);
    const float* source = vectors + std::size_t{terms[i].row} * kSlice;
    for (std::size_t v = 0; v < Vecs; ++v) sum[v] += factor * load(source + v * kLanes);
  }
  for (std::size_t v = 0; v < Vecs; ++v) store(sums + v * kLanes, sum[v]);
}

// A window's vectors in pieces of Vecs, what is left in smaller ones.
template <std::size_t Vecs>
inline void gather_pieces(std::size_t vecs, const WindowTerm* terms, std::size_t count, const float* vectors,
                          float* sums) {
  for (; vecs >= Vecs; vecs -= Vecs) {
    gather_piece<Vecs>(terms, count, vectors, sums);
    vectors += Vecs * kLanes;
    sums += Vecs * kLanes;
  }
  if constexpr (Vecs > kVecs) gather_pieces<Vecs - kVecs>(vecs, terms, count, vectors, sums);
}

// As many vectors as the registers hold beside a factor; a window of 5 in one piece if that can be.
constexpr std::size_t kLargestPiece = kVecs == 4 ? 12 : 10;

void gather_windows(std::size_t window, std::size_t filters, const WindowTerms& terms, const float* vectors,
                    float* sums) {
  for (std::size_t f = 0; f < filters; ++f) {
    if (terms.counts[f] == 0) continue;
    gather_pieces<kLargestPiece>(window * kVecs, terms.terms + f * terms.capacity, terms.counts[f], vectors,
                                 sums + f * window * kSlice);
  }
}

// Vectors [first, first + Vecs) of a filter's weights: they stay in registers over all terms.
template <std::size_t Vecs>
inline void scatter_piece(const WindowTerm* terms, std::size_t count, std::size_t first_row,
                          const float* weights, float* sums) {
  Vec weight[Vecs];
  for (std::size_t v = 0; v < Vecs; ++v) weight[v] = load(weights + v * kLanes);
  for (std::size_t i = 0; i < count; ++i) {
    const Vec factor = splat(terms[i].factor);
    float* target = sums + (terms[i].row - first_row) * kSlice;
    for (std::size_t v = 0; v < Vecs; ++v) {
      store(target + v * kLanes, load(target + v * kLanes) + factor * weight[v]);
    }
  }
}

template <std::size_t Vecs>
inline void scatter_pieces(std::size_t vecs, const WindowTerm* terms, std::size_t count,
                           std::size_t first_row, const float* weights, float* sums) {
  for (; vecs >= Vecs; vecs -= Vecs) {
    scatter_piece<Vecs>(terms, count, first_row, weights, sums);
    weights += Vecs * kLanes;
    sums += Vecs * kLanes;
  }
  if constexpr (Vecs > kVecs) scatter_pieces<Vecs - kVecs>(vecs, terms, count, first_row, weights, sums);
}

void scatter_windows(std::size_t window, std::size_t filters, const WindowTerms& terms, std::size_t first_row,
                     const float* weights, float* sums) {
  for (std::size_t f = 0; f < filters; ++f) {
    if (terms.counts[f] == 0) continue;
    scatter_pieces<kLargestPiece>(window * kVecs, terms.terms + f * terms.capacity, terms.counts[f],
                                  first_row, weights + f * window * kSlice, sums);
  }
}

}  // namespace

namespace TAGSPACE_ISA {
extern const ConvolutionKernels convolution_kernels;
const ConvolutionKernels convolution_kernels = {filter_products, filter_maxima, gather_windows,
                                                scatter_windows};
}  // namespace TAGSPACE_ISA

}  // namespace tagspace::kernels
