// Posts parsed once and kept on the disk until hashtag table and vocabulary are known, since what their ids
// will be shows only when all have been read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "data_pipeline/counts.h"
#include "data_pipeline/packed_batch.h"
#include "data_pipeline/posts.h"
#include "data_pipeline/temporary_file.h"

namespace tagspace {

// Lines of a file, and the number of the first.
struct LineBlock {
  std::vector<std::string> lines;
  std::size_t count = 0;
  std::uint64_t first_number = 0;
};

// Reads the next lines, some MB at most; false at the end. One call at a time.
[[nodiscard]] bool read_lines(PostReader& reader, LineBlock& block);

class ParsedPosts {
 public:
  enum class Keep { words, texts };

  // Some posts. Hashtags, and words if those are kept, are numbers of hashtags() and words(); a post's
  // hashtags are distinct, in no order.
  struct Block {
    PackedBatch posts;                              // without tokens if texts are kept
    std::string texts;                              // end to end
    std::vector<std::uint32_t> text_offsets = {0};  // [posts + 1], or {0}
  };

  // Reads all posts, on `threads` threads. They are kept in a file without a name beside `path`, 4 bytes a
  // word and a hashtag, or the texts as they are. The numbers depend on the posts alone, not on the threads.
  // `poll` is called before each block, and may throw.
  ParsedPosts(PostReader& reader, Keep keep, const std::filesystem::path& path, std::uint32_t threads,
              const std::function<void()>& poll);

  [[nodiscard]] const Counts& hashtags() const { return hashtags_; }  // with the posts that carry them
  // Counts are 0: which posts count shows later.
  [[nodiscard]] Counts& words() { return words_; }

  // The next block is the first.
  void rewind() { file_.rewind(); }
  // False at the end. One call at a time.
  bool next(Block& block);

 private:
  void write(const Block& block);

  Counts hashtags_;
  Counts words_;
  TemporaryFile file_;
};

}  // namespace tagspace
