// The loops around simd.h's row updates.
#include "model/kernels/row_update.h"

#include <algorithm>

#include "model/kernels/simd.h"
#include "model/kernels/tasks.h"

namespace tagspace::kernels {
namespace {

constexpr std::size_t kCostPerTask = 128;
constexpr std::size_t kElementsPerTask = 16384;

}  // namespace

void RowGrouper::group(const std::uint32_t* keys, std::size_t count, RowGroups& groups) {
  sorted_.resize(count);
  std::size_t used = 0;
  std::uint32_t largest = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (keys[i] == kNoRow) continue;
    sorted_[used++] = std::uint64_t{keys[i]} << 32 | i;
    largest = std::max(largest, keys[i]);
  }
  sorted_.resize(used);
  buffer_.resize(used);
  // For few keys, to sum up a long histogram would cost more than another pass.
  if (used < 2048) {
    sort<8>(largest);
  } else {
    sort<11>(largest);
  }
  groups.rows.clear();
  groups.offsets.clear();
  groups.order.resize(used);
  for (std::size_t i = 0; i < used; ++i) {
    const auto row = static_cast<std::uint32_t>(sorted_[i] >> 32);
    if (groups.rows.empty() || groups.rows.back() != row) {
      groups.rows.push_back(row);
      groups.offsets.push_back(static_cast<std::uint32_t>(i));
    }
    groups.order[i] = static_cast<std::uint32_t>(sorted_[i]);
  }
  groups.offsets.push_back(static_cast<std::uint32_t>(used));
}

template <unsigned kBits>
void RowGrouper::sort(std::uint32_t largest) {
  for (unsigned shift = 0; shift < 32 && (largest >> shift) != 0; shift += kBits) {
    const auto digit = [&](std::uint64_t entry) { return (entry >> (32 + shift)) & ((1U << kBits) - 1); };
    std::uint32_t starts[(1U << kBits) + 1] = {};
    for (const auto entry : sorted_) ++starts[digit(entry) + 1];
    for (std::size_t d = 0; d < (1U << kBits); ++d) starts[d + 1] += starts[d];
    for (const auto entry : sorted_) buffer_[starts[digit(entry)]++] = entry;
    sorted_.swap(buffer_);
  }
}

// A task is as many rows as have about kCostPerTask contributions, a row itself counted as one: a few words
// make up most of a text.
void update_rows(const Optimizer& optimizer, const TableUpdate* tables, std::size_t count, std::size_t dim,
                 CpuContext& context) {
  std::vector<std::size_t> first_tasks = {0};
  for (const TableUpdate* table = tables; table != tables + count; ++table) {
    const std::size_t cost = table->groups->rows.size() + table->groups->order.size();
    first_tasks.push_back(first_tasks.back() + tasks_of(cost, kCostPerTask));
  }
  context.pool.run(first_tasks.back(), [&](std::size_t task, std::size_t) {
    const auto next = std::upper_bound(first_tasks.begin(), first_tasks.end(), task);
    const TableUpdate& table = tables[static_cast<std::size_t>(next - first_tasks.begin()) - 1];
    const std::size_t number = task - *(next - 1);
    const RowGroups& groups = *table.groups;
    // The first group that begins at or after a cost.
    const auto group_at = [&](std::size_t cost) {
      std::size_t low = 0;
      std::size_t high = groups.rows.size();
      while (low < high) {
        const std::size_t middle = (low + high) / 2;
        if (middle + groups.offsets[middle] < cost) {
          low = middle + 1;
        } else {
          high = middle;
        }
      }
      return low;
    };
    context.simd->update_row_groups(
        optimizer, {groups.rows.data(), groups.offsets.data(), groups.order.data()}, table.contributions, dim,
        table.table, table.sums, group_at(number * kCostPerTask), group_at((number + 1) * kCostPerTask));
  });
}

void update_dense(const Optimizer& optimizer, const float* gradient, std::size_t count, float* values,
                  float* sums, CpuContext& context) {
  for_ranges(context, count, kElementsPerTask, [&](std::size_t begin, std::size_t end) {
    context.simd->update_elements(optimizer, gradient, values, sums, begin, end);
  });
}

}  // namespace tagspace::kernels
