// Word vectors that another program has trained: those of the vocabulary's words, out of its file.
//
// What the file is shows in its first bytes:
// - word2vec's text, which fastText's .vec files and `tagspace export` are too: a line "words dim", then a
// line
//   "word number number ..." for each; GloVe's, the same without the first line;
// - word2vec's binary: the line "words dim", then for each word its bytes, a space, dim little-endian float32
//   and perhaps a newline;
// - fastText's .bin, unless it was quantized: a word's vector is the mean of its row and those of its
// n-grams. Each may be compressed with gzip or zstd.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "data_pipeline/tokenizer.h"

namespace tagspace {

struct WordVectors {
  std::string format;  // "word2vec text", "text without a header", ...
  std::uint64_t words_in_file = 0;
  std::vector<std::uint32_t> tokens;  // ascending: those that have a vector
  std::vector<float> vectors;         // [tokens, dim], as the file has them
};

// A token is the file's word of the same bytes, else the first that clean_text() makes it. The file is read
// once from its start to its end; memory is needed for the words that are found. Error, naming the file and
// the line or word, if it is none of these, is cut off, contradicts itself, holds a number that is not finite
// in a vector that is asked for, if its vectors are not of `dim` numbers, or if it has none of the tokens.
// `poll` is called every megabyte or more often, and may throw.
[[nodiscard]] WordVectors read_word_vectors(const std::filesystem::path& path, const Tokenizer& tokenizer,
                                            std::uint32_t dim, const std::function<void()>& poll);

}  // namespace tagspace
