// The plain references of scoring.h.
#include <algorithm>
#include <cmath>
#include <vector>

#include "model/kernels/scoring.h"

namespace tagspace::kernels {
namespace {

float score(const VectorArray& queries, std::size_t query, const VectorArray& rows, std::size_t row) {
  float sum = 0;
  for (std::size_t i = 0; i < rows.dim; ++i) {
    sum += queries.data[query * rows.dim + i] * rows.data[row * rows.dim + i];
  }
  return sum;
}

std::vector<ScoredRow> all_scores(const VectorArray& queries, std::size_t query, const VectorArray& rows) {
  std::vector<ScoredRow> scores(rows.count);
  for (std::size_t row = 0; row < rows.count; ++row) {
    scores[row] = {static_cast<std::uint32_t>(row), score(queries, query, rows, row)};
  }
  return scores;
}

}  // namespace

void products_reference(const VectorArray& queries, const VectorArray& rows, const float* bias, float* out) {
  for (std::size_t query = 0; query < queries.count; ++query) {
    for (std::size_t row = 0; row < rows.count; ++row) {
      *out++ = score(queries, query, rows, row) + (bias == nullptr ? 0 : bias[row]);
    }
  }
}

void top_k_reference(const VectorArray& queries, const VectorArray& rows, std::size_t k, ScoredRow* best) {
  for (std::size_t query = 0; query < queries.count; ++query) {
    auto scores = all_scores(queries, query, rows);
    std::sort(scores.begin(), scores.end(), is_better);
    best = std::copy_n(scores.begin(), std::min(k, rows.count), best);
  }
}

void ranks_reference(const VectorArray& queries, const VectorArray& rows, const SoughtRows& sought,
                     std::uint32_t* ranks, std::uint32_t* first) {
  for (std::size_t query = 0; query < queries.count; ++query) {
    const auto scores = all_scores(queries, query, rows);
    first[query] = std::min_element(scores.begin(), scores.end(), is_better)->id;
    for (std::uint32_t j = sought.offsets[query]; j < sought.offsets[query + 1]; ++j) {
      const float own = scores[sought.rows[j]].score;
      ranks[j] = static_cast<std::uint32_t>(std::count_if(
          scores.begin(), scores.end(), [own](const ScoredRow& row) { return !(row.score < own); }));
    }
  }
}

void tanh_of_tanh_reference(float* values, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    values[i] = static_cast<float>(std::tanh(std::tanh(static_cast<double>(values[i]))));
  }
}

}  // namespace tagspace::kernels
