// The kernel of row updates, run on the CPU, against the plain reference: bit for bit, but for the norm's
// additions.
#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <random>
#include <string>
#include <vector>

#include "model/kernels/cuda/row_update.cuh"
#include "model/kernels/row_update.h"
#include "tests/simt/simt.h"

namespace tagspace::kernels {
namespace {

// Random contributions to the rows of a table, many to the first rows and few to the others.
struct Problem {
  std::size_t dim;
  std::vector<float> table, sums, vectors, coefficients, selves;
  std::vector<std::uint32_t> sources;
  RowGroups groups;

  Problem(std::size_t dimension, std::uint32_t rows, std::size_t contributions, std::uint64_t seed)
      : dim(dimension) {
    constexpr std::uint32_t kSources = 23;
    std::mt19937_64 engine(seed);
    const auto normals = [&](std::size_t count, float scale) {
      std::normal_distribution<float> normal(0, scale);
      std::vector<float> values(count);
      for (auto& value : values) value = normal(engine);
      return values;
    };
    table = normals(rows * dim, 0.3F);
    sums = normals(rows * dim, 0.3F);
    for (auto& sum : sums) sum = std::abs(sum);
    vectors = normals(kSources * dim, 0.3F);
    coefficients = normals(contributions, 1);
    selves = normals(contributions, 0.1F);
    std::vector<std::uint32_t> keys(contributions);
    for (std::size_t i = 0; i < contributions; ++i) {
      sources.push_back(static_cast<std::uint32_t>(engine() % kSources));
      const std::uint64_t draw = engine();
      keys[i] = draw % 7 == 0 ? kNoRow : static_cast<std::uint32_t>(draw / 7 % (1 + draw / 1000 % rows));
    }
    RowGrouper().group(keys.data(), contributions, groups);
  }
};

struct Case {
  OptimizerKind kind;
  float max_norm;
  bool has_coefficients;
  bool counted_on_device;
};

TEST(RowUpdateKernel, EqualsTheReference) {
  std::uint64_t seed = 0;
  for (const std::size_t dim : {1, 3, 16, 20, 64, 100, 128, 132, 256, 1021, 1024}) {
    const Problem problem(dim, 30, 200, dim);
    for (const auto& [kind, max_norm, has_coefficients, counted_on_device] :
         {Case{OptimizerKind::adagrad, 0, true, false}, Case{OptimizerKind::adagrad, 0, false, true},
          Case{OptimizerKind::adagrad, 0.3F * std::sqrt(static_cast<float>(dim)), true, false},
          Case{OptimizerKind::sgd, 0, true, true}, Case{OptimizerKind::sgd, 0, false, false},
          Case{OptimizerKind::sgd, 0.3F * std::sqrt(static_cast<float>(dim)), true, false}}) {
      const bool adagrad = kind == OptimizerKind::adagrad;
      auto expected = problem.table;
      auto expected_sums = problem.sums;
      update_rows_reference({kind, 0.05F, max_norm}, problem.groups,
                            {problem.vectors.data(), problem.sources.data(),
                             has_coefficients ? problem.coefficients.data() : nullptr,
                             has_coefficients ? problem.selves.data() : nullptr},
                            dim, expected.data(), adagrad ? expected_sums.data() : nullptr);
      std::vector<float> first;
      for (const unsigned warps : {1U, 3U, static_cast<unsigned>(2 + seed % 7)}) {
        SCOPED_TRACE("dim " + std::to_string(dim) + ", warps " + std::to_string(warps) + ", schedule " +
                     std::to_string(seed));
        auto actual = problem.table;
        auto sums = problem.sums;
        const auto count = static_cast<std::uint32_t>(problem.groups.rows.size());
        cuda::RowUpdate update;
        update.adagrad = adagrad;
        update.max_norm = max_norm;
        update.groups = counted_on_device ? count + 20 : count;
        update.group_count = counted_on_device ? &count : nullptr;
        update.rows = problem.groups.rows.data();
        update.offsets = problem.groups.offsets.data();
        update.order = problem.groups.order.data();
        update.vectors = problem.vectors.data();
        update.source = problem.sources.data();
        update.coefficient = has_coefficients ? problem.coefficients.data() : nullptr;
        update.self = has_coefficients ? problem.selves.data() : nullptr;
        update.dim = static_cast<std::uint32_t>(dim);
        update.table = actual.data();
        update.sums = adagrad ? sums.data() : nullptr;
        simt::schedule_seed = seed++;
        ASSERT_EQ(cuda::update_rows(update, warps, nullptr), 0);
        simt::schedule_seed = 0;
        EXPECT_EQ(sums, expected_sums);
        if (max_norm == 0) {
          EXPECT_EQ(actual, expected);
        } else {
          for (std::size_t i = 0; i < actual.size(); ++i) {
            ASSERT_TRUE(std::abs(actual[i] - expected[i]) <= 1e-6F * std::abs(expected[i])) << i;
          }
          EXPECT_NE(actual, problem.table);
        }
        if (first.empty()) first = actual;
        EXPECT_EQ(actual, first);
      }
    }
  }
}

TEST(RowUpdateKernel, NothingToUpdate) {
  EXPECT_EQ(cuda::update_rows({.adagrad = false, .dim = 4}, 4, nullptr), 0);
}

TEST(RowUpdateKernel, RefusesWhatCannotBe) {
  const int invalid = cudaErrorInvalidValue;
  EXPECT_EQ(cuda::update_rows({.adagrad = true, .groups = 1, .dim = 4}, 4, nullptr), invalid);  // no sums
  EXPECT_EQ(cuda::update_rows({.adagrad = false, .groups = 1, .dim = 0}, 4, nullptr), invalid);
  EXPECT_EQ(cuda::update_rows({.adagrad = false, .groups = 1, .dim = 4}, 0, nullptr), invalid);
  EXPECT_EQ(cuda::update_rows({.adagrad = false, .groups = 1, .dim = 4}, 9, nullptr), invalid);
}

}  // namespace
}  // namespace tagspace::kernels
