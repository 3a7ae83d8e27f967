// What a test of WARP needs whatever makes its problems: the arrays of a batch and those of a result.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "model/kernels/warp.h"

namespace tagspace::kernels {

// Filled by the tests, each in its own way.
struct WarpProblem {
  std::uint32_t posts;
  std::uint32_t dim;
  std::uint32_t rows;
  std::vector<float> vectors, table;
  std::vector<std::uint32_t> own, own_offsets = {0};
  std::vector<std::uint32_t> positives, positive_offsets = {0};

  WarpProblem(std::uint32_t post_count, std::uint32_t dimension, std::uint32_t row_count)
      : posts(post_count), dim(dimension), rows(row_count) {}

  [[nodiscard]] std::size_t pairs() const { return positives.size(); }
  [[nodiscard]] WarpBatch batch(std::uint64_t step) const {
    return {posts,
            dim,
            rows,
            vectors.data(),
            table.data(),
            own.data(),
            own_offsets.data(),
            positives.data(),
            positive_offsets.data(),
            step,
            17};
  }
};

// Begins with values that no result has, so that what is not written shows.
struct WarpOutcome {
  explicit WarpOutcome(const WarpProblem& problem)
      : violator(problem.pairs(), 99),
        tries(problem.pairs(), 99),
        loss(problem.pairs(), 99),
        positive(problem.pairs()),
        negative(problem.pairs()),
        post(std::size_t{problem.posts} * problem.dim, 99) {}
  [[nodiscard]] WarpResult result() {
    return {violator.data(), tries.data(), loss.data(), positive.data(), negative.data(), post.data()};
  }

  std::vector<std::uint32_t> violator, tries;
  std::vector<float> loss;
  std::vector<RowGradient> positive, negative;
  std::vector<float> post;
};

}  // namespace tagspace::kernels
