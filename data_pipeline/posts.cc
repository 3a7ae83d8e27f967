#include "data_pipeline/posts.h"

#include <algorithm>
#include <cstddef>
#include <unordered_set>
#include <utility>

#include "data_pipeline/post_parsing.h"
#include "data_pipeline/unicode.h"

namespace tagspace {
namespace {

constexpr std::string_view kLabel = "__label__";

bool is_hash(std::int32_t c) { return c == '#' || c == 0xFF03 || c == 0xFE5F; }
bool is_at(std::int32_t c) { return c == '@' || c == 0xFF20 || c == 0xFE6B; }

CodePoint code_point_at(std::string_view text, std::size_t at) {
  const auto byte = static_cast<unsigned char>(text[at]);
  return byte < 0x80 ? CodePoint{byte, 1} : decode(text, at);
}

CharacterKind kind_at(std::string_view text, std::size_t at) {
  return at < text.size() ? kind_of(code_point_at(text, at).value) : CharacterKind::space;
}

// Drops what cannot be seen by itself, and bounds runs of marks, which keeps nfkc() linear.
std::string drop_invisible(std::string_view raw, bool keep_joiners) {
  std::string result;
  result.reserve(raw.size());
  CharacterKind previous = CharacterKind::space;  // of what was kept
  int marks = 0;
  for (std::size_t at = 0; at < raw.size();) {
    const CodePoint c = code_point_at(raw, at);
    const std::size_t next = at + c.bytes;
    const CharacterKind kind = kind_of(c.value);
    marks = c.value >= 0x80 && is_reordered(c.value) ? marks + 1 : 0;
    const bool dropped = kind == CharacterKind::invisible || marks > kMostMarks ||
                         (kind == CharacterKind::joiner &&
                          !(keep_joiners && is_word(previous) && is_word(kind_at(raw, next))));
    if (!dropped) {
      if (kind == CharacterKind::space) {
        result.push_back(' ');
      } else {
        result.append(raw.substr(at, c.bytes));
      }
      previous = kind;
    }
    at = next;
  }
  return result;
}

// One space for a run of white space, none at the ends, and no accents on nothing (NFKC makes of "´" a space
// and an accent).
std::string squeeze(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  bool on_nothing = true;
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    const CharacterKind kind = kind_of(c.value);
    if (kind == CharacterKind::space) {
      if (!result.empty() && result.back() != ' ') result.push_back(' ');
      on_nothing = true;
    } else if (kind == CharacterKind::mark && on_nothing) {
      // dropped
    } else if (kind != CharacterKind::invisible) {
      result.append(text.substr(at, c.bytes));
      on_nothing = !is_word(kind) && kind != CharacterKind::joiner;
    }
    at += c.bytes;
  }
  if (!result.empty() && result.back() == ' ') result.pop_back();
  return result;
}

// What one pass over a text takes out of it.
struct Scan {
  std::string text;  // URLs and mentions replaced, hashtags and labels replaced by a space
  std::vector<std::string_view> hashtags;  // as written, without '#' or "__label__"
};

class Scanner {
 public:
  Scanner(std::string_view text, bool take_hashtags, bool take_labels)
      : text_(text), take_hashtags_(take_hashtags), take_labels_(take_labels) {}

  Scan run() {
    scan_.text.reserve(text_.size());
    while (at_ < text_.size()) {
      if (copy_plain_run()) continue;
      const CodePoint c = code_point_at(text_, at_);
      switch (c.value) {
        case 'h':
        case 'H':
        case 'w':
        case 'W':
          if (take_url()) continue;
          break;
        case '_':
          if (take_labels_ && take_label()) continue;
          break;
        default:
          if (is_hash(c.value)) {
            if (take_hashtags_ && take_hashtag(c.bytes)) continue;
          } else if (is_at(c.value)) {
            if (take_mention(c.bytes)) continue;
          }
      }
      const CharacterKind kind = kind_of(c.value);
      if (kind == CharacterKind::space) {
        put_space();
      } else {
        scan_.text.append(text_.substr(at_, c.bytes));
      }
      previous_ = c.value;
      previous_kind_ = kind;
      at_ += c.bytes;
    }
    if (!scan_.text.empty() && scan_.text.back() == ' ') scan_.text.pop_back();
    return std::move(scan_);
  }

 private:
  // Copies ASCII characters that begin nothing: most of most texts.
  bool copy_plain_run() {
    std::size_t end = at_;
    CharacterKind kind = previous_kind_;
    for (; end < text_.size(); ++end) {
      const auto c = static_cast<unsigned char>(text_[end]);
      if (c <= ' ' || c >= 0x7F || c == '#' || c == '@' || c == '_') break;
      const bool begins_url = c == 'h' || c == 'w' || c == 'H' || c == 'W';
      if (begins_url && (!is_word(kind) || kind == CharacterKind::ideograph)) break;
      kind = kind_of_ascii(c);
    }
    if (end == at_) return false;
    scan_.text.append(text_.substr(at_, end - at_));
    previous_ = static_cast<unsigned char>(text_[end - 1]);
    previous_kind_ = kind;
    at_ = end;
    return true;
  }

  void put_space() {
    if (!scan_.text.empty() && scan_.text.back() != ' ') scan_.text.push_back(' ');
  }

  void put_placeholder(std::string_view placeholder) {
    put_space();
    scan_.text.append(placeholder);
    scan_.text.push_back(' ');
  }

  // Moves on to `end`; what lies before it counts as a word, so that "#a#b" is one hashtag.
  void jump(std::size_t end) {
    at_ = end;
    previous_ = 'x';
    previous_kind_ = CharacterKind::letter;
  }

  // In scripts without spaces, URLs and mentions follow directly on the text.
  [[nodiscard]] bool inside_word() const {
    return is_word(previous_kind_) && previous_kind_ != CharacterKind::ideograph;
  }

  bool take_url() {
    if (inside_word()) return false;
    const std::string_view rest = text_.substr(at_);
    std::size_t host = 0;
    for (const std::string_view start : {"http://", "https://", "www."}) {
      if (rest.size() > start.size() &&
          std::equal(start.begin(), start.end(), rest.begin(), [](char a, char b) {
            return a == b || (a >= 'a' && a <= 'z' && a == b + ('a' - 'A'));
          })) {
        host = start.size();
      }
    }
    if (host == 0 || !is_url_part(code_point_at(rest, host).value)) return false;
    std::size_t end = at_ + host;
    while (end < text_.size()) {
      const CodePoint c = code_point_at(text_, end);
      if (!is_url_part(c.value)) break;
      end += c.bytes;
    }
    put_placeholder("<url>");
    jump(end);
    return true;
  }

  // Letters of any alphabet stand in addresses as people see them; ideographs after an address are the next
  // word.
  static bool is_url_part(std::int32_t c) {
    if (c < 0x80) return c > ' ' && c != 0x7F && c != '<' && c != '>' && c != '"';
    const CharacterKind kind = kind_of_non_ascii(c);
    return (is_word(kind) && kind != CharacterKind::ideograph) || kind == CharacterKind::joiner;
  }

  bool take_mention(std::size_t sign) {
    const std::size_t begin = at_ + sign;
    const CharacterKind first = kind_at(text_, begin);
    if (inside_word() || !is_word(first)) return false;
    const bool ideographs = first == CharacterKind::ideograph;
    std::size_t end = begin;
    while (end < text_.size()) {
      const CodePoint c = code_point_at(text_, end);
      const CharacterKind kind = kind_of(c.value);
      // A name of Latin letters ends where Japanese goes on.
      if (!is_word(kind) || (kind == CharacterKind::ideograph) != ideographs) break;
      end += c.bytes;
    }
    put_placeholder("<user>");
    jump(end);
    return true;
  }

  bool take_hashtag(std::size_t sign) {
    if (is_word(previous_kind_) || previous_ == '&' || previous_ == '/' || is_hash(previous_)) return false;
    const std::size_t begin = at_ + sign;
    std::size_t end = begin;
    bool has_letter = false;
    while (end < text_.size()) {
      const CodePoint c = code_point_at(text_, end);
      const CharacterKind kind = kind_of(c.value);
      const bool joins =
          kind == CharacterKind::joiner && end > begin && is_word(kind_at(text_, end + c.bytes));
      if (!is_word(kind) && !joins) break;
      has_letter = has_letter || is_letter(kind);
      end += c.bytes;
    }
    if (!has_letter) return false;
    scan_.hashtags.push_back(text_.substr(begin, end - begin));
    put_space();
    jump(end);
    return true;
  }

  bool take_label() {
    const std::string_view rest = text_.substr(at_);
    if (previous_kind_ != CharacterKind::space || rest.substr(0, kLabel.size()) != kLabel) return false;
    std::size_t end = at_ + kLabel.size();
    while (end < text_.size()) {
      const CodePoint c = code_point_at(text_, end);
      if (kind_of(c.value) == CharacterKind::space) break;
      end += c.bytes;
    }
    scan_.hashtags.push_back(text_.substr(at_ + kLabel.size(), end - at_ - kLabel.size()));
    put_space();
    jump(end);
    return true;
  }

  std::string_view text_;
  bool take_hashtags_;
  bool take_labels_;
  std::size_t at_ = 0;
  std::int32_t previous_ = ' ';
  CharacterKind previous_kind_ = CharacterKind::space;
  Scan scan_;
};

Post parse(std::string_view raw, bool lowercase, bool take_hashtags, bool take_labels) {
  const bool ascii = is_ascii(raw);
  std::string visible;
  if (!ascii) {
    visible = drop_invisible(raw, /*keep_joiners=*/true);
    raw = visible;
  }
  Scan scan = Scanner(raw, take_hashtags, take_labels).run();
  Post post;
  for (const std::string_view hashtag : scan.hashtags) post.hashtags.push_back(normalize_hashtag(hashtag));
  keep_distinct_hashtags(post.hashtags);
  if (ascii) {
    post.text = std::move(scan.text);
    if (lowercase) lowercase_ascii(post.text);
  } else {
    post.text = squeeze(nfkc(scan.text, lowercase));
  }
  return post;
}

}  // namespace

void keep_distinct_hashtags(std::vector<std::string>& hashtags) {
  if (hashtags.empty()) return;
  std::unordered_set<std::string_view> seen;
  std::vector<std::string> distinct;
  distinct.reserve(hashtags.size());  // the views in `seen` stay valid
  for (std::string& hashtag : hashtags) {
    if (hashtag.empty() || seen.contains(hashtag)) continue;
    distinct.push_back(std::move(hashtag));
    seen.insert(distinct.back());
  }
  hashtags = std::move(distinct);
}

std::string clean_text(std::string_view raw, bool lowercase) {
  return parse(raw, lowercase, /*take_hashtags=*/false, /*take_labels=*/false).text;
}

Post parse_post(std::string_view raw, bool lowercase) {
  return parse(raw, lowercase, /*take_hashtags=*/true, /*take_labels=*/false);
}

Post parse_labelled_post(std::string_view raw, bool lowercase) {
  return parse(raw, lowercase, /*take_hashtags=*/true, /*take_labels=*/true);
}

std::string normalize_hashtag(std::string_view raw) {
  std::string normal;
  if (is_ascii(raw)) {
    normal = raw;
    lowercase_ascii(normal);
  } else {
    normal = nfkc(drop_invisible(raw, /*keep_joiners=*/false), /*lowercase=*/true);
  }
  std::string name;
  name.reserve(normal.size());
  bool has_letter = false;
  bool gap = false;
  for (std::size_t at = 0; at < normal.size();) {
    const CodePoint c = code_point_at(normal, at);
    const CharacterKind kind = kind_of(c.value);
    // A mark needs something to stand on, as in squeeze().
    const bool kept = is_word(kind) && !(kind == CharacterKind::mark && (name.empty() || gap));
    if (kept) {
      if (gap && !name.empty()) name.push_back('_');
      gap = false;
      has_letter = has_letter || is_letter(kind);
      name.append(normal, at, c.bytes);
    } else if (kind != CharacterKind::mark) {
      gap = true;
    }
    at += c.bytes;
  }
  return has_letter ? name : std::string();
}

std::uint64_t repair_utf8(std::string& text) {
  if (is_ascii(text)) return 0;
  std::uint64_t repaired = 0;
  std::string result;
  std::size_t copied = 0;  // bytes of `text` that `result` stands for
  for (std::size_t at = 0; at < text.size();) {
    const auto byte = [&](std::size_t i) -> unsigned char {
      return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0;
    };
    const unsigned char lead = byte(0);
    if (lead < 0x80) {
      ++at;
      continue;
    }
    // The continuation bytes that a lead byte needs, and what the first of them may be (Unicode, table 3-7).
    std::size_t needed = 0;
    unsigned char low = 0x80;
    unsigned char high = 0xBF;
    if (lead >= 0xC2 && lead <= 0xDF) needed = 1;
    if (lead >= 0xE0 && lead <= 0xEF) needed = 2;
    if (lead >= 0xF0 && lead <= 0xF4) needed = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
    std::size_t found = 0;
    while (found < needed && byte(1 + found) >= low && byte(1 + found) <= high) {
      ++found;
      low = 0x80;
      high = 0xBF;
    }
    if (needed == 0 || found < needed) {
      result.append(text, copied, at - copied);
      result.append("\xEF\xBF\xBD");
      copied = at + 1 + found;
      ++repaired;
    }
    at += 1 + found;
  }
  if (repaired > 0) {
    result.append(text, copied, std::string::npos);
    text = std::move(result);
  }
  return repaired;
}

}  // namespace tagspace
