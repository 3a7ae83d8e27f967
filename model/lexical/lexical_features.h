// What a post says, as a sparse vector: its words, pairs of neighbouring words, and beginnings of words.
//
// A word is a token of the run's tokenizer. Three kinds of feature: a token; two tokens that follow each
// other; the first 4, 5 or 6 letters of a token. A feature that a post has tf times and df of the training's
// N posts have counts
//
//   kind * (1 + ln tf) * ln((N + 1) / df),   kind = 1 for a token, 0.7 for a pair, 0.5 for a beginning,
//
// and the vector has length 1 (tf-idf with cosine normalisation: Salton, Buckley, "Term-weighting approaches
// in automatic text retrieval", IP&M 1988). What no training post has is left out.
//
// Naive Bayes counts instead: a feature has the value kind * tf, and two more features say what the sum of
// these values is, and that it is a post.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tagspace {

// A feature of a post, by number.
struct LexicalFeature {
  std::uint32_t number = 0;
  float value = 0;
};

// Names features: what a post's tokens have in them, before it is known what the training posts had.
class LexicalKeys {
 public:
  // The texts of the vocabulary's tokens, by id.
  explicit LexicalKeys(std::vector<std::string> tokens);

  // The keys of a post's features, as often as they occur, in no particular order; `keys` is overwritten.
  void of_post(std::span<const std::uint32_t> tokens, std::vector<std::uint64_t>& keys) const;
  // The keys of the beginnings of a word.
  static void of_beginnings(std::string_view word, std::vector<std::uint64_t>& keys);
  [[nodiscard]] static std::uint64_t of_token(std::uint32_t token);
  [[nodiscard]] static std::uint64_t of_pair(std::uint32_t first, std::uint32_t second);

  // Of vectors that count: the value of the first is always 1, that of the second the sum of all others.
  static constexpr std::uint64_t kConstant = std::uint64_t{3} << 62U;
  static constexpr std::uint64_t kSize = kConstant + 1;

  [[nodiscard]] static bool is_beginning(std::uint64_t key);
  // 1, 0.7 or 0.5.
  [[nodiscard]] static float weight_of_kind(std::uint64_t key);
  // The feature's text as it stands in the post, such as "stock exchange" or "exch...". Empty if the post has
  // no such feature.
  [[nodiscard]] std::string text(std::uint64_t key, std::span<const std::uint32_t> tokens) const;

  [[nodiscard]] const std::vector<std::string>& tokens() const { return tokens_; }

 private:
  std::vector<std::string> tokens_;
  std::vector<std::uint64_t> beginnings_;         // of all tokens, end to end
  std::vector<std::uint32_t> beginning_offsets_;  // [tokens + 1]
};

// Features by key: those that training posts have. The arrays are the caller's. Where the last two are
// LexicalKeys::kConstant and kSize, vectors count.
struct LexicalVocabulary {
  std::span<const std::uint64_t> keys;  // ascending
  std::span<const float> weights;       // of a feature that occurs once: kind * ln((N + 1) / df), or kind

  [[nodiscard]] bool counts() const { return !keys.empty() && keys.back() == LexicalKeys::kSize; }
  // The number of the feature, or keys.size() if there is none.
  [[nodiscard]] std::size_t find(std::uint64_t key) const;
  // The post's vector, by ascending number. `keys` are those of the post; their order is lost.
  void vector_of(std::vector<std::uint64_t>& keys, std::vector<LexicalFeature>& vector) const;
};

// The vector of a post with these tokens.
[[nodiscard]] std::vector<LexicalFeature> lexical_vector(const LexicalKeys& keys,
                                                         const LexicalVocabulary& vocabulary,
                                                         std::span<const std::uint32_t> tokens);

}  // namespace tagspace
