#include "data_pipeline/word_vectors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "data_pipeline/byte_source.h"
#include "data_pipeline/posts.h"

namespace tagspace {
namespace {

static_assert(std::endian::native == std::endian::little, "the binary formats are little-endian");

constexpr std::size_t kBufferBytes = std::size_t{1} << 18;
constexpr std::size_t kLongestLine = std::size_t{1} << 20;  // 8,192 numbers need a fifth of it
constexpr std::size_t kLongestWord = std::size_t{1} << 16;
constexpr std::size_t kLongestCleaned = 1024;  // longer ones are no words of posts
constexpr std::int32_t kFastTextMagic = 793712314;
constexpr std::int32_t kFastTextVersion = 12;
constexpr std::int32_t kOlderFastTextVersion = 11;  // in which supervised models have no n-grams
constexpr std::int32_t kFastTextSupervised = 3;
constexpr std::string_view kFastTextEnd = "</s>";  // has no n-grams

// The file's bytes, some of which can be looked at before they are taken.
class Input {
 public:
  Input(const std::filesystem::path& path, const std::function<void()>& poll)
      : path_(path.string()), source_(open_byte_source(path)), poll_(poll) {}

  [[noreturn]] void fail(const std::string& what) const { throw Error("'" + path_ + "' " + what); }

  // The next `count` bytes, or as many as there are.
  std::string_view peek(std::size_t count) {
    while (buffer_.size() - begin_ < count && !ended_) {
      poll_();
      buffer_.erase(0, begin_);
      begin_ = 0;
      const std::size_t size = buffer_.size();
      buffer_.resize(size + kBufferBytes);
      const std::size_t read = source_->read({buffer_.data() + size, kBufferBytes});
      buffer_.resize(size + read);
      ended_ = read == 0;
    }
    return std::string_view(buffer_).substr(begin_, count);
  }

  void skip(std::size_t count) { begin_ += count; }

  // All up to the next `end`, which is taken too; none if there is none within `most` bytes or, unless the
  // file may end there, at all.
  std::optional<std::string_view> take_until(char end, std::size_t most, bool or_end_of_file) {
    for (std::size_t looked_at = 0;;) {
      const std::size_t asked = std::min(most, std::max(2 * looked_at, std::size_t{4096}));
      const std::string_view text = peek(asked);
      const std::size_t at = text.find(end, looked_at);
      if (at != std::string_view::npos) {
        skip(at + 1);
        return text.substr(0, at);
      }
      if (text.size() < asked && or_end_of_file) {
        skip(text.size());
        return text;
      }
      if (text.size() < asked || asked == most) return std::nullopt;
      looked_at = text.size();
    }
  }

  bool at_end() { return peek(1).empty(); }

  // False if the file ends before.
  bool take(std::span<char> bytes) {
    while (!bytes.empty()) {
      const std::string_view text = peek(std::min(bytes.size(), kBufferBytes));
      if (text.empty()) return false;
      std::memcpy(bytes.data(), text.data(), text.size());
      skip(text.size());
      bytes = bytes.subspan(text.size());
    }
    return true;
  }

 private:
  std::string path_;
  std::unique_ptr<ByteSource> source_;
  const std::function<void()>& poll_;
  std::string buffer_;
  std::size_t begin_ = 0;
  bool ended_ = false;
};

// Which token a word of the file stands for.
class Matches {
 public:
  explicit Matches(const Tokenizer& tokenizer) : tokenizer_(tokenizer), kinds_(tokenizer.vocab_size()) {}

  // The token whose vector the word's is to be, in place of any before.
  std::optional<std::uint32_t> take(std::string_view word) {
    if (const std::uint32_t id = tokenizer_.id(word); id < kinds_.size()) {
      if (kinds_[id] == Kind::same) return std::nullopt;
      return set(id, Kind::same);
    }
    if (word.size() > kLongestCleaned) return std::nullopt;
    std::string text(word);
    (void)repair_utf8(text);
    text = clean_text(text, tokenizer_.config().lowercase);
    const std::uint32_t id = text == word ? vocab_size() : tokenizer_.id(text);
    if (id == vocab_size() || kinds_[id] != Kind::none) return std::nullopt;
    return set(id, Kind::cleaned);
  }

  [[nodiscard]] std::uint32_t vocab_size() const { return static_cast<std::uint32_t>(kinds_.size()); }
  [[nodiscard]] bool has(std::uint32_t id) const { return kinds_[id] != Kind::none; }

 private:
  enum class Kind : std::uint8_t { none, cleaned, same };

  std::uint32_t set(std::uint32_t id, Kind kind) {
    kinds_[id] = kind;
    return id;
  }

  const Tokenizer& tokenizer_;
  std::vector<Kind> kinds_;
};

// Vectors by token, as they come.
class Table {
 public:
  Table(const Tokenizer& tokenizer, std::uint32_t dim)
      : matches(tokenizer), dim_(dim), places_(matches.vocab_size(), kNone) {}

  // Zeros at first.
  std::span<float> row(std::uint32_t token) {
    if (places_[token] == kNone) {
      places_[token] = static_cast<std::uint32_t>(values_.size() / dim_);
      values_.resize(values_.size() + dim_);
    }
    return std::span(values_).subspan(std::size_t{places_[token]} * dim_, dim_);
  }

  WordVectors finish(std::string format, std::uint64_t words_in_file) {
    WordVectors result{std::move(format), words_in_file, {}, {}};
    result.vectors.reserve(values_.size());
    for (std::uint32_t token = 0; token < places_.size(); ++token) {
      if (places_[token] == kNone) continue;
      const auto vector = row(token);
      result.tokens.push_back(token);
      result.vectors.insert(result.vectors.end(), vector.begin(), vector.end());
    }
    return result;
  }

  Matches matches;

 private:
  static constexpr std::uint32_t kNone = 0xFFFFFFFF;

  std::size_t dim_;
  std::vector<std::uint32_t> places_;
  std::vector<float> values_;
};

bool is_separator(char c) { return c == ' ' || c == '\t'; }

// A word as a message can show it.
std::string shown(std::string_view word) {
  constexpr std::size_t kMostBytes = 60;
  std::string text(word.substr(0, kMostBytes));
  (void)repair_utf8(text);
  return "\"" + clean_text(text, false) + (word.size() > kMostBytes ? "...\"" : "\"");
}

std::string counted(std::uint64_t count, const char* of_what) {
  return std::to_string(count) + " " + of_what + (count == 1 ? "" : "s");
}

void check_dim(const Input& input, std::uint64_t found, std::uint32_t dim) {
  if (found == dim) return;
  input.fail("has vectors of " + counted(found, "number") + ", and encoder.dim is " + std::to_string(dim) +
             "; allowed is the same for both");
}

// The number that is all of `text`, if it is one; also "nan" and "inf".
std::optional<double> number(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (end != text.data() + text.size() || error == std::errc::invalid_argument) return std::nullopt;
  // Out of range: one so small that it is 0, or else too large.
  if (error == std::errc::result_out_of_range) {
    const std::size_t exponent = text.find_first_of("eE");
    const bool small = exponent == std::string_view::npos ? text.find_first_of("123456789") > text.find('.')
                                                          : text.substr(exponent + 1).starts_with('-');
    return small ? 0.0 : HUGE_VAL;
  }
  return value;
}

struct Header {
  std::uint64_t words = 0;
  std::uint64_t dim = 0;
};

// "words dim", nothing else.
std::optional<Header> header_in(std::string_view line) {
  std::array<std::uint64_t, 2> values{};
  std::size_t found = 0;
  for (std::size_t at = 0; at < line.size();) {
    if (is_separator(line[at])) {
      ++at;
      continue;
    }
    if (found == values.size()) return std::nullopt;
    const auto [end, error] =
        std::from_chars(line.data() + at, line.data() + line.size(), values.at(found++));
    if (error != std::errc()) return std::nullopt;
    at = static_cast<std::size_t>(end - line.data());
    if (at < line.size() && !is_separator(line[at])) return std::nullopt;
  }
  if (found < values.size()) return std::nullopt;
  return Header{values[0], values[1]};
}

// ------------------------------------------------------------------------------------------- lines of text

std::string_view without_end(std::string_view line) {
  while (!line.empty() && (is_separator(line.back()) || line.back() == '\r')) line.remove_suffix(1);
  return line;
}

// The word and the `dim` numbers after it, which must not be more. There are words with spaces in them.
struct Line {
  std::string_view word;
  std::vector<std::string_view> numbers;

  // What is wrong with it, or "".
  std::string split(std::string_view text, std::uint32_t dim) {
    text = without_end(text);
    numbers.clear();
    while (numbers.size() < dim) {
      const std::size_t at = text.find_last_of(" \t");
      if (at == std::string_view::npos) {
        return "has " + counted(numbers.size(), "number") + " after its word, and not " + std::to_string(dim);
      }
      numbers.push_back(text.substr(at + 1));
      text = without_end(text.substr(0, at));
    }
    std::reverse(numbers.begin(), numbers.end());
    word = text;
    const std::size_t space = word.find_last_of(" \t");
    if (space != std::string_view::npos && number(word.substr(space + 1))) {
      return "has more than " + counted(dim, "number") + " after its word";
    }
    return "";
  }
};

WordVectors read_text(Input& input, const std::optional<Header>& header, const Tokenizer& tokenizer,
                      std::uint32_t dim) {
  Table table(tokenizer, dim);
  Line line;
  std::uint64_t words = 0;
  for (std::uint64_t at = header ? 2 : 1; !input.at_end(); ++at) {
    const auto fail = [&](const std::string& what) {
      input.fail("is no whole file of word vectors: line " + std::to_string(at) + " " + what);
    };
    const auto text = input.take_until('\n', kLongestLine, true);
    if (!text) fail("is longer than " + std::to_string(kLongestLine) + " bytes");
    if (const std::string wrong = line.split(*text, dim); !wrong.empty()) fail(wrong);
    ++words;
    const auto token = table.matches.take(line.word);
    if (!token) continue;
    const auto row = table.row(*token);
    for (std::size_t i = 0; i < dim; ++i) {
      const std::optional<double> value = number(line.numbers[i]);
      if (!value) fail("has " + shown(line.numbers[i]) + ", which is no number");
      row[i] = static_cast<float>(*value);
      if (!std::isfinite(row[i])) fail("has " + shown(line.numbers[i]) + ", which is no finite number");
    }
  }
  if (header && header->words != words) {
    input.fail("is no whole file of word vectors: its first line promises " + counted(header->words, "word") +
               ", and it has " + std::to_string(words));
  }
  return table.finish(header ? "word2vec text" : "text without a header", words);
}

// ------------------------------------------------------------------------------------------- word2vec's
// binary

WordVectors read_binary(Input& input, const Header& header, const Tokenizer& tokenizer, std::uint32_t dim) {
  Table table(tokenizer, dim);
  std::vector<float> vector(dim);
  for (std::uint64_t word = 0; word < header.words; ++word) {
    const auto fail = [&](const std::string& what) {
      input.fail("is no whole file of word vectors: " + what + ", word " + std::to_string(word + 1) +
                 " of the " + std::to_string(header.words) + " that its first line promises");
    };
    while (input.peek(1) == "\n") input.skip(1);
    if (input.at_end()) fail("it ends before");
    const auto found = input.take_until(' ', kLongestWord, false);
    if (!found) fail("no space ends");
    const auto token = table.matches.take(*found);
    const std::string name = token ? shown(*found) : "";
    if (!input.take({reinterpret_cast<char*>(vector.data()), vector.size() * sizeof(float)}))
      fail("it ends within");
    if (!token) continue;
    if (!std::all_of(vector.begin(), vector.end(), [](float value) { return std::isfinite(value); })) {
      fail("the vector of " + name + " has a number that is not finite");
    }
    std::copy(vector.begin(), vector.end(), table.row(*token).begin());
  }
  while (input.peek(1) == "\n") input.skip(1);
  if (!input.at_end()) {
    input.fail("is no whole file of word vectors: it goes on after the " + counted(header.words, "word") +
               " that its first line promises");
  }
  return table.finish("word2vec binary", header.words);
}

// Whether numbers of 4 bytes follow the first word, rather than digits. Texts have no control characters, and
// none but ASCII in a line after its word; a vector without such bytes is next to impossible.
bool is_binary(Input& input, std::uint32_t dim) {
  constexpr std::size_t kEnough = 256;
  const std::size_t most = std::min(kEnough, std::size_t{dim} * sizeof(float));
  const std::string_view start = input.peek(kLongestWord + most);
  const std::size_t space = start.find(' ');
  if (space == std::string_view::npos) return false;
  bool first_line = true;
  for (const char c : start.substr(space + 1, most)) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n') first_line = false;
    if (byte < ' ' && c != '\n' && c != '\r' && c != '\t') return true;
    if (byte >= 0x7F && first_line) return true;
  }
  return false;
}

// ------------------------------------------------------------------------------------------- fastText's .bin

class FastText {
 public:
  FastText(Input& input, const Tokenizer& tokenizer, std::uint32_t dim)
      : input_(input), tokenizer_(tokenizer), dim_(dim), table_(tokenizer, dim) {}

  WordVectors read() {
    read_arguments();
    read_dictionary();
    read_matrix();
    return table_.finish("fastText .bin", words_);
  }

 private:
  // A row of the matrix is a part of a token's vector.
  struct Part {
    std::uint64_t row;
    std::uint32_t token;
  };

  [[noreturn]] void fail_damaged(const std::string& what) const {
    input_.fail("is no whole fastText model: " + what);
  }

  template <typename T>
  T take(const char* part) {
    T value{};
    if (!input_.take({reinterpret_cast<char*>(&value), sizeof value})) {
      fail_damaged(std::string("it ends within its ") + part);
    }
    return value;
  }

  void read_arguments() {
    input_.skip(sizeof kFastTextMagic);
    const char* part = "arguments";
    const auto version = take<std::int32_t>(part);
    if (version != kFastTextVersion && version != kOlderFastTextVersion) {
      input_.fail("is a fastText model of format " + std::to_string(version) + "; allowed are " +
                  std::to_string(kOlderFastTextVersion) + " and " + std::to_string(kFastTextVersion));
    }
    const auto file_dim = take<std::int32_t>(part);
    for (int i = 0; i < 6; ++i) (void)take<std::int32_t>(part);  // ws, epoch, minCount, neg, wordNgrams, loss
    const auto model = take<std::int32_t>(part);
    buckets_ = take<std::int32_t>(part);
    shortest_ = take<std::int32_t>(part);
    longest_ = take<std::int32_t>(part);
    (void)take<std::int32_t>(part);  // lrUpdateRate
    (void)take<double>(part);        // t
    if (version == kOlderFastTextVersion && model == kFastTextSupervised) longest_ = 0;
    if (file_dim <= 0 || buckets_ < 0)
      fail_damaged("its dim is " + std::to_string(file_dim) + ", its bucket " + std::to_string(buckets_));
    check_dim(input_, static_cast<std::uint64_t>(file_dim), dim_);
  }

  void read_dictionary() {
    const char* part = "dictionary";
    const auto size = take<std::int32_t>(part);
    const auto words = take<std::int32_t>(part);
    const auto labels = take<std::int32_t>(part);
    (void)take<std::int64_t>(part);  // tokens read
    const auto pruned = take<std::int64_t>(part);
    if (words < 0 || labels < 0 || std::int64_t{words} + labels != size) {
      fail_damaged("it says that " + std::to_string(words) + " words and " + std::to_string(labels) +
                   " labels are " + std::to_string(size) + " entries");
    }
    if (pruned >= 0) fail_quantized();
    words_ = static_cast<std::uint64_t>(words);
    // The row of each token's word, until all are read: a later word of the same bytes takes its place.
    std::vector<std::pair<std::uint64_t, std::string>> found(tokenizer_.vocab_size());
    for (std::int32_t i = 0; i < size; ++i) {
      const auto word = input_.take_until('\0', kLongestWord, false);
      if (!word)
        fail_damaged("it ends within its dictionary, or has a word of more than " +
                     std::to_string(kLongestWord) + " bytes");
      const std::string name(*word);
      (void)take<std::int64_t>(part);  // count
      const auto kind = take<std::int8_t>(part);
      if (kind != (i < words ? 0 : 1))
        fail_damaged("entry " + std::to_string(i + 1) + " of its dictionary, " + shown(name) + ", is no " +
                     (i < words ? "word" : "label"));
      if (i >= words) continue;
      if (const auto token = table_.matches.take(name)) found[*token] = {static_cast<std::uint64_t>(i), name};
    }
    for (std::uint32_t token = 0; token < found.size(); ++token) {
      if (!table_.matches.has(token)) continue;
      parts_.push_back({found[token].first, token});
      if (found[token].second != kFastTextEnd) add_n_grams(found[token].second, token);
    }
  }

  // Dictionary::computeSubwords: n-grams of characters of "<word>", by their hash.
  void add_n_grams(const std::string& word, std::uint32_t token) {
    if (buckets_ == 0) return;
    const std::string text = '<' + word + '>';
    const auto continues = [&](std::size_t at) {
      return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0U) == 0x80U;
    };
    for (std::size_t begin = 0; begin < text.size(); ++begin) {
      if (continues(begin)) continue;
      std::uint32_t hash = 2166136261U;  // FNV-1a, but for the sign that a byte has there
      std::size_t end = begin;
      for (std::int32_t n = 1; end < text.size() && n <= longest_; ++n) {
        do {
          hash ^= static_cast<std::uint32_t>(static_cast<std::int8_t>(text[end]));
          hash *= 16777619U;
          ++end;
        } while (continues(end));
        if (n < shortest_ || (n == 1 && (begin == 0 || end == text.size()))) continue;
        parts_.push_back({words_ + hash % static_cast<std::uint32_t>(buckets_), token});
      }
    }
  }

  void read_matrix() {
    const char* part = "matrix";
    if (take<std::uint8_t>(part) != 0) fail_quantized();
    const auto rows = take<std::int64_t>(part);
    const auto columns = take<std::int64_t>(part);
    if (columns != static_cast<std::int64_t>(dim_) || rows != static_cast<std::int64_t>(words_) + buckets_) {
      fail_damaged("its matrix is " + std::to_string(rows) + " x " + std::to_string(columns) +
                   ", and should be " + std::to_string(words_) + " + " + std::to_string(buckets_) + " x " +
                   std::to_string(dim_));
    }
    std::stable_sort(parts_.begin(), parts_.end(),
                     [](const Part& a, const Part& b) { return a.row < b.row; });
    std::vector<std::uint32_t> counts(tokenizer_.vocab_size());
    std::vector<float> values(dim_);
    auto next = parts_.begin();
    for (std::uint64_t row = 0; row < static_cast<std::uint64_t>(rows); ++row) {
      if (!input_.take({reinterpret_cast<char*>(values.data()), values.size() * sizeof(float)})) {
        fail_damaged("it ends within row " + std::to_string(row + 1) + " of " + std::to_string(rows) +
                     " of its matrix");
      }
      for (; next != parts_.end() && next->row == row; ++next) {
        const auto sum = table_.row(next->token);
        for (std::size_t i = 0; i < dim_; ++i) sum[i] += values[i];
        ++counts[next->token];
      }
    }
    for (std::uint32_t token = 0; token < counts.size(); ++token) {
      if (counts[token] == 0) continue;
      for (float& value : table_.row(token)) {
        value /= static_cast<float>(counts[token]);
        if (!std::isfinite(value))
          fail_damaged("the vector of " + shown(tokenizer_.token(token)) +
                       " has a number that is not finite");
      }
    }
  }

  [[noreturn]] void fail_quantized() const {
    input_.fail("is a quantized fastText model; allowed is one as it was trained (.bin, not .ftz)");
  }

  Input& input_;
  const Tokenizer& tokenizer_;
  std::uint32_t dim_;
  Table table_;
  std::int32_t buckets_ = 0;
  std::int32_t shortest_ = 0;  // n-grams
  std::int32_t longest_ = 0;
  std::uint64_t words_ = 0;
  std::vector<Part> parts_;
};

WordVectors read_any(Input& input, const Tokenizer& tokenizer, std::uint32_t dim) {
  if (input.at_end()) input.fail("is empty");
  std::int32_t magic = 0;
  if (const std::string_view start = input.peek(sizeof magic); start.size() == sizeof magic) {
    std::memcpy(&magic, start.data(), sizeof magic);
  }
  if (magic == kFastTextMagic) return FastText(input, tokenizer, dim).read();
  const std::string_view start = input.peek(kLongestLine);
  const std::string_view first = without_end(start.substr(0, start.find('\n')));
  if (const auto header = header_in(first)) {
    check_dim(input, header->dim, dim);
    (void)input.take_until('\n', kLongestLine, true);
    if (is_binary(input, dim)) return read_binary(input, *header, tokenizer, dim);
    return read_text(input, header, tokenizer, dim);
  }
  // Without a header: a word and numbers.
  const std::size_t space = first.find_first_of(" \t");
  std::uint64_t numbers = 0;
  for (std::size_t at = first.size(); space != std::string_view::npos && at > space;) {
    const std::size_t before = first.find_last_of(" \t", at - 1);
    if (!number(first.substr(before + 1, at - before - 1))) break;
    ++numbers;
    at = first.find_last_not_of(" \t", before) + 1;
  }
  if (numbers == 0) {
    input.fail(
        "is no file of word vectors: it begins neither with \"words dim\", as word2vec's, nor with a word "
        "and its "
        "numbers, as GloVe's, nor as a fastText model");
  }
  check_dim(input, numbers, dim);
  return read_text(input, std::nullopt, tokenizer, dim);
}

}  // namespace

WordVectors read_word_vectors(const std::filesystem::path& path, const Tokenizer& tokenizer,
                              std::uint32_t dim, const std::function<void()>& poll) {
  Input input(path, poll);
  WordVectors result = read_any(input, tokenizer, dim);
  if (result.tokens.empty()) {
    input.fail("has none of the " + counted(tokenizer.vocab_size(), "word") +
               " of the vocabulary among its " + std::to_string(result.words_in_file));
  }
  return result;
}

}  // namespace tagspace
