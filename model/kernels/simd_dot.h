// Inner products in dot_reference's order of additions, of one vector or of eight at a time; private to
// simd_*.cc. Equal to dot_reference bit for bit where the including file has no fused multiply-adds.
#pragma once

#include <cstddef>
#include <cstdint>

#include "model/kernels/simd_vector.h"

namespace tagspace::kernels {
namespace {

// Rows are scored eight at a time: enough independent additions to keep the processor busy, and enough cache
// lines under way at once that memory is waited for once a group.
constexpr std::uint32_t kGroup = 8;
using Vec8 = float __attribute__((vector_size(32)));
constexpr std::size_t kRowsAtOnce = kLanes / 2;  // as many as there are registers for their partial sums

// The 16 partial sums of dot_reference.
struct PartialSums {
  Vec v[kVecs];

  // Not by "= {}", for which GCC clears arrays of them in memory by `rep stos`, as dear as the products.
  PartialSums() {
    for (Vec& sum : v) sum = Vec{};
  }

  void add_products(const float* a, const float* b) {
    for (std::size_t j = 0; j < kVecs; ++j) v[j] += load(a + j * kLanes) * load(b + j * kLanes);
  }

  // The first halving: 8 to 8.
  void halve(Vec8& sums) const {
#if TAGSPACE_LANES == 16
    sums = __builtin_shufflevector(v[0], v[0], 0, 1, 2, 3, 4, 5, 6, 7) +
           __builtin_shufflevector(v[0], v[0], 8, 9, 10, 11, 12, 13, 14, 15);
#elif TAGSPACE_LANES == 8
    sums = v[0] + v[1];
#else
    const Vec low = v[0] + v[2];
    const Vec high = v[1] + v[3];
    sums = __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7);
#endif
  }
};

// The zeros after the end of a vector whose dim 16 does not divide.
struct Tail {
  float values[kBlock] = {};
  Tail(const float* vector, std::size_t dim) {
    const std::size_t whole = dim - dim % kBlock;
    for (std::size_t i = whole; i < dim; ++i) values[i - whole] = vector[i];
  }
};

inline void add_all_products(const float* a, const float* b, std::size_t dim, PartialSums& sums) {
  for (std::size_t i = 0; i + kBlock <= dim; i += kBlock) sums.add_products(a + i, b + i);
  if (dim % kBlock != 0) sums.add_products(Tail(a, dim).values, Tail(b, dim).values);
}

// <a, b>, in dot_reference's order of additions.
inline float dot(const float* a, const float* b, std::size_t dim) {
  PartialSums sums;
  add_all_products(a, b, dim, sums);
  Vec8 eight;
  sums.halve(eight);
  using Vec4 = float __attribute__((vector_size(16)));
  const Vec4 four =
      __builtin_shufflevector(eight, eight, 0, 1, 2, 3) + __builtin_shufflevector(eight, eight, 4, 5, 6, 7);
  const Vec4 two = four + __builtin_shufflevector(four, four, 2, 3, 2, 3);
  return two[0] + two[1];
}

// products[r] = <vector, rows[r]>, each in dot_reference's order of additions; with kSquares the rows'
// products with themselves.
template <bool kSquares>
inline void dot_group(const float* vector, const float* const* rows, std::size_t dim, Vec8& products) {
  Vec8 s[kGroup];
  const std::size_t whole = dim - dim % kBlock;
  for (std::size_t first = 0; first < kGroup; first += kRowsAtOnce) {
    PartialSums sums[kRowsAtOnce];
    for (std::size_t i = 0; i < whole; i += kBlock) {
      for (std::size_t r = 0; r < kRowsAtOnce; ++r)
        sums[r].add_products(kSquares ? rows[first + r] + i : vector + i, rows[first + r] + i);
    }
    if (whole < dim) {
      for (std::size_t r = 0; r < kRowsAtOnce; ++r) {
        const Tail of_row(rows[first + r], dim);
        sums[r].add_products(kSquares ? of_row.values : Tail(vector, dim).values, of_row.values);
      }
    }
    for (std::size_t r = 0; r < kRowsAtOnce; ++r) sums[r].halve(s[first + r]);
  }
  // The other halvings, of two, four and eight rows' sums in one vector. a + b equals b + a.
  Vec8 fours[4];
  for (std::size_t i = 0; i < 4; ++i) {
    const Vec8 a = s[i];
    const Vec8 b = s[i + 4];
    fours[i] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11) +
               __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15);  // row i, row i + 4
  }
  Vec8 twos[2];
  for (std::size_t i = 0; i < 2; ++i) {
    const Vec8 a = fours[i];
    const Vec8 b = fours[i + 2];
    twos[i] = __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13) +
              __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15);  // rows i, i + 2, i + 4, i + 6
  }
  products = __builtin_shufflevector(twos[0], twos[1], 0, 8, 2, 10, 4, 12, 6, 14) +
             __builtin_shufflevector(twos[0], twos[1], 1, 9, 3, 11, 5, 13, 7, 15);
}

}  // namespace
}  // namespace tagspace::kernels
