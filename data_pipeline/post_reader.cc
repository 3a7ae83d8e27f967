#include <atomic>
#include <cstring>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>

#include "base/error.h"
#include "data_pipeline/byte_source.h"
#include "data_pipeline/post_parsing.h"
#include "data_pipeline/posts.h"

namespace tagspace {
namespace {

constexpr std::size_t kReadBytes = std::size_t{1} << 18;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

bool is_blank(std::string_view line) { return line.find_first_not_of(" \t\r") == std::string_view::npos; }

}  // namespace

bool is_json_lines(const std::filesystem::path& path) {
  std::filesystem::path name = path.filename();
  if (name.extension() == ".gz" || name.extension() == ".zst") name = name.stem();
  return name.extension() == ".jsonl";
}

struct PostReader::Implementation {
  Implementation(const std::filesystem::path& file, bool lower)
      : path(file), lowercase(lower), json_lines(is_json_lines(file)), source(open_byte_source(file)) {}

  // Reads more bytes behind those in `buffer`; false at the end.
  bool fill() {
    if (at_end) return false;
    if (begin > 0 && begin == buffer.size()) {
      buffer.clear();
      begin = 0;
    } else if (begin > kReadBytes) {
      buffer.erase(0, begin);
      begin = 0;
    }
    const std::size_t old_size = buffer.size();
    buffer.resize(old_size + kReadBytes);
    const std::size_t count = source->read(std::span(buffer).subspan(old_size));
    buffer.resize(old_size + count);
    at_end = count == 0;
    return !at_end;
  }

  // Where the line that starts at `begin` ends, if the buffer holds that.
  std::size_t find_newline() {
    const std::size_t newline = buffer.find('\n', std::max(begin, searched));
    searched = newline == std::string::npos ? buffer.size() : newline;
    return newline;
  }

  bool next_line(std::string& line) {
    std::size_t newline = find_newline();
    while (newline == std::string::npos) {
      const std::size_t before = begin;
      if (!fill()) break;
      searched -= before - begin;  // fill() may move the bytes
      newline = find_newline();
    }
    if (newline == std::string::npos && begin == buffer.size()) return false;
    const std::size_t end = newline == std::string::npos ? buffer.size() : newline;
    std::string_view view = std::string_view(buffer).substr(begin, end - begin);
    begin = newline == std::string::npos ? end : end + 1;
    searched = begin;
    // At the start of the file, or of a line where files were put end to end.
    if (view.starts_with(kByteOrderMark)) view.remove_prefix(kByteOrderMark.size());
    if (!view.empty() && view.back() == '\r') view.remove_suffix(1);
    line = view;
    ++report.lines;
    return true;
  }

  bool line_ready() {
    while (find_newline() == std::string::npos) {
      if (at_end) return true;
      if (!source->ready()) return false;
      const std::size_t before = begin;
      fill();
      searched -= before - begin;
    }
    return true;
  }

  [[noreturn]] void fail(std::uint64_t number, const std::string& message) const {
    throw Error((path == "-" ? "standard input" : path.string()) + ":" + std::to_string(number) + ": " +
                message);
  }

  [[nodiscard]] Post parse_json(const std::string& line, std::uint64_t number) const {
    if (is_blank(line)) return {};
    nlohmann::json object;
    try {
      object = nlohmann::json::parse(line);
    } catch (const nlohmann::json::parse_error& error) {
      fail(number,
           "expected a JSON object such as {\"text\": \"…\"}, but the line is not JSON (at its byte " +
               std::to_string(error.byte) + ")");
    }
    if (!object.is_object()) {
      fail(number,
           std::string("expected a JSON object such as {\"text\": \"…\"}, found ") + describe(object));
    }
    const auto text = object.find("text");
    if (text == object.end()) fail(number, "the object has no \"text\"");
    if (!text->is_string()) fail(number, std::string("\"text\" must be a string, found ") + describe(*text));
    Post post = parse_post(text->get_ref<const std::string&>(), lowercase);

    const auto hashtags = object.find("hashtags");
    if (hashtags != object.end() && !hashtags->is_null()) {
      if (!hashtags->is_array()) {
        fail(number, std::string("\"hashtags\" must be an array of strings, found ") + describe(*hashtags));
      }
      for (const auto& hashtag : *hashtags) {
        if (!hashtag.is_string()) {
          fail(number, std::string("\"hashtags\" must be an array of strings, found ") + describe(hashtag) +
                           " in it");
        }
        post.hashtags.push_back(normalize_hashtag(hashtag.get_ref<const std::string&>()));
      }
      keep_distinct_hashtags(post.hashtags);
    }
    const auto user = object.find("user");
    if (user != object.end() && !user->is_null()) {
      if (!user->is_string())
        fail(number, std::string("\"user\" must be a string, found ") + describe(*user));
      post.user = user->get<std::string>();
    }
    return post;
  }

  static std::string describe(const nlohmann::json& value) {
    const std::string type = value.type_name();
    return (type == "array" || type == "object" ? "an " : type == "null" ? "" : "a ") + type;
  }

  std::filesystem::path path;
  bool lowercase;
  bool json_lines;
  std::unique_ptr<ByteSource> source;
  std::string buffer;
  std::size_t begin = 0;     // of the next line, in `buffer`
  std::size_t searched = 0;  // there is no newline in `buffer` between `begin` and this
  bool at_end = false;
  ReadReport report;
  std::atomic<std::uint64_t> repaired_lines = 0;
};

PostReader::PostReader(const std::filesystem::path& path, bool lowercase)
    : implementation_(std::make_unique<Implementation>(path, lowercase)) {}
PostReader::~PostReader() = default;
PostReader::PostReader(PostReader&&) noexcept = default;
PostReader& PostReader::operator=(PostReader&&) noexcept = default;

bool PostReader::next(Post& post) {
  std::string line;
  if (!next_line(line)) return false;
  post = parse_line(line, implementation_->report.lines);
  return true;
}

bool PostReader::next_line(std::string& line) { return implementation_->next_line(line); }

bool PostReader::line_ready() { return implementation_->line_ready(); }

Post PostReader::parse_line(std::string& line, std::uint64_t number) const {
  if (repair_utf8(line) > 0) implementation_->repaired_lines.fetch_add(1, std::memory_order_relaxed);
  if (implementation_->json_lines) return implementation_->parse_json(line, number);
  return parse_labelled_post(line, implementation_->lowercase);
}

ReadReport PostReader::report() const {
  ReadReport report = implementation_->report;
  report.repaired_lines = implementation_->repaired_lines;
  return report;
}

}  // namespace tagspace
