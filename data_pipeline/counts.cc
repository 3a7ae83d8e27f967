#include "data_pipeline/counts.h"

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "base/files.h"

namespace tagspace {

void Counts::add(std::string_view name, std::uint64_t count) {
  const auto found = counts_.find(name);
  if (found != counts_.end()) {
    found->second += count;
  } else {
    counts_.emplace(name, count);
  }
}

std::vector<NamedCount> Counts::most_frequent(std::uint64_t min_count, std::size_t most) const {
  std::vector<NamedCount> result;
  for (const auto& [name, count] : counts_) {
    if (count >= min_count) result.push_back({name, count});
  }
  std::sort(result.begin(), result.end(), is_ranked_before);
  if (result.size() > most) result.resize(most);
  return result;
}

NameIndex::NameIndex(std::size_t most) {
  std::size_t slots = 16;
  while (slots < 2 * most) slots *= 2;  // at most half of them are used
  slots_.resize(slots);
}

NameIndex::NameIndex(const std::vector<NamedCount>& names) : NameIndex(names.size()) {
  for (std::uint32_t i = 0; i < names.size(); ++i) {
    const std::uint64_t hash = std::hash<std::string_view>()(names[i].name);
    slots_[place(names[i].name, hash, names)] = {static_cast<std::uint32_t>(hash >> 32U), i + 1};
  }
}

std::size_t NameIndex::place(std::string_view name, std::uint64_t hash,
                             const std::vector<NamedCount>& names) const {
  std::size_t at = hash & (slots_.size() - 1);
  while (slots_[at].used != 0 && (slots_[at].tag != static_cast<std::uint32_t>(hash >> 32U) ||
                                  names[slots_[at].used - 1].name != name)) {
    at = (at + 1) & (slots_.size() - 1);
  }
  return at;
}

bool NameIndex::add_last(const std::vector<NamedCount>& names) {
  const std::uint64_t hash = std::hash<std::string_view>()(names.back().name);
  Slot& slot = slots_[place(names.back().name, hash, names)];
  if (slot.used != 0) return false;
  slot = {static_cast<std::uint32_t>(hash >> 32U), static_cast<std::uint32_t>(names.size())};
  return true;
}

std::optional<std::uint32_t> NameIndex::find(std::string_view name,
                                             const std::vector<NamedCount>& names) const {
  if (slots_.empty()) return std::nullopt;
  const Slot& slot = slots_[place(name, std::hash<std::string_view>()(name), names)];
  if (slot.used == 0) return std::nullopt;
  return slot.used - 1;
}

bool is_ranked_before(const NamedCount& a, const NamedCount& b) {
  return a.count != b.count ? a.count > b.count : a.name < b.name;
}

void save_counts(const std::filesystem::path& path, const std::vector<NamedCount>& counts) {
  AtomicFile file(path);
  for (const NamedCount& entry : counts) file.write(entry.name + "\t" + std::to_string(entry.count) + "\n");
  file.commit();
}

std::vector<NamedCount> load_counts(const std::filesystem::path& path) {
  const std::string text = read_file(path);
  const auto lines = static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
  std::vector<NamedCount> counts;
  counts.reserve(lines);
  NameIndex index(lines);
  std::size_t number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    ++number;
    const auto fail = [&](const std::string& message) {
      throw Error(path.string() + ":" + std::to_string(number) + ": " + message);
    };
    const std::size_t end = text.find('\n', begin);
    if (end == std::string::npos) fail("the last line has no end: the file is cut off");
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    const std::size_t tab = line.find('\t');
    if (tab == 0 || tab == std::string_view::npos) fail("expected a name, a tab and a count");
    NamedCount entry{std::string(line.substr(0, tab)), 0};
    const std::string_view count = line.substr(tab + 1);
    const auto [rest, error] = std::from_chars(count.data(), count.data() + count.size(), entry.count);
    if (error != std::errc() || rest != count.data() + count.size()) {
      fail("the count '" + std::string(count) + "' is not a number");
    }
    counts.push_back(std::move(entry));
    const std::string& name = counts.back().name;
    if (!index.add_last(counts)) fail("'" + name + "' occurs a second time");
    if (number > 1 && !is_ranked_before(counts[number - 2], counts.back())) {
      fail("'" + name + "' is out of order (higher counts come first, equal ones in byte order)");
    }
  }
  return counts;
}

}  // namespace tagspace
