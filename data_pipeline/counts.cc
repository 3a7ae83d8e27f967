#include "data_pipeline/counts.h"

#include <algorithm>
#include <charconv>
#include <functional>

#include "base/error.h"
#include "base/files.h"

namespace tagspace {

namespace {

std::uint32_t hash_of(std::string_view name) {
  const std::size_t hash = std::hash<std::string_view>()(name);
  return static_cast<std::uint32_t>(hash ^ (hash >> 32U));
}

}  // namespace

std::size_t Counts::slot_of(std::string_view name, std::uint32_t hash) const {
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t at = hash & mask;; at = (at + 1) & mask) {
    const Slot& slot = slots_[at];
    if (slot.number == kEmpty || (slot.hash == hash && this->name(slot.number) == name)) return at;
  }
}

void Counts::grow() {
  std::vector<Slot> old(std::max<std::size_t>(64, 2 * slots_.size()));
  old.swap(slots_);
  const std::size_t mask = slots_.size() - 1;
  for (const Slot& slot : old) {
    if (slot.number == kEmpty) continue;
    std::size_t at = slot.hash & mask;
    while (slots_[at].number != kEmpty) at = (at + 1) & mask;
    slots_[at] = slot;
  }
}

std::uint32_t Counts::add(std::string_view name, std::uint64_t count) {
  if (2 * (counts_.size() + 1) > slots_.size()) grow();
  const std::uint32_t hash = hash_of(name);
  Slot& slot = slots_[slot_of(name, hash)];
  if (slot.number == kEmpty) {
    if (size() == kEmpty) throw Error("there are more than 4,294,967,294 different words or hashtags");
    slot = {hash, size()};
    names_.insert(names_.end(), name.begin(), name.end());
    begins_.push_back(names_.size());
    counts_.push_back(0);
  }
  counts_[slot.number] += count;
  return slot.number;
}

std::optional<std::uint32_t> Counts::find(std::string_view name) const {
  if (slots_.empty()) return std::nullopt;
  const Slot& slot = slots_[slot_of(name, hash_of(name))];
  if (slot.number == kEmpty) return std::nullopt;
  return slot.number;
}

void Counts::clear() {
  names_.clear();
  begins_.resize(1);
  counts_.clear();
  std::fill(slots_.begin(), slots_.end(), Slot{});
}

std::vector<NamedCount> Counts::most_frequent(std::uint64_t min_count, std::size_t most) const {
  std::vector<std::uint32_t> numbers;
  for (std::uint32_t number = 0; number < size(); ++number) {
    if (counts_[number] >= min_count) numbers.push_back(number);
  }
  std::sort(numbers.begin(), numbers.end(), [&](std::uint32_t a, std::uint32_t b) {
    return counts_[a] != counts_[b] ? counts_[a] > counts_[b] : name(a) < name(b);
  });
  if (numbers.size() > most) numbers.resize(most);
  std::vector<NamedCount> result;
  result.reserve(numbers.size());
  for (const std::uint32_t number : numbers) result.push_back({std::string(name(number)), counts_[number]});
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
