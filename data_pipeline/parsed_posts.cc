#include "data_pipeline/parsed_posts.h"

#include <array>
#include <span>
#include <string_view>

#include "data_pipeline/parallel.h"
#include "data_pipeline/tokenizer.h"

namespace tagspace {
namespace {

constexpr std::size_t kBlockLines = 2048;
constexpr std::size_t kBlockBytes = std::size_t{1} << 20U;

// A block under work, with numbers of its own: threads need not agree on the words that they meet.
struct OpenBlock {
  LineBlock lines;
  ParsedPosts::Block parsed;
  Counts hashtags;
  Counts words;
};

void parse(const PostReader& reader, ParsedPosts::Keep keep, OpenBlock& block) {
  block.hashtags.clear();
  block.words.clear();
  block.parsed.posts.clear();
  block.parsed.texts.clear();
  block.parsed.text_offsets.assign(1, 0);
  for (std::size_t i = 0; i < block.lines.count; ++i) {
    const Post post = reader.parse_line(block.lines.lines[i], block.lines.first_number + i);
    if (post.hashtags.empty()) continue;
    for (const std::string& hashtag : post.hashtags) {
      block.parsed.posts.hashtags.push_back(block.hashtags.add(hashtag, 1));
    }
    if (keep == ParsedPosts::Keep::words) {
      for (const std::string_view word : split_words(post.text)) {
        block.parsed.posts.tokens.push_back(block.words.add(word, 0));
      }
    } else {
      block.parsed.texts += post.text;
      block.parsed.text_offsets.push_back(static_cast<std::uint32_t>(block.parsed.texts.size()));
    }
    block.parsed.posts.end_post();
  }
}

// Numbers of the block become numbers of `all`, which takes up the new names.
void renumber(const Counts& block, Counts& all, std::vector<std::uint32_t>& numbers) {
  std::vector<std::uint32_t> number_in_all(block.size());
  for (std::uint32_t i = 0; i < block.size(); ++i) number_in_all[i] = all.add(block.name(i), block.count(i));
  for (std::uint32_t& number : numbers) number = number_in_all[number];
}

}  // namespace

bool read_lines(PostReader& reader, LineBlock& block) {
  block.count = 0;
  block.first_number = reader.report().lines + 1;
  block.lines.resize(kBlockLines);
  for (std::size_t bytes = 0; block.count < kBlockLines && bytes < kBlockBytes; ++block.count) {
    std::string& line = block.lines[block.count];
    if (!reader.next_line(line)) break;
    bytes += line.size();
  }
  return block.count > 0;
}

ParsedPosts::ParsedPosts(PostReader& reader, Keep keep, const std::filesystem::path& path,
                         std::uint32_t threads, const std::function<void()>& poll)
    : file_(path) {
  process_in_order<OpenBlock>(
      threads,
      [&](OpenBlock& block) {
        poll();
        return read_lines(reader, block.lines);
      },
      [&](OpenBlock& block) { parse(reader, keep, block); },
      [&](OpenBlock& block) {
        renumber(block.hashtags, hashtags_, block.parsed.posts.hashtags);
        renumber(block.words, words_, block.parsed.posts.tokens);
        write(block.parsed);
      });
}

// A block is the sizes of its arrays, and the arrays.
void ParsedPosts::write(const Block& block) {
  const auto arrays = std::to_array<std::span<const std::byte>>(
      {std::as_bytes(std::span(block.posts.tokens)), std::as_bytes(std::span(block.posts.token_offsets)),
       std::as_bytes(std::span(block.posts.hashtags)), std::as_bytes(std::span(block.posts.hashtag_offsets)),
       std::as_bytes(std::span(block.texts)), std::as_bytes(std::span(block.text_offsets))});
  for (const auto bytes : arrays) {
    const std::uint64_t size = bytes.size();
    file_.write(std::as_bytes(std::span(&size, 1)));
    file_.write(bytes);
  }
}

bool ParsedPosts::next(Block& block) {
  if (file_.at_end()) return false;
  const auto read = [&](auto& values) {
    std::uint64_t size = 0;
    file_.read(std::as_writable_bytes(std::span(&size, 1)));
    values.resize(static_cast<std::size_t>(size) / sizeof(values[0]));
    file_.read(std::as_writable_bytes(std::span(values)));
  };
  read(block.posts.tokens);
  read(block.posts.token_offsets);
  read(block.posts.hashtags);
  read(block.posts.hashtag_offsets);
  read(block.texts);
  read(block.text_offsets);
  return true;
}

}  // namespace tagspace
