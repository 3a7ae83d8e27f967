#include <algorithm>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "base/files.h"
#include "data_pipeline/counts.h"
#include "data_pipeline/tokenizers.h"

namespace tagspace {
namespace {

constexpr const char* kWordsFile = "words.tsv";

class WordTokenizer final : public Tokenizer {
 public:
  WordTokenizer(const TokenizerConfig& config, std::vector<NamedCount> words)
      : Tokenizer(config), words_(std::move(words)), ids_(words_) {}

  void encode(std::string_view text, std::vector<std::uint32_t>& ids) const override {
    const std::size_t most = ids.size() + config().max_tokens;
    for (const std::string_view word : split_words(text)) {
      if (ids.size() == most) return;
      if (const auto id = ids_.find(word, words_)) ids.push_back(*id);
    }
  }

  [[nodiscard]] std::uint32_t vocab_size() const override {
    return static_cast<std::uint32_t>(words_.size());
  }
  [[nodiscard]] std::string token(std::uint32_t id) const override { return words_.at(id).name; }
  [[nodiscard]] std::uint32_t id(std::string_view token) const override {
    return ids_.find(token, words_).value_or(vocab_size());
  }

 private:
  void save_vocabulary(const std::filesystem::path& folder) const override {
    save_counts(folder / kWordsFile, words_);
  }

  std::vector<NamedCount> words_;
  NameIndex ids_;  // of words_
};

}  // namespace

std::unique_ptr<Tokenizer> make_word_tokenizer(const TokenizerConfig& config, const Counts& counts) {
  auto words = counts.most_frequent(config.min_count, config.vocab_size);
  if (words.empty()) {
    std::uint32_t different = 0;
    for (std::uint32_t word = 0; word < counts.size(); ++word) different += counts.count(word) > 0 ? 1 : 0;
    throw Error("no word occurs tokenizer.min_count = " + std::to_string(config.min_count) +
                " times in the training posts (there are " + std::to_string(different) +
                " words): lower tokenizer.min_count, or give more posts");
  }
  return std::make_unique<WordTokenizer>(config, std::move(words));
}

std::unique_ptr<Tokenizer> train_word_tokenizer(const TokenizerConfig& config, const NextTexts& next) {
  Counts counts;
  std::vector<std::string> texts;
  while (next(texts)) {
    for (const std::string& text : texts) {
      for (const std::string_view word : split_words(text)) counts.add(word, 1);
    }
  }
  return make_word_tokenizer(config, counts);
}

std::unique_ptr<Tokenizer> load_word_tokenizer(const TokenizerConfig& config,
                                               const std::filesystem::path& folder) {
  return std::make_unique<WordTokenizer>(config, load_counts(folder / kWordsFile));
}

}  // namespace tagspace
