// Counting keys; private to this folder.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace tagspace {

// How often each of many keys occurs, in memory that grows with the distinct ones.
class SortedCounts {
 public:
  void add(std::span<const std::uint64_t> keys) {
    block_.insert(block_.end(), keys.begin(), keys.end());
    if (block_.size() >= kBlock) merge();
  }

  struct Count {
    std::uint64_t key;
    std::uint32_t count;
  };
  // Ascending by key.
  std::vector<Count> take() {
    merge();
    return std::move(counts_);
  }

 private:
  static constexpr std::size_t kBlock = std::size_t{1} << 24U;

  void merge() {
    std::sort(block_.begin(), block_.end());
    std::vector<Count> merged;
    merged.reserve(counts_.size() + block_.size() / 4);
    auto old = counts_.begin();
    for (std::size_t i = 0; i < block_.size();) {
      std::size_t end = i + 1;
      while (end < block_.size() && block_[end] == block_[i]) ++end;
      while (old != counts_.end() && old->key < block_[i]) merged.push_back(*old++);
      auto count = static_cast<std::uint32_t>(end - i);
      if (old != counts_.end() && old->key == block_[i]) count += (old++)->count;
      merged.push_back({block_[i], count});
      i = end;
    }
    merged.insert(merged.end(), old, counts_.end());
    counts_ = std::move(merged);
    block_.clear();
  }

  std::vector<std::uint64_t> block_;
  std::vector<Count> counts_;
};

}  // namespace tagspace
