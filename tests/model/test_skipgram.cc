#include <cmath>

#include "model/kernels/skipgram.h"
#include "tests/model/kernel_cases.h"

namespace tagspace::kernels {
namespace {

struct Tables {
  std::size_t dim;
  std::vector<float> inputs;
  std::vector<float> outputs;

  Tables(Random& random, std::uint32_t tokens, std::size_t d, float scale)
      : dim(d), inputs(random.normals(tokens * d, scale)), outputs(random.normals(tokens * d, scale)) {}
  [[nodiscard]] SkipgramTables view() { return {inputs.data(), outputs.data(), dim}; }
};

// Negatives that are the centre, and some that are there twice.
SkipgramSteps steps_of(Random& random, std::uint32_t tokens, std::size_t count, std::size_t targets) {
  SkipgramSteps steps{targets, {}, {}};
  for (std::size_t i = 0; i < count; ++i) {
    steps.neighbors.push_back(random.below(tokens));
    for (std::size_t k = 0; k < targets; ++k) steps.rows.push_back(random.below(tokens));
    std::uint32_t* const rows = steps.rows.data() + i * targets;
    if (i % 3 == 0 && targets > 1) rows[targets - 1] = rows[0];
    if (i % 4 == 0 && targets > 2) rows[2] = rows[1];
  }
  return steps;
}

// The loss of the one step, as the header has it.
double loss_of(const SkipgramSteps& step, const std::vector<double>& inputs,
               const std::vector<double>& outputs, std::size_t dim) {
  double loss = 0;
  for (std::size_t k = 0; k < step.targets; ++k) {
    if (k > 0 && step.rows[k] == step.rows[0]) continue;
    double product = 0;
    for (std::size_t d = 0; d < dim; ++d)
      product += inputs[step.neighbors[0] * dim + d] * outputs[step.rows[k] * dim + d];
    loss -= std::log(1 / (1 + std::exp(k == 0 ? -product : product)));
  }
  return loss;
}

TEST(Skipgram, TheReferenceGoesDownTheGradient) {
  constexpr std::uint32_t kTokens = 6;
  constexpr double kDifference = 1e-5;
  Random random(1);
  for (std::size_t i = 0; i < 12; ++i) {
    Tables tables(random, kTokens, 5, 0.6F);
    SkipgramSteps step = steps_of(random, kTokens, 13, 5);
    step.neighbors = {step.neighbors[i]};
    step.rows = {step.rows.begin() + static_cast<std::ptrdiff_t>(5 * i),
                 step.rows.begin() + static_cast<std::ptrdiff_t>(5 * i + 5)};
    std::vector<double> inputs(tables.inputs.begin(), tables.inputs.end());
    std::vector<double> outputs(tables.outputs.begin(), tables.outputs.end());
    const double loss = loss_of(step, inputs, outputs, 5);
    const auto moved = [&](std::vector<double>& values) {
      std::vector<double> result(values);
      for (std::size_t j = 0; j < values.size(); ++j) {
        const double before = values[j];
        values[j] = before + kDifference;
        const double above = loss_of(step, inputs, outputs, 5);
        values[j] = before - kDifference;
        const double below = loss_of(step, inputs, outputs, 5);
        values[j] = before;
        result[j] -= 0.3 * (above - below) / (2 * kDifference);
      }
      return result;
    };
    const std::vector<double> expected_inputs = moved(inputs);
    const std::vector<double> expected_outputs = moved(outputs);
    EXPECT_NEAR(take_skipgram_steps_reference(step, tables.view(), 0.3F), loss, 1e-5);
    for (std::size_t j = 0; j < inputs.size(); ++j) {
      EXPECT_NEAR(tables.inputs[j], expected_inputs[j], 1e-5);
      EXPECT_NEAR(tables.outputs[j], expected_outputs[j], 1e-5);
    }
  }
}

TEST(Skipgram, EqualsTheReference) {
  for (const auto* simd : available_simd_kernels()) {
    CpuContext context(1, simd);
    SCOPED_TRACE(simd->name);
    Random random(2);
    for (const std::size_t dim : {1, 7, 16, 40, 64, 100}) {
      for (const std::size_t targets : {1, 2, 6, 8, 9, 21}) {
        SCOPED_TRACE(std::to_string(dim) + " dimensions, " + std::to_string(targets) + " targets");
        Tables actual(random, 50, dim, 0.4F);
        Tables expected = actual;
        const SkipgramSteps steps = steps_of(random, 50, 200, targets);
        const double loss = take_skipgram_steps_reference(steps, expected.view(), 0.05F);
        EXPECT_NEAR(take_skipgram_steps(steps, actual.view(), 0.05F, context), loss, 2e-5 * loss);
        expect_close(actual.inputs, expected.inputs);
        expect_close(actual.outputs, expected.outputs);
      }
    }
  }
}

// Products so large that one exponential overflows and another vanishes; and a number that is none.
TEST(Skipgram, FarProducts) {
  for (const auto* simd : available_simd_kernels()) {
    CpuContext context(1, simd);
    SCOPED_TRACE(simd->name);
    for (const float product : {0.0F, 20.0F, -20.0F, 79.0F, 81.0F, -81.0F, 5e4F, -5e4F}) {
      std::vector<float> inputs = {product};
      std::vector<float> outputs = {1, -1};
      const SkipgramSteps step{2, {0}, {0, 1}};
      const double loss = take_skipgram_steps(step, {inputs.data(), outputs.data(), 1}, 0.5F, context);
      std::vector<float> expected_inputs = {product};
      std::vector<float> expected_outputs = {1, -1};
      const double expected =
          take_skipgram_steps_reference(step, {expected_inputs.data(), expected_outputs.data(), 1}, 0.5F);
      EXPECT_NEAR(loss, expected, 1e-6 + 1e-6 * expected) << product;
      expect_close(inputs, expected_inputs);
      expect_close(outputs, expected_outputs);
    }
    std::vector<float> inputs = {NAN};
    std::vector<float> outputs = {1, -1};
    EXPECT_TRUE(
        std::isnan(take_skipgram_steps({2, {0}, {0, 1}}, {inputs.data(), outputs.data(), 1}, 0.5F, context)));
  }
}

TEST(Skipgram, NoSteps) {
  CpuContext context(1);
  EXPECT_EQ(take_skipgram_steps({6, {}, {}}, {nullptr, nullptr, 64}, 0.5F, context), 0);
}

}  // namespace
}  // namespace tagspace::kernels
