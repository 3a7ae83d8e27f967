// How often things occur, and files of that.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace tagspace {

struct NamedCount {
  std::string name;
  std::uint64_t count = 0;
};

class Counts {
 public:
  void add(std::string_view name, std::uint64_t count);

  [[nodiscard]] std::size_t size() const { return counts_.size(); }

  // At most `most` of those that occur at least `min_count` times, in the order of is_ranked_before().
  [[nodiscard]] std::vector<NamedCount> most_frequent(std::uint64_t min_count, std::size_t most) const;

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view name) const { return std::hash<std::string_view>()(name); }
  };
  std::unordered_map<std::string, std::uint64_t, Hash, std::equal_to<>> counts_;
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
