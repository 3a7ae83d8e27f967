#include "model/lexical/lexical_features.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/files.h"

namespace tagspace {
namespace {

// The two highest bits of a key tell its kind.
constexpr std::uint64_t kToken = 0;
constexpr std::uint64_t kPair = 1;
constexpr std::uint64_t kBeginning = 2;
constexpr std::array<float, 3> kWeights = {1, 0.7F, 0.5F};
constexpr std::array<std::size_t, 3> kLengths = {4, 5, 6};  // letters of the beginnings

std::uint64_t key_of(std::uint64_t kind, std::uint64_t value) { return (kind << 62U) | (value >> 2U); }

// SplitMix64's finalizer: a bijection.
std::uint64_t mixed(std::uint64_t value) {
  value += 0x9E3779B97F4A7C15ULL;
  value = (value ^ (value >> 30U)) * 0xBF58476D1CE4E5B9ULL;
  value = (value ^ (value >> 27U)) * 0x94D049BB133111EBULL;
  return value ^ (value >> 31U);
}

bool continues_a_letter(char byte) { return (static_cast<unsigned char>(byte) & 0xC0U) == 0x80U; }

// Calls body(beginning) for each of the word's.
template <typename Body>
void for_beginnings(std::string_view word, const Body& body) {
  std::size_t letters = 0;
  std::size_t at = 0;
  for (const std::size_t length : kLengths) {
    while (at < word.size() && letters < length) {
      ++at;
      while (at < word.size() && continues_a_letter(word[at])) ++at;
      ++letters;
    }
    if (letters == length) body(word.substr(0, at));
  }
}

std::uint64_t key_of_beginning(std::string_view beginning) {
  Checksum checksum;
  checksum.update(beginning);
  return key_of(kBeginning, checksum.value());
}

}  // namespace

LexicalKeys::LexicalKeys(std::vector<std::string> tokens) : tokens_(std::move(tokens)) {
  beginning_offsets_.push_back(0);
  for (const std::string& token : tokens_) {
    of_beginnings(token, beginnings_);
    beginning_offsets_.push_back(static_cast<std::uint32_t>(beginnings_.size()));
  }
}

void LexicalKeys::of_beginnings(std::string_view word, std::vector<std::uint64_t>& keys) {
  for_beginnings(word, [&](std::string_view beginning) { keys.push_back(key_of_beginning(beginning)); });
}

std::uint64_t LexicalKeys::of_token(std::uint32_t token) { return key_of(kToken, mixed(token)); }

std::uint64_t LexicalKeys::of_pair(std::uint32_t first, std::uint32_t second) {
  return key_of(kPair, mixed((std::uint64_t{first} << 32U) | second));
}

void LexicalKeys::of_post(std::span<const std::uint32_t> tokens, std::vector<std::uint64_t>& keys) const {
  keys.clear();
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const std::uint32_t token = tokens[i];
    keys.push_back(of_token(token));
    if (i > 0) keys.push_back(of_pair(tokens[i - 1], token));
    keys.insert(keys.end(), beginnings_.begin() + beginning_offsets_[token],
                beginnings_.begin() + beginning_offsets_[token + 1]);
  }
}

bool LexicalKeys::is_beginning(std::uint64_t key) { return key >> 62U == kBeginning; }

float LexicalKeys::weight_of_kind(std::uint64_t key) { return kWeights.at(key >> 62U); }

std::string LexicalKeys::text(std::uint64_t key, std::span<const std::uint32_t> tokens) const {
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const std::string& token = tokens_[tokens[i]];
    if (of_token(tokens[i]) == key) return token;
    if (i > 0 && of_pair(tokens[i - 1], tokens[i]) == key) return tokens_[tokens[i - 1]] + " " + token;
    std::string found;
    for_beginnings(token, [&](std::string_view beginning) {
      if (key_of_beginning(beginning) == key) found = std::string(beginning) + "...";
    });
    if (!found.empty()) return found;
  }
  return {};
}

std::size_t LexicalVocabulary::find(std::uint64_t key) const {
  const auto at = std::lower_bound(keys.begin(), keys.end(), key);
  return at != keys.end() && *at == key ? static_cast<std::size_t>(at - keys.begin()) : keys.size();
}

void LexicalVocabulary::vector_of(std::vector<std::uint64_t>& of_post,
                                  std::vector<LexicalFeature>& vector) const {
  vector.clear();
  std::sort(of_post.begin(), of_post.end());
  const bool counting = counts();
  double squares = 0;
  double size = 0;
  for (std::size_t i = 0; i < of_post.size();) {
    std::size_t end = i + 1;
    while (end < of_post.size() && of_post[end] == of_post[i]) ++end;
    const std::size_t number = find(of_post[i]);
    if (number < keys.size()) {
      const double times = static_cast<double>(end - i);
      const auto value = static_cast<float>((counting ? times : 1 + std::log(times)) * weights[number]);
      vector.push_back({static_cast<std::uint32_t>(number), value});
      squares += double{value} * value;
      size += value;
    }
    i = end;
  }
  if (counting) {
    const auto last = static_cast<std::uint32_t>(keys.size() - 1);
    vector.push_back({last - 1, 1});
    vector.push_back({last, static_cast<float>(size)});
    return;
  }
  if (squares == 0) return;
  const auto inverse = static_cast<float>(1 / std::sqrt(squares));
  for (LexicalFeature& feature : vector) feature.value *= inverse;
}

std::vector<LexicalFeature> lexical_vector(const LexicalKeys& keys, const LexicalVocabulary& vocabulary,
                                           std::span<const std::uint32_t> tokens) {
  std::vector<std::uint64_t> of_post;
  std::vector<LexicalFeature> vector;
  keys.of_post(tokens, of_post);
  vocabulary.vector_of(of_post, vector);
  return vector;
}

}  // namespace tagspace
