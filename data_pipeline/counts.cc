#include "data_pipeline/counts.h"

#include <algorithm>
#include <charconv>
#include <unordered_set>

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
  std::vector<NamedCount> counts;
  std::unordered_set<std::string_view> names;
  for (std::size_t begin = 0; begin < text.size();) {
    const auto fail = [&](const std::string& message) {
      throw Error(path.string() + ":" + std::to_string(counts.size() + 1) + ": " + message);
    };
    const std::size_t end = text.find('\n', begin);
    if (end == std::string::npos) fail("the last line has no end: the file is cut off");
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    const std::size_t tab = line.find('\t');
    if (tab == 0 || tab == std::string_view::npos) fail("expected a name, a tab and a count");
    NamedCount entry{std::string(line.substr(0, tab)), 0};
    const std::string_view number = line.substr(tab + 1);
    const auto [rest, error] = std::from_chars(number.data(), number.data() + number.size(), entry.count);
    if (error != std::errc() || rest != number.data() + number.size()) {
      fail("the count '" + std::string(number) + "' is not a number");
    }
    if (!names.insert(line.substr(0, tab)).second) fail("'" + entry.name + "' occurs a second time");
    if (!counts.empty() && !is_ranked_before(counts.back(), entry)) {
      fail("'" + entry.name + "' is out of order (higher counts come first, equal ones in byte order)");
    }
    counts.push_back(std::move(entry));
  }
  return counts;
}

}  // namespace tagspace
