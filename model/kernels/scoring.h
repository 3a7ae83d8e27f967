// Vectors against every row of a table: products, the best rows, and the ranks of some of them; and the
// twofold tanh between convolution and linear layer.
//
// The score of a query and a row is
//
//   s = sum over i of query[i] * row[i],   added up in the order of i, from 0 on
//
// (with fused multiply-adds where the instruction set has them). Each score is one such chain: it does not
// depend on what other queries and rows are there, on where the two stand, or on the number of threads. No
// array of all scores is ever made: the table goes through the cache a tile of rows at a time.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tagspace::kernels {

struct CpuContext;  // cpu_context.h

// Vectors end to end: [count, dim], row-major. The caller's.
struct VectorArray {
  const float* data = nullptr;
  std::size_t count = 0;
  std::size_t dim = 0;
};

// A row of a table, with its score.
struct ScoredRow {
  std::uint32_t id = 0;
  float score = 0;
};

// The order of an answer: higher scores first, equal ones in the order of their ids; scores that are no
// numbers last.
[[nodiscard]] inline bool is_better(const ScoredRow& a, const ScoredRow& b) {
  if (a.score > b.score) return true;
  if (a.score < b.score) return false;
  const bool a_is_number = a.score == a.score;
  const bool b_is_number = b.score == b.score;
  return a_is_number == b_is_number ? a.id < b.id : a_is_number;
}

// out[q, r] = the score of query q and row r, plus bias[r]. `bias` [rows], or null; `out` [queries, rows].
void products_reference(const VectorArray& queries, const VectorArray& rows, const float* bias, float* out);
void products(const VectorArray& queries, const VectorArray& rows, const float* bias, float* out,
              CpuContext& context);

// The min(k, rows) best rows of each query, best first: `best` [queries, min(k, rows)].
void top_k_reference(const VectorArray& queries, const VectorArray& rows, std::size_t k, ScoredRow* best);
void top_k(const VectorArray& queries, const VectorArray& rows, std::size_t k, ScoredRow* best,
           CpuContext& context);

// The rows that are looked for, some for each query: those of query q are
// rows[offsets[q] .. offsets[q + 1]).
struct SoughtRows {
  const std::uint32_t* offsets = nullptr;  // [queries + 1]
  const std::uint32_t* rows = nullptr;     // [offsets[queries]]
};

// ranks[j] = the number of rows whose score is not less than that of the sought row j, itself among them: one
// plus the number of others that score at least as much, and a score that is no number counts as more.
// first[q] = the best row of query q. `ranks` [offsets[queries]], `first` [queries].
void ranks_reference(const VectorArray& queries, const VectorArray& rows, const SoughtRows& sought,
                     std::uint32_t* ranks, std::uint32_t* first);
void ranks(const VectorArray& queries, const VectorArray& rows, const SoughtRows& sought,
           std::uint32_t* ranks, std::uint32_t* first, CpuContext& context);

// values[i] = tanh(tanh(values[i])), for i < count. Odd, and within 4 units in the last place.
void tanh_of_tanh_reference(float* values, std::size_t count);
void tanh_of_tanh(float* values, std::size_t count, CpuContext& context);

}  // namespace tagspace::kernels
