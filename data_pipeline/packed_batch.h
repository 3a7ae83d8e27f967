// The packed batch: what the data pipeline hands to the model, and the only thing the two share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tagspace {

// Posts laid end to end, without padding. Post i has the tokens
// tokens[token_offsets[i] .. token_offsets[i + 1]) and carries the hashtags
// hashtags[hashtag_offsets[i] .. hashtag_offsets[i + 1]), distinct and ascending. Either may be empty.
struct PackedBatch {
  std::vector<std::uint32_t> tokens;                 // [tokens] ids of the tokenizer, below its vocab_size()
  std::vector<std::uint32_t> token_offsets = {0};    // [posts + 1]
  std::vector<std::uint32_t> hashtags;               // rows of the hashtag table
  std::vector<std::uint32_t> hashtag_offsets = {0};  // [posts + 1]

  [[nodiscard]] std::size_t posts() const { return token_offsets.size() - 1; }

  void clear() {
    tokens.clear();
    token_offsets.assign(1, 0);
    hashtags.clear();
    hashtag_offsets.assign(1, 0);
  }

  // Closes the post whose tokens and hashtags were appended since the last call.
  void end_post() {
    token_offsets.push_back(static_cast<std::uint32_t>(tokens.size()));
    hashtag_offsets.push_back(static_cast<std::uint32_t>(hashtags.size()));
  }
};

}  // namespace tagspace
