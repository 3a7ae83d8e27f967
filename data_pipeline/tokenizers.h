// The two tokenizers, for tokenizer.cc and prepare_data.cc.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "data_pipeline/counts.h"
#include "data_pipeline/tokenizer.h"

namespace tagspace {

using NextTexts = std::function<bool(std::vector<std::string>&)>;

// Of the words that reach the config's min_count, those that occur most often.
[[nodiscard]] std::unique_ptr<Tokenizer> make_word_tokenizer(const TokenizerConfig& config,
                                                             const Counts& words);
// The same from texts, on one thread.
[[nodiscard]] std::unique_ptr<Tokenizer> train_word_tokenizer(const TokenizerConfig& config,
                                                              const NextTexts& next);
[[nodiscard]] std::unique_ptr<Tokenizer> load_word_tokenizer(const TokenizerConfig& config,
                                                             const std::filesystem::path& folder);

[[nodiscard]] std::unique_ptr<Tokenizer> train_sentencepiece_tokenizer(const TokenizerConfig& config,
                                                                       const NextTexts& next,
                                                                       std::uint32_t threads);
[[nodiscard]] std::unique_ptr<Tokenizer> load_sentencepiece_tokenizer(const TokenizerConfig& config,
                                                                      const std::filesystem::path& folder);

}  // namespace tagspace
