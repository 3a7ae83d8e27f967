// The plain reference of skipgram.h, and the call of the inner loop.
#include "model/kernels/skipgram.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "model/kernels/cpu_context.h"
#include "model/kernels/simd.h"

namespace tagspace::kernels {

double take_skipgram_steps_reference(const SkipgramSteps& steps, const SkipgramTables& tables, float rate) {
  const std::size_t dim = tables.dim;
  double loss = 0;
  std::vector<float> slopes(steps.targets);  // of the loss, by the product of input and output vector
  std::vector<float> change(dim);
  for (std::size_t step = 0; step < steps.neighbors.size(); ++step) {
    float* const input = tables.inputs + steps.neighbors[step] * dim;
    const std::uint32_t* const targets = steps.rows.data() + step * steps.targets;
    change.assign(dim, 0);
    for (std::size_t i = 0; i < steps.targets; ++i) {
      slopes[i] = 0;
      if (i > 0 && targets[i] == targets[0]) continue;
      const float* const output = tables.outputs + targets[i] * dim;
      float product = 0;
      for (std::size_t d = 0; d < dim; ++d) product += input[d] * output[d];
      // log sigmoid(margin) is what the loss has.
      const float margin = i == 0 ? product : -product;
      loss += std::max(0.0F, -margin) + std::log1p(std::exp(-std::abs(margin)));
      slopes[i] = (i == 0 ? -1.0F : 1.0F) / (1 + std::exp(margin));
      for (std::size_t d = 0; d < dim; ++d) change[d] -= rate * slopes[i] * output[d];
    }
    for (std::size_t i = 0; i < steps.targets; ++i) {
      float* const output = tables.outputs + targets[i] * dim;
      for (std::size_t d = 0; d < dim; ++d) output[d] -= rate * slopes[i] * input[d];
    }
    for (std::size_t d = 0; d < dim; ++d) input[d] += change[d];
  }
  return loss;
}

double take_skipgram_steps(const SkipgramSteps& steps, const SkipgramTables& tables, float rate,
                           CpuContext& context) {
  Floats scratch(skipgram_scratch(steps.targets));
  return context.simd->skipgram(
      {steps.neighbors.size(), steps.targets, steps.neighbors.data(), steps.rows.data()}, tables, rate,
      scratch.data());
}

}  // namespace tagspace::kernels
