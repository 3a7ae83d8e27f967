#include <algorithm>
#include <numeric>
#include <utility>

#include "data_pipeline/corpus.h"

namespace tagspace {

HashtagVocabulary::HashtagVocabulary(std::vector<Entry> entries)
    : entries_(std::move(entries)), by_name_(entries_.size()) {
  std::iota(by_name_.begin(), by_name_.end(), 0U);
  std::sort(by_name_.begin(), by_name_.end(),
            [&](std::uint32_t a, std::uint32_t b) { return entries_[a].name < entries_[b].name; });
}

std::optional<std::uint32_t> HashtagVocabulary::find(std::string_view name) const {
  const auto found =
      std::lower_bound(by_name_.begin(), by_name_.end(), name,
                       [&](std::uint32_t id, std::string_view n) { return entries_[id].name < n; });
  if (found == by_name_.end() || entries_[*found].name != name) return std::nullopt;
  return *found;
}

void HashtagVocabulary::save(const std::filesystem::path& path) const { save_counts(path, entries_); }

HashtagVocabulary HashtagVocabulary::load(const std::filesystem::path& path) {
  return HashtagVocabulary(load_counts(path));
}

}  // namespace tagspace
