// The loops around simd.h's row updates.
#include "model/kernels/row_update.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "model/kernels/simd.h"
#include "model/kernels/tasks.h"

namespace tagspace::kernels {
namespace {

constexpr std::size_t kCostPerTask = 128;
constexpr std::size_t kElementsPerTask = 16384;

}  // namespace

void RowGrouper::group(const std::uint32_t* keys, std::size_t count, RowGroups& groups) {
  std::uint64_t* const entries = room_for(sorted_, count + 1);
  std::size_t used = 0;
  // Written in any case, and written over if it is not to stay: that costs no jump.
  for (std::size_t i = 0; i < count; ++i) {
    entries[used] = std::uint64_t{keys[i]} << 32 | i;
    used += keys[i] != kNoRow ? 1 : 0;
  }
  sort(used);
  list(used, groups);
}

void RowGrouper::group_by_post(const std::uint32_t* keys, const std::uint32_t* offsets, std::size_t posts,
                               RowGroups& groups) {
  std::uint64_t* const entries = room_for(sorted_, std::size_t{offsets[posts]} + 1);
  std::size_t used = 0;
  for (std::size_t post = 0; post < posts; ++post) {
    for (std::uint32_t i = offsets[post]; i < offsets[post + 1]; ++i) {
      entries[used] = std::uint64_t{keys[i]} << 32 | post;
      used += keys[i] != kNoRow ? 1 : 0;
    }
  }
  sort(used);
  list(used, groups);
}

// By the least significant digit first, in as few passes as digits of at most kMostBits bits need.
void RowGrouper::sort(std::size_t count) {
  constexpr unsigned kMostBits = 11;
  constexpr unsigned kMostDigits = (32 + kMostBits - 1) / kMostBits;
  std::uint64_t all = 0;
  for (std::size_t i = 0; i < count; ++i) all |= sorted_[i];
  const auto bits = static_cast<unsigned>(std::bit_width(all >> 32));
  const unsigned digits = (bits + kMostBits - 1) / kMostBits;
  if (digits == 0) return;
  room_for(buffer_, count);
  const unsigned width = (bits + digits - 1) / digits;
  const std::uint64_t mask = (1U << width) - 1;
  std::uint32_t starts[kMostDigits][1U << kMostBits];
  for (unsigned d = 0; d < digits; ++d) std::fill_n(starts[d], mask + 1, 0U);
  for (std::size_t i = 0; i < count; ++i) {
    for (unsigned d = 0; d < digits; ++d) ++starts[d][sorted_[i] >> (32 + d * width) & mask];
  }
  for (unsigned d = 0; d < digits; ++d) {
    std::exclusive_scan(starts[d], starts[d] + mask + 1, starts[d], 0U);
    for (std::size_t i = 0; i < count; ++i)
      buffer_[starts[d][sorted_[i] >> (32 + d * width) & mask]++] = sorted_[i];
    sorted_.swap(buffer_);
  }
}

void RowGrouper::list(std::size_t count, RowGroups& groups) const {
  groups.rows.resize(count);
  groups.offsets.resize(count + 1);
  groups.order.resize(count);
  std::size_t rows = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const auto row = static_cast<std::uint32_t>(sorted_[i] >> 32);
    groups.order[i] = static_cast<std::uint32_t>(sorted_[i]);
    // The group that it begins, or goes on with.
    const bool begins = i == 0 || sorted_[i - 1] >> 32 != row;
    rows += begins ? 1 : 0;
    groups.rows[rows - 1] = row;
    groups.offsets[rows] = static_cast<std::uint32_t>(i + 1);
  }
  groups.offsets[0] = 0;
  groups.rows.resize(rows);
  groups.offsets.resize(rows + 1);
}

namespace {

std::size_t cost_of(const RowGroups& groups) { return groups.rows.size() + groups.order.size(); }

// Of a table's update the part from one cost to another.
void update_part(const Optimizer& optimizer, const TableUpdate& table, std::size_t dim, std::size_t begin,
                 std::size_t end, const CpuContext& context) {
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
  context.simd->update_row_groups(optimizer, {groups.rows.data(), groups.offsets.data(), groups.order.data()},
                                  table.contributions, dim, table.table, table.sums, group_at(begin),
                                  group_at(end));
}

}  // namespace

// A task is as many rows as have about kCostPerTask contributions, a row itself counted as one: a few words
// make up most of a text.
void update_rows(const Optimizer& optimizer, const TableUpdate* tables, std::size_t count, std::size_t dim,
                 CpuContext& context, const std::function<void()>& beside) {
  // The longest task is the first, so that others are left over for those who wait for its end.
  std::vector<std::size_t> first_tasks = {beside ? std::size_t{1} : 0};
  for (const TableUpdate* table = tables; table != tables + count; ++table)
    first_tasks.push_back(first_tasks.back() + tasks_of(cost_of(*table->groups), kCostPerTask));
  context.pool.run(first_tasks.back(), [&](std::size_t task, std::size_t) {
    if (task < first_tasks[0]) return beside();
    const auto next = std::upper_bound(first_tasks.begin(), first_tasks.end(), task);
    const TableUpdate& table = tables[static_cast<std::size_t>(next - first_tasks.begin()) - 1];
    const std::size_t number = task - *(next - 1);
    update_part(optimizer, table, dim, number * kCostPerTask, (number + 1) * kCostPerTask, context);
  });
}

void update_rows_alone(const Optimizer& optimizer, const TableUpdate& table, std::size_t dim,
                       const CpuContext& context) {
  update_part(optimizer, table, dim, 0, cost_of(*table.groups), context);
}

void update_dense(const Optimizer& optimizer, const float* gradient, std::size_t count, float* values,
                  float* sums, CpuContext& context) {
  for_ranges(context, count, kElementsPerTask, [&](std::size_t begin, std::size_t end) {
    context.simd->update_elements(optimizer, gradient, values, sums, begin, end);
  });
}

}  // namespace tagspace::kernels
