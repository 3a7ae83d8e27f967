// The optimiser's step on those rows of a table that a batch touched.
//
// A table's gradient never exists as a [rows, dim] array. Contributions, each a vector and a coefficient, are
// sorted by row; each touched row has one owner, who adds its contributions up in the batch's order and
// applies them at once. Hence the result does not depend on the number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace tagspace::kernels {

struct CpuContext;  // cpu_context.h

enum class OptimizerKind { adagrad, sgd };

// adagrad (Duchi, Hazan, Singer, JMLR 2011, diagonal form): sum += g^2, x -= rate g / (sqrt(sum) + 1e-10).
// sgd: x -= rate g.
struct Optimizer {
  OptimizerKind kind = OptimizerKind::adagrad;
  float learning_rate = 0.05F;
  float max_norm = 0;  // rows longer than this are cut to it after the step; 0: never
};
constexpr float kAdagradEpsilon = 1e-10F;

// Contributions grouped by row: row rows[i] receives the contributions offsets[i] .. offsets[i + 1].
struct RowGroups {
  std::vector<std::uint32_t> rows;     // distinct, ascending
  std::vector<std::uint32_t> offsets;  // [rows + 1]
  std::vector<std::uint32_t> order;    // [contributions] their numbers, ascending within a row
};

// Groups contribution i, which goes to row keys[i], for all i < count; kNoRow goes nowhere. A stable radix
// sort.
constexpr std::uint32_t kNoRow = 0xFFFFFFFF;
class RowGrouper {
 public:
  void group(const std::uint32_t* keys, std::size_t count, RowGroups& groups);
  // The same for all i < offsets[posts], where contributions are called by the number of their post: that of
  // i has the number p if offsets[p] <= i < offsets[p + 1], and is in `order` as often as it has
  // contributions.
  void group_by_post(const std::uint32_t* keys, const std::uint32_t* offsets, std::size_t posts,
                     RowGroups& groups);

 private:
  void sort(std::size_t count);
  void list(std::size_t count, RowGroups& groups) const;

  std::vector<std::uint64_t> sorted_;  // a row and a contribution's number
  std::vector<std::uint64_t> buffer_;
};

// Contribution c adds coefficient[c] * vectors[source[c]] + self[c] * (the row itself) to its row's gradient;
// if both factors are 0 it counts as none. A row without contributions stays as it is.
struct RowContributions {
  const float* vectors = nullptr;         // [sources, dim]
  const std::uint32_t* source = nullptr;  // [contributions]
  const float* coefficient = nullptr;     // [contributions]; null: all 1
  const float* self = nullptr;            // [contributions]; null: all 0
};

// `table` [rows, dim]; `sums` [rows, dim], Adagrad's sums of squares, null under sgd.
void update_rows_reference(const Optimizer& optimizer, const RowGroups& groups,
                           const RowContributions& contributions, std::size_t dim, float* table, float* sums);

// The same for `count` tables together, and for a table in the caller's time. `beside` is one task more,
// which may take longer than the others.
struct TableUpdate {
  const RowGroups* groups = nullptr;
  RowContributions contributions;
  float* table = nullptr;
  float* sums = nullptr;
};
void update_rows(const Optimizer& optimizer, const TableUpdate* tables, std::size_t count, std::size_t dim,
                 CpuContext& context, const std::function<void()>& beside = {});
void update_rows_alone(const Optimizer& optimizer, const TableUpdate& table, std::size_t dim,
                       const CpuContext& context);

// The same for an array of which every element has a gradient; max_norm is not used.
void update_dense(const Optimizer& optimizer, const float* gradient, std::size_t count, float* values,
                  float* sums, CpuContext& context);

}  // namespace tagspace::kernels
