#include "data_pipeline/tokenizer.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"
#include "data_pipeline/tokenizers.h"
#include "data_pipeline/unicode.h"

namespace tagspace {
namespace {

constexpr int kVersion = 1;
constexpr const char* kConfigFile = "tokenizer.json";

bool is_apostrophe(std::int32_t c) { return c == '\'' || c == 0x2019; }

// The end of the word that begins at `begin` with a character of the given kind.
std::size_t end_of_word(std::string_view text, std::size_t begin, CharacterKind first) {
  std::size_t end = begin + decode(text, begin).bytes;
  while (end < text.size()) {
    const CodePoint c = decode(text, end);
    const CharacterKind kind = kind_of(c.value);
    if (kind != CharacterKind::mark) {
      if (first == CharacterKind::ideograph) break;
      if (kind == CharacterKind::joiner || is_apostrophe(c.value)) {
        const std::size_t next = end + c.bytes;
        const CharacterKind after =
            next < text.size() ? kind_of(decode(text, next).value) : CharacterKind::space;
        if (!is_word(after) || after == CharacterKind::ideograph) break;
      } else if (!is_word(kind) || kind == CharacterKind::ideograph) {
        break;
      }
    }
    end += c.bytes;
  }
  return end;
}

}  // namespace

std::vector<std::string_view> split_words(std::string_view text) {
  std::vector<std::string_view> words;
  words.reserve(text.size() / 5 + 1);
  std::int32_t previous = ' ';  // the symbol before `at`, or a space
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint c = decode(text, at);
    const CharacterKind kind = kind_of(c.value);
    std::size_t end = at + c.bytes;
    std::int32_t symbol = ' ';
    if (is_word(kind)) {
      end = end_of_word(text, at, kind);
      words.push_back(text.substr(at, end - at));
    } else if (kind == CharacterKind::symbol) {
      const std::string_view rest = text.substr(at);
      if (rest.substr(0, 5) == "<url>") {
        end = at + 5;
        words.push_back(rest.substr(0, 5));
      } else if (rest.substr(0, 6) == "<user>") {
        end = at + 6;
        words.push_back(rest.substr(0, 6));
      } else {
        symbol = c.value;
        if (c.value != previous) words.push_back(rest.substr(0, c.bytes));
      }
    }
    previous = symbol;
    at = end;
  }
  return words;
}

void Tokenizer::save(const std::filesystem::path& folder) const {
  save_vocabulary(folder);
  const nlohmann::ordered_json json = {
      {"version", kVersion},
      {"type", config_.type == TokenizerType::word ? "word" : "sentencepiece"},
      {"vocab_size", config_.vocab_size},
      {"min_count", config_.min_count},
      {"lowercase", config_.lowercase},
      {"max_tokens", config_.max_tokens}};
  write_file(folder / kConfigFile, json.dump(2) + "\n");
}

std::unique_ptr<Tokenizer> Tokenizer::load(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / kConfigFile;
  const std::string text = read_file(path);
  TokenizerConfig config;
  try {
    const auto json = nlohmann::json::parse(text);
    const int version = json.at("version").get<int>();
    if (version > kVersion) {
      throw Error("'" + path.string() + "' has version " + std::to_string(version) +
                  ", this program reads up to " + std::to_string(kVersion) + ": use a newer program");
    }
    const auto type = json.at("type").get<std::string>();
    if (type != "word" && type != "sentencepiece") {
      throw Error("'" + path.string() + "': \"type\" is \"" + type +
                  "\"; it can be \"word\" or \"sentencepiece\"");
    }
    config.type = type == "word" ? TokenizerType::word : TokenizerType::sentencepiece;
    config.vocab_size = json.at("vocab_size").get<std::uint32_t>();
    config.min_count = json.at("min_count").get<std::uint32_t>();
    config.lowercase = json.at("lowercase").get<bool>();
    config.max_tokens = json.at("max_tokens").get<std::uint32_t>();
  } catch (const nlohmann::json::exception& error) {
    throw Error("'" + path.string() + "' is damaged: " + error.what());
  }
  return config.type == TokenizerType::word ? load_word_tokenizer(config, folder)
                                            : load_sentencepiece_tokenizer(config, folder);
}

std::unique_ptr<Tokenizer> Tokenizer::train(const TokenizerConfig& config,
                                            const std::function<bool(std::vector<std::string>&)>& next,
                                            std::uint32_t threads) {
  return config.type == TokenizerType::word ? train_word_tokenizer(config, next)
                                            : train_sentencepiece_tokenizer(config, next, threads);
}

std::vector<std::string> token_texts(const Tokenizer& tokenizer) {
  std::vector<std::string> texts;
  texts.reserve(tokenizer.vocab_size());
  for (std::uint32_t id = 0; id < tokenizer.vocab_size(); ++id) texts.push_back(tokenizer.token(id));
  return texts;
}

}  // namespace tagspace
