// Tokenizers: cleaned text to token ids, behind one interface.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tagspace {

enum class TokenizerType { word, sentencepiece };

struct TokenizerConfig {
  TokenizerType type = TokenizerType::sentencepiece;
  std::uint32_t vocab_size = 16000;  // at most; sentencepiece: fewer only if the text is short
  std::uint32_t min_count = 2;       // word: rarer words are left out
  bool lowercase = true;
  std::uint32_t max_tokens = 256;  // tokens of a post beyond these are left out
  std::filesystem::path model;     // sentencepiece: a given .model; empty: trained on the training posts
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;
  Tokenizer(Tokenizer&&) = delete;
  Tokenizer& operator=(Tokenizer&&) = delete;

  // Appends the ids of `text` (as clean_text gives it) to `ids`; unknown words are left out, and all after
  // the first max_tokens. Thread-safe.
  virtual void encode(std::string_view text, std::vector<std::uint32_t>& ids) const = 0;

  [[nodiscard]] virtual std::uint32_t vocab_size() const = 0;
  [[nodiscard]] virtual std::string token(std::uint32_t id) const = 0;
  // The id of exactly this token, or vocab_size() if there is none.
  [[nodiscard]] virtual std::uint32_t id(std::string_view token) const = 0;

  // Writes what load() needs into an existing folder ("tokenizer.json" and "words.tsv" or
  // "sentencepiece.model").
  void save(const std::filesystem::path& folder) const;
  [[nodiscard]] static std::unique_ptr<Tokenizer> load(const std::filesystem::path& folder);

  // Trains on the texts that `next` puts into its argument, a block a call, until it returns false. `next`
  // may be called from as many as `threads` threads at once. The result depends on the texts alone, not on
  // their order or the threads. A sentencepiece model that `config` names is loaded instead, and `next` not
  // called. Error if the texts are too few.
  [[nodiscard]] static std::unique_ptr<Tokenizer> train(
      const TokenizerConfig& config, const std::function<bool(std::vector<std::string>&)>& next,
      std::uint32_t threads);

  [[nodiscard]] const TokenizerConfig& config() const { return config_; }

 protected:
  explicit Tokenizer(TokenizerConfig config) : config_(std::move(config)) {}

 private:
  virtual void save_vocabulary(const std::filesystem::path& folder) const = 0;

  TokenizerConfig config_;
};

// Splits text as the word tokenizer does: runs of letters, digits, marks and underscores of any script, with
// inner apostrophes; each ideograph and kana of its own; "<url>" and "<user>"; a run of one punctuation mark
// or symbol counts once.
[[nodiscard]] std::vector<std::string_view> split_words(std::string_view text);

// The texts of the vocabulary's tokens, by id.
[[nodiscard]] std::vector<std::string> token_texts(const Tokenizer& tokenizer);

}  // namespace tagspace
