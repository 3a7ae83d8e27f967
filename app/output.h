// Standard output for results: buffered, and every failed write noticed; and what is shown for the shell.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace tagspace {

// The word for the shell, quoted where it must be.
[[nodiscard]] std::string shell_word(const std::string& text);

// In `text`, whose memory is used again, one line for each row of `rows` [.., dim]: numbers with spaces
// between them, in the fewest digits that give the same floats.
void rows_as_text(std::span<const float> rows, std::size_t dim, std::string& text);

// Thrown when whoever read our output has closed it, as `head` does: no failure, the program just ends
// quietly.
struct ReaderGone {};

class Output {
 public:
  Output() = default;
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;
  Output(Output&&) = delete;
  Output& operator=(Output&&) = delete;
  ~Output() = default;  // what was not flushed is dropped: an error is on its way

  void write(std::string_view text);
  // Must be called last. Error if the system refuses the bytes, ReaderGone if nobody reads them.
  void flush();

 private:
  std::string buffer_;
};

}  // namespace tagspace
