#include <algorithm>
#include <map>
#include <mutex>
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "base/files.h"
#include "data_pipeline/parallel.h"
#include "data_pipeline/tokenizers.h"
#include "data_pipeline/unicode.h"

namespace tagspace {
namespace {

constexpr const char* kModelFile = "sentencepiece.model";
constexpr std::string_view kWordBoundary = "\xE2\x96\x81";  // "▁"

// Training holds some 20 bytes for each character of its texts; more texts hardly change the pieces.
constexpr std::size_t kMostTexts = 200000;
constexpr std::size_t kMostTextBytes = 4000;  // sentencepiece passes over sentences of more than 4192
// Sums of rounded numbers depend on how they are shared out, so this is not the machine's number of cores.
constexpr int kTrainingThreads = 8;
// sentencepiece's longest piece (16 characters of 4 bytes): a text of this many bytes a token has tokens
// enough.
constexpr std::size_t kMostPieceBytes = 64;

// The longest start of `text` of at most `bytes` bytes that ends no character in its middle.
std::string_view first_bytes(std::string_view text, std::size_t bytes) {
  if (text.size() <= bytes) return text;
  while (bytes > 0 && (static_cast<unsigned char>(text[bytes]) & 0xC0U) == 0x80U) --bytes;
  return text.substr(0, bytes);
}

class SentencePieceTokenizer final : public Tokenizer {
 public:
  // `source` names the model in errors.
  SentencePieceTokenizer(const TokenizerConfig& config, std::string model, const std::string& source)
      : Tokenizer(config), model_(std::move(model)) {
    const auto status = processor_.LoadFromSerializedProto(model_);
    if (model_.empty() || !status.ok() || processor_.GetPieceSize() <= 0) {
      throw Error("'" + source + "' is not a sentencepiece model, or is damaged" +
                  (status.ok() ? std::string() : std::string(" (") + status.message() + ")"));
    }
    unknown_ = processor_.unk_id();
    boundary_ = static_cast<int>(id(kWordBoundary));
  }

  void encode(std::string_view text, std::vector<std::uint32_t>& ids) const override {
    const std::size_t most = ids.size() + config().max_tokens;
    std::vector<int> pieces;
    const auto status = processor_.Encode(first_bytes(text, config().max_tokens * kMostPieceBytes), &pieces);
    if (!status.ok()) throw Error(std::string("sentencepiece cannot encode a text: ") + status.message());
    for (const int piece : pieces) {
      if (ids.size() == most) return;
      // A word boundary by itself (before an unknown character, or "<url>") says nothing.
      if (piece != unknown_ && piece != boundary_) ids.push_back(static_cast<std::uint32_t>(piece));
    }
  }

  [[nodiscard]] std::uint32_t vocab_size() const override {
    return static_cast<std::uint32_t>(processor_.GetPieceSize());
  }
  [[nodiscard]] std::string token(std::uint32_t id) const override {
    return processor_.IdToPiece(static_cast<int>(id));
  }
  [[nodiscard]] std::uint32_t id(std::string_view token) const override {
    const int found = processor_.PieceToId(token);
    return found >= 0 && processor_.IdToPiece(found) == token ? static_cast<std::uint32_t>(found)
                                                              : vocab_size();
  }

 private:
  void save_vocabulary(const std::filesystem::path& folder) const override {
    write_file(folder / kModelFile, model_);
  }

  std::string model_;
  sentencepiece::SentencePieceProcessor processor_;
  int unknown_ = 0;
  int boundary_ = 0;
};

// A sample of distinct texts: those whose hashes are lowest, so that it does not depend on their order.
class TextSample {
 public:
  static std::uint64_t hash(std::string_view text) {
    std::uint64_t value = 0xCBF29CE484222325ULL;  // FNV-1a, then the finalizer of SplitMix64
    for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
    value = (value ^ (value >> 30U)) * 0xBF58476D1CE4E5B9ULL;
    value = (value ^ (value >> 27U)) * 0x94D049BB133111EBULL;
    return value ^ (value >> 31U);
  }

  void add(std::uint64_t hash, std::string text) {
    if (texts_.size() == kMostTexts && hash >= texts_.rbegin()->first) return;
    texts_.emplace(hash, std::move(text));
    if (texts_.size() > kMostTexts) texts_.erase(std::prev(texts_.end()));
  }

  [[nodiscard]] std::vector<std::string> take() {
    std::vector<std::string> result;
    result.reserve(texts_.size());
    for (auto& entry : texts_) result.push_back(std::move(entry.second));
    texts_.clear();
    return result;
  }

 private:
  std::map<std::uint64_t, std::string> texts_;
};

class Sentences final : public sentencepiece::SentenceIterator {
 public:
  explicit Sentences(const std::vector<std::string>& texts) : texts_(texts) {}
  [[nodiscard]] bool done() const override { return at_ == texts_.size(); }
  void Next() override { ++at_; }
  [[nodiscard]] const std::string& value() const override { return texts_[at_]; }
  [[nodiscard]] sentencepiece::util::Status status() const override { return {}; }

 private:
  const std::vector<std::string>& texts_;
  std::size_t at_ = 0;
};

// The text as training takes it: no longer than it takes, without its reserved characters.
std::string training_text(std::string_view text) {
  text = first_bytes(text, kMostTextBytes);
  std::string result;
  result.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint c = decode(text, at);
    const bool reserved = c.value == 0x2581 || c.value == 0x2585 || c.value == 0x2047;  // "▁▅⁇"
    result.append(reserved ? std::string_view(" ") : text.substr(at, c.bytes));
    at += c.bytes;
  }
  return result;
}

}  // namespace

std::unique_ptr<Tokenizer> train_sentencepiece_tokenizer(const TokenizerConfig& config, const NextTexts& next,
                                                         std::uint32_t threads) {
  if (!config.model.empty()) {
    return std::make_unique<SentencePieceTokenizer>(config, read_file(config.model), config.model.string());
  }
  std::mutex mutex;
  TextSample sample;
  run_threads(threads, [&](std::uint32_t) {
    std::vector<std::string> texts;
    std::vector<std::uint64_t> hashes;
    while (next(texts)) {
      hashes.clear();
      for (const std::string& text : texts) hashes.push_back(TextSample::hash(text));
      const std::scoped_lock lock(mutex);
      for (std::size_t i = 0; i < texts.size(); ++i) sample.add(hashes[i], std::move(texts[i]));
    }
  });
  std::vector<std::string> texts = sample.take();
  bool has_text = false;
  for (std::string& text : texts) {
    text = training_text(text);
    const auto words = split_words(text);
    has_text = has_text || std::any_of(words.begin(), words.end(), [](std::string_view word) {
                 return word != "<url>" && word != "<user>";
               });
  }
  if (!has_text) {
    throw Error(
        "the training posts have no text besides hashtags, URLs and mentions: there is nothing to train "
        "a sentencepiece model on");
  }

  Sentences sentences(texts);
  std::string model;
  const std::unordered_map<std::string, std::string> options = {
      {"model_type", "unigram"},
      {"vocab_size", std::to_string(config.vocab_size)},
      {"hard_vocab_limit", "false"},
      {"character_coverage", "0.9995"},
      {"normalization_rule_name", "identity"},
      {"user_defined_symbols", "<url>,<user>"},
      {"unk_id", "0"},
      {"bos_id", "-1"},
      {"eos_id", "-1"},
      {"pad_id", "-1"},
      {"num_threads", std::to_string(kTrainingThreads)},
      {"minloglevel", "3"},
  };
  const auto status = sentencepiece::SentencePieceTrainer::Train(options, &sentences, &model);
  if (!status.ok()) {
    throw Error("sentencepiece cannot be trained with tokenizer.vocab_size = " +
                std::to_string(config.vocab_size) + ": " + status.message());
  }
  return std::make_unique<SentencePieceTokenizer>(config, std::move(model), "the trained model");
}

std::unique_ptr<Tokenizer> load_sentencepiece_tokenizer(const TokenizerConfig& config,
                                                        const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / kModelFile;
  return std::make_unique<SentencePieceTokenizer>(config, read_file(path), path.string());
}

}  // namespace tagspace
