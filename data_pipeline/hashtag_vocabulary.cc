#include <utility>

#include "data_pipeline/corpus.h"

namespace tagspace {

HashtagVocabulary::HashtagVocabulary(std::vector<Entry> entries)
    : entries_(std::move(entries)), ids_(entries_) {}

std::optional<std::uint32_t> HashtagVocabulary::find(std::string_view name) const {
  return ids_.find(name, entries_);
}

void HashtagVocabulary::save(const std::filesystem::path& path) const { save_counts(path, entries_); }

HashtagVocabulary HashtagVocabulary::load(const std::filesystem::path& path) {
  return HashtagVocabulary(load_counts(path));
}

}  // namespace tagspace
