// What a test of WARP needs whatever makes its problems: the arrays of a batch and those of a result.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "model/kernels/warp.h"

namespace tagspace::kernels {

// Filled by the tests, each in its own way. Arrays are of memory that what is tested can read: `Vector`s.
template <template <typename> class Vector>
struct BasicWarpProblem {
  std::uint32_t posts;
  std::uint32_t dim;
  std::uint32_t rows;
  Vector<float> vectors, table;
  Vector<std::uint32_t> own, own_offsets = {0};
  Vector<std::uint32_t> positives, positive_offsets = {0};

  BasicWarpProblem(std::uint32_t post_count, std::uint32_t dimension, std::uint32_t row_count)
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
template <template <typename> class Vector>
struct BasicWarpOutcome {
  explicit BasicWarpOutcome(const BasicWarpProblem<Vector>& problem)
      : violator(problem.pairs(), 99),
        tries(problem.pairs(), 99),
        loss(problem.pairs(), 99),
        positive(problem.pairs()),
        negative(problem.pairs()),
        post(std::size_t{problem.posts} * problem.dim, 99) {}
  [[nodiscard]] WarpResult result() {
    return {violator.data(), tries.data(), loss.data(), positive.data(), negative.data(), post.data()};
  }

  Vector<std::uint32_t> violator, tries;
  Vector<float> loss;
  Vector<RowGradient> positive, negative;
  Vector<float> post;
};

template <typename T>
using HostVector = std::vector<T>;
using WarpProblem = BasicWarpProblem<HostVector>;
using WarpOutcome = BasicWarpOutcome<HostVector>;

}  // namespace tagspace::kernels
