// The loops around simd.h's row updates.
#include "model/kernels/row_update.h"

#include "model/kernels/simd.h"
#include "model/kernels/tasks.h"

namespace tagspace::kernels {
namespace {

constexpr std::size_t kRowsPerTask = 64;
constexpr std::size_t kElementsPerTask = 16384;

}  // namespace

void RowGrouper::group(const std::uint32_t* keys, std::size_t count, RowGroups& groups) {
  sorted_.clear();
  std::uint32_t largest = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (keys[i] == kNoRow) continue;
    sorted_.push_back(std::uint64_t{keys[i]} << 32 | i);
    largest = std::max(largest, keys[i]);
  }
  constexpr unsigned kBits = 11;
  buffer_.resize(sorted_.size());
  for (unsigned shift = 0; shift < 32 && (largest >> shift) != 0; shift += kBits) {
    const auto digit = [&](std::uint64_t entry) { return (entry >> (32 + shift)) & ((1U << kBits) - 1); };
    std::size_t starts[(1U << kBits) + 1] = {};
    for (const auto entry : sorted_) ++starts[digit(entry) + 1];
    for (std::size_t d = 0; d < (1U << kBits); ++d) starts[d + 1] += starts[d];
    for (const auto entry : sorted_) buffer_[starts[digit(entry)]++] = entry;
    sorted_.swap(buffer_);
  }
  groups.rows.clear();
  groups.offsets.clear();
  groups.order.clear();
  for (const auto entry : sorted_) {
    const auto row = static_cast<std::uint32_t>(entry >> 32);
    if (groups.rows.empty() || groups.rows.back() != row) {
      groups.rows.push_back(row);
      groups.offsets.push_back(static_cast<std::uint32_t>(groups.order.size()));
    }
    groups.order.push_back(static_cast<std::uint32_t>(entry));
  }
  groups.offsets.push_back(static_cast<std::uint32_t>(groups.order.size()));
}

void update_rows(const Optimizer& optimizer, const RowGroups& groups, const RowContributions& contributions,
                 std::size_t dim, float* table, float* sums, CpuContext& context) {
  const RowGroupsView view{groups.rows.data(), groups.offsets.data(), groups.order.data()};
  for_ranges(context, groups.rows.size(), kRowsPerTask, [&](std::size_t begin, std::size_t end) {
    context.simd->update_row_groups(optimizer, view, contributions, dim, table, sums, begin, end);
  });
}

void update_dense(const Optimizer& optimizer, const float* gradient, std::size_t count, float* values,
                  float* sums, CpuContext& context) {
  for_ranges(context, count, kElementsPerTask, [&](std::size_t begin, std::size_t end) {
    context.simd->update_elements(optimizer, gradient, values, sums, begin, end);
  });
}

}  // namespace tagspace::kernels
