#include "data_pipeline/unicode.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <stdexcept>
#include <utf8proc.h>
#include <vector>

namespace tagspace {
namespace {

constexpr std::int32_t kReplacement = 0xFFFD;

bool is_continuation(unsigned char c) { return (c & 0xC0U) == 0x80U; }

// Scripts whose words are neither set apart by spaces nor long: each character is taken for a word.
bool is_ideographic(std::int32_t c) {
  return (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3041 && c <= 0x30FF) ||
         (c >= 0x3005 && c <= 0x3007) || (c >= 0x31F0 && c <= 0x31FF) || (c >= 0xF900 && c <= 0xFAFF) ||
         (c >= 0xFF66 && c <= 0xFF9F) || (c >= 0x1B000 && c <= 0x1B16F) || (c >= 0x20000 && c <= 0x3FFFF);
}

void lowercase_points(std::span<utf8proc_int32_t> points) {
  constexpr utf8proc_int32_t kSigma = 0x3A3;
  constexpr utf8proc_int32_t kFinalSigma = 0x3C2;
  const auto is_letter_at = [&](std::size_t i) { return i < points.size() && is_letter(kind_of(points[i])); };
  for (std::size_t i = 0; i < points.size(); ++i) {
    utf8proc_int32_t& point = points[i];
    if (point == kSigma && i > 0 && is_letter_at(i - 1) && !is_letter_at(i + 1)) {
      point = kFinalSigma;  // the one letter whose lower case depends on where it stands
    } else if (point >= 0x80) {
      point = utf8proc_tolower(point);
    } else if (point >= 'A' && point <= 'Z') {
      point += 'a' - 'A';
    }
  }
}

}  // namespace

CodePoint decode(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) -> unsigned char {
    return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0;
  };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead >= 0xC2 && lead < 0xE0 && is_continuation(byte(1))) {
    return {((lead & 0x1F) << 6) | (byte(1) & 0x3F), 2};
  }
  if (lead >= 0xE0 && lead < 0xF0 && is_continuation(byte(1)) && is_continuation(byte(2))) {
    const std::int32_t value = ((lead & 0x0F) << 12) | ((byte(1) & 0x3F) << 6) | (byte(2) & 0x3F);
    if (value >= 0x800 && (value < 0xD800 || value > 0xDFFF)) return {value, 3};
  }
  if (lead >= 0xF0 && lead < 0xF5 && is_continuation(byte(1)) && is_continuation(byte(2)) &&
      is_continuation(byte(3))) {
    const std::int32_t value =
        ((lead & 0x07) << 18) | ((byte(1) & 0x3F) << 12) | ((byte(2) & 0x3F) << 6) | (byte(3) & 0x3F);
    if (value >= 0x10000 && value <= 0x10FFFF) return {value, 4};
  }
  return {kReplacement, 1};
}

void append_code_point(std::string& text, std::int32_t code_point) {
  utf8proc_uint8_t bytes[4];
  const utf8proc_ssize_t count = utf8proc_encode_char(code_point, bytes);
  text.append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(count));
}

CharacterKind kind_of_non_ascii(std::int32_t code_point) {
  if (code_point == 0x200B) return CharacterKind::space;
  if (code_point == 0x200C || code_point == 0x200D) return CharacterKind::joiner;
  if (code_point == 0xFF3F) return CharacterKind::underscore;  // the full-width one
  const utf8proc_property_t* property = utf8proc_get_property(code_point);
  if (property->ignorable != 0) return CharacterKind::invisible;
  switch (property->category) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_NL:
      return is_ideographic(code_point) ? CharacterKind::ideograph : CharacterKind::letter;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
      return CharacterKind::mark;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NO:
      return CharacterKind::digit;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_CC:
      return CharacterKind::space;
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
      return CharacterKind::invisible;
    default:
      return CharacterKind::symbol;
  }
}

bool is_ascii(std::string_view text) {
  const char* data = text.data();
  std::size_t left = text.size();
  for (; left >= 8; data += 8, left -= 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, data, 8);
    if ((word & 0x8080808080808080ULL) != 0) return false;
  }
  return std::all_of(data, data + left, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

void lowercase_ascii(std::string& text) {
  for (char& c : text) c = static_cast<char>(c + ((c >= 'A' && c <= 'Z') ? 'a' - 'A' : 0));
}

bool is_reordered(std::int32_t code_point) { return utf8proc_get_property(code_point)->combining_class != 0; }

std::string nfkc(std::string_view text, bool lowercase) {
  std::string result;
  if (text.empty()) return result;
  constexpr auto kDecompose =
      static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPAT | UTF8PROC_DECOMPOSE);
  constexpr auto kCompose = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  const auto size = static_cast<utf8proc_ssize_t>(text.size());

  std::vector<utf8proc_int32_t> points(text.size());
  utf8proc_ssize_t count = utf8proc_decompose(bytes, size, points.data(), size, kDecompose);
  if (count > size) {
    points.resize(static_cast<std::size_t>(count));
    count = utf8proc_decompose(bytes, size, points.data(), count, kDecompose);
  }
  if (count < 0) throw std::logic_error("nfkc: the text is not UTF-8");
  // Lower case between decomposing and composing: only then are the capitals of "𝐀" and "℡" in sight, and
  // only letters without a decomposition are changed, so that the result is NFKC.
  if (lowercase) lowercase_points(std::span(points).first(static_cast<std::size_t>(count)));
  count = utf8proc_normalize_utf32(points.data(), count, kCompose);
  if (count < 0) throw std::logic_error("nfkc: cannot compose");
  result.reserve(text.size());
  for (utf8proc_ssize_t i = 0; i < count; ++i) {
    const utf8proc_int32_t point = points[static_cast<std::size_t>(i)];
    if (point < 0x80) {
      result.push_back(static_cast<char>(point));
    } else {
      append_code_point(result, point);
    }
  }
  return result;
}

}  // namespace tagspace
