// The plain reference of row_update.h.
#include <cmath>

#include "model/kernels/row_update.h"

namespace tagspace::kernels {

void update_rows_reference(const Optimizer& optimizer, const RowGroups& groups,
                           const RowContributions& contributions, std::size_t dim, float* table,
                           float* sums) {
  std::vector<float> gradient(dim);
  for (std::size_t group = 0; group < groups.rows.size(); ++group) {
    float* row = table + groups.rows[group] * dim;
    gradient.assign(dim, 0);
    bool any = false;
    for (std::uint32_t at = groups.offsets[group]; at < groups.offsets[group + 1]; ++at) {
      const std::uint32_t c = groups.order[at];
      const float coefficient = contributions.coefficient == nullptr ? 1 : contributions.coefficient[c];
      const float self = contributions.self == nullptr ? 0 : contributions.self[c];
      if (coefficient == 0 && self == 0) continue;
      any = true;
      const float* vector = contributions.vectors + contributions.source[c] * dim;
      for (std::size_t i = 0; i < dim; ++i) gradient[i] += coefficient * vector[i] + self * row[i];
    }
    if (!any) continue;
    float squared_norm = 0;
    for (std::size_t i = 0; i < dim; ++i) {
      if (optimizer.kind == OptimizerKind::adagrad) {
        float& sum = sums[groups.rows[group] * dim + i];
        sum += gradient[i] * gradient[i];
        row[i] -= optimizer.learning_rate * gradient[i] / (std::sqrt(sum) + kAdagradEpsilon);
      } else {
        row[i] -= optimizer.learning_rate * gradient[i];
      }
      squared_norm += row[i] * row[i];
    }
    const float norm = std::sqrt(squared_norm);
    if (optimizer.max_norm > 0 && norm > optimizer.max_norm) {
      for (std::size_t i = 0; i < dim; ++i) row[i] *= optimizer.max_norm / norm;
    }
  }
}

}  // namespace tagspace::kernels
