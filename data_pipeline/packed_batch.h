// The packed batch: what the data pipeline hands to the model, and the only thing the two share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
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

// Appends the ids of posts [begin, end), where post i has ids[offsets[i] .. offsets[i + 1]), to ids and
// offsets of the same kind.
template <typename Offset>
void append_ids(std::span<const std::uint32_t> ids, std::span<const Offset> offsets, std::size_t begin,
                std::size_t end, std::vector<std::uint32_t>& to, std::vector<std::uint32_t>& to_offsets) {
  const auto of_posts = ids.subspan(offsets[begin], offsets[end] - offsets[begin]);
  const auto moved = static_cast<std::uint32_t>(to.size() - offsets[begin]);  // modulo 2^32
  to.insert(to.end(), of_posts.begin(), of_posts.end());
  for (std::size_t post = begin; post < end; ++post)
    to_offsets.push_back(static_cast<std::uint32_t>(offsets[post + 1]) + moved);
}

}  // namespace tagspace
