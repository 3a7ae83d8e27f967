// What the pipeline asks of Unicode: code points, the kinds of characters, normal forms.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace tagspace {

// What a character does in a post. Hashtags and words are made of letters, ideographs, digits, marks and '_'.
enum class CharacterKind : std::uint8_t {
  space,      // white space, control characters, the zero-width space
  letter,     // of a script written with spaces (and of the few others: Thai, Khmer, ...)
  ideograph,  // Han and kana: a word may begin at each
  digit,
  underscore,
  mark,       // accents and vowel signs, which belong to the letter before them
  joiner,     // zero-width (non-)joiner: part of a word if letters stand on both sides
  invisible,  // variation selectors, direction marks, soft hyphens, enclosing keycaps: nothing of their own
  symbol,     // punctuation, emoji, everything else
};

struct CodePoint {
  std::int32_t value;
  std::uint32_t bytes;  // 1 to 4
};

// The code point at `at` < text.size(). A byte that begins no well-formed sequence reads as U+FFFD.
[[nodiscard]] CodePoint decode(std::string_view text, std::size_t at);

void append_code_point(std::string& text, std::int32_t code_point);

[[nodiscard]] CharacterKind kind_of_non_ascii(std::int32_t code_point);

[[nodiscard]] constexpr CharacterKind kind_of_ascii(unsigned char c) {
  if (c <= ' ' || c == 0x7F) return CharacterKind::space;
  if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return CharacterKind::letter;
  if (c >= '0' && c <= '9') return CharacterKind::digit;
  return c == '_' ? CharacterKind::underscore : CharacterKind::symbol;
}

[[nodiscard]] inline CharacterKind kind_of(std::int32_t code_point) {
  return code_point < 0x80 ? kind_of_ascii(static_cast<unsigned char>(code_point))
                           : kind_of_non_ascii(code_point);
}

[[nodiscard]] constexpr bool is_letter(CharacterKind kind) {
  return kind == CharacterKind::letter || kind == CharacterKind::ideograph;
}

[[nodiscard]] constexpr bool is_word(CharacterKind kind) {
  return is_letter(kind) || kind == CharacterKind::digit || kind == CharacterKind::underscore ||
         kind == CharacterKind::mark;
}

[[nodiscard]] bool is_ascii(std::string_view text);

void lowercase_ascii(std::string& text);

// NFKC, and lower case (code point by code point) if asked for. Takes time quadratic in the length of a run
// of marks, as canonical ordering does: callers bound such runs by kMostMarks.
[[nodiscard]] std::string nfkc(std::string_view text, bool lowercase);

// The most marks that may follow each other: the bound of UAX #15's stream-safe format.
inline constexpr int kMostMarks = 30;

// True if the character takes part in canonical ordering.
[[nodiscard]] bool is_reordered(std::int32_t code_point);

}  // namespace tagspace
