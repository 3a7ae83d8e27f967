// How often things occur, and files of that.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tagspace {

struct NamedCount {
  std::string name;
  std::uint64_t count = 0;
};

// Names, numbered from 0 as they come, and how often each occurs. Names lie end to end, so that a name costs
// its bytes and about 30 more.
class Counts {
 public:
  // Adds `count` to what the name has, 0 if it is new; returns its number.
  std::uint32_t add(std::string_view name, std::uint64_t count);
  void add(std::uint32_t number, std::uint64_t count) { counts_[number] += count; }

  [[nodiscard]] std::optional<std::uint32_t> find(std::string_view name) const;
  [[nodiscard]] std::string_view name(std::uint32_t number) const {
    return {names_.data() + begins_[number], begins_[number + 1] - begins_[number]};
  }
  [[nodiscard]] std::uint64_t count(std::uint32_t number) const { return counts_[number]; }
  [[nodiscard]] std::uint32_t size() const { return static_cast<std::uint32_t>(counts_.size()); }

  // As new; memory is kept.
  void clear();

  // At most `most` of those that occur at least `min_count` times, in the order of is_ranked_before().
  [[nodiscard]] std::vector<NamedCount> most_frequent(std::uint64_t min_count, std::size_t most) const;

 private:
  struct Slot {
    std::uint32_t hash = 0;
    std::uint32_t number = kEmpty;
  };
  static constexpr std::uint32_t kEmpty = 0xFFFFFFFF;

  // The slot that holds the name, or the empty one where it belongs.
  [[nodiscard]] std::size_t slot_of(std::string_view name, std::uint32_t hash) const;
  void grow();

  std::vector<char> names_;
  std::vector<std::size_t> begins_ = {0};  // [names + 1]
  std::vector<std::uint64_t> counts_;      // [names]
  std::vector<Slot> slots_;                // a power of two, at most half of them taken
};

// Finds names in a list: a hash table of eight bytes a slot, made in one pass. It holds numbers, not names:
// all its functions are to be given the same list.
class NameIndex {
 public:
  NameIndex() = default;
  // For lists of at most so many.
  explicit NameIndex(std::size_t most);
  // Of a whole list, in which no name stands twice.
  explicit NameIndex(const std::vector<NamedCount>& names);

  // Adds the last of `names`; false if its name is there already.
  bool add_last(const std::vector<NamedCount>& names);
  [[nodiscard]] std::optional<std::uint32_t> find(std::string_view name,
                                                  const std::vector<NamedCount>& names) const;

 private:
  struct Slot {
    std::uint32_t tag = 0;   // a part of the name's hash
    std::uint32_t used = 0;  // the name's number plus one; 0: free
  };
  // Where the name is, or would be.
  [[nodiscard]] std::size_t place(std::string_view name, std::uint64_t hash,
                                  const std::vector<NamedCount>& names) const;

  std::vector<Slot> slots_;
};

// More frequent first, equal counts in byte order.
[[nodiscard]] bool is_ranked_before(const NamedCount& a, const NamedCount& b);

// A line "name<TAB>count" for each. Loading checks numbers, order and that no name occurs twice; errors name
// file and line.
void save_counts(const std::filesystem::path& path, const std::vector<NamedCount>& counts);
[[nodiscard]] std::vector<NamedCount> load_counts(const std::filesystem::path& path);

}  // namespace tagspace
