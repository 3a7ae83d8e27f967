// Posts as people write them: reading files, normalising text, taking hashtags out.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace tagspace {

// A post ready for a tokenizer.
struct Post {
  std::string text;                   // normalised (see clean_text), all hashtags removed
  std::vector<std::string> hashtags;  // without "#", lower-cased NFKC, distinct, as they appear
  std::string user;                   // empty if not given
};

// NFKC; lower case if asked for; URLs become "<url>" and @mentions "<user>"; control characters and runs of
// white space become one space, the ends are trimmed. What cannot be seen by itself (variation selectors,
// direction marks, joiners that stand not between letters, accents on nothing) goes, and so do accents beyond
// 30 on one letter. `raw` must be valid UTF-8 (see repair_utf8).
[[nodiscard]] std::string clean_text(std::string_view raw, bool lowercase);

// Takes the hashtags out of `raw` and cleans the rest. A hashtag is '#' (or its full-width and small forms)
// and letters, digits, marks and underscores of any script with at least one letter (UAX #31, hashtag
// identifiers); zero-width joiners may stand between letters, and are no part of the name. '#' after a
// letter, digit, '_', '&', '/' or '#' starts none ("&#39;", "page.html/#top", "c#7x"). Hashtags inside a URL
// are part of the URL.
[[nodiscard]] Post parse_post(std::string_view raw, bool lowercase);

// A hashtag as written in a list ("#Tag", "tag", "two words"): normalised, with one '_' for what cannot stand
// in a hashtag; empty if it has no letter.
[[nodiscard]] std::string normalize_hashtag(std::string_view raw);

// Replaces every maximal ill-formed sequence by U+FFFD. Returns how many were replaced.
std::uint64_t repair_utf8(std::string& text);

// What a reader came across.
struct ReadReport {
  std::uint64_t lines = 0;           // lines read
  std::uint64_t repaired_lines = 0;  // lines with invalid UTF-8
};

// Whether a file of this name is read as JSON lines: .jsonl, also .jsonl.gz and .jsonl.zst. Only they can
// name the user of a post.
[[nodiscard]] bool is_json_lines(const std::filesystem::path& path);

// Reads posts from a file, line by line: .txt (one post a line), .jsonl ({"text", optional "hashtags",
// optional "user"}; hashtags in the text count too) or fastText/StarSpace lines with "__label__tag" anywhere
// in a .txt line; each also .gz or .zst, known by its first bytes. "\n", "\r\n" and a last line without
// either all end a line. Errors name the file and the line. The file is read once from its start to its end,
// a piece at a time.
class PostReader {
 public:
  // `path` "-" reads standard input as .txt. Error if there is no such file, or it is a folder.
  PostReader(const std::filesystem::path& path, bool lowercase);
  ~PostReader();
  PostReader(const PostReader&) = delete;
  PostReader& operator=(const PostReader&) = delete;
  PostReader(PostReader&&) noexcept;
  PostReader& operator=(PostReader&&) noexcept;

  // The next post, one for every line, an empty line giving an empty post; false at the end.
  bool next(Post& post);

  // The same in two halves, so that many threads can share the work of the second: the line as it stands...
  bool next_line(std::string& line);
  // True if next_line() would not have to wait for someone to type or send a line (it may still find the
  // end).
  [[nodiscard]] bool line_ready();
  // ...and the post in it. Safe to call from several threads. `number` (from 1) is for messages.
  [[nodiscard]] Post parse_line(std::string& line, std::uint64_t number) const;

  [[nodiscard]] ReadReport report() const;

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace tagspace
