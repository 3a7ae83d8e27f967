#include "app/output.h"

#include <cerrno>
#include <cstring>
#include <fmt/compile.h>
#include <unistd.h>

#include "base/error.h"

namespace tagspace {

std::string shell_word(const std::string& text) {
  if (!text.empty() &&
      text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-+:,@%=") ==
          std::string::npos) {
    return text;
  }
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

void rows_as_text(std::span<const float> rows, std::size_t dim, std::string& text) {
  // 17 for "-1234567890123456", as exponents begin at 10^16, and 15 for "-0.000123456789" and
  // "-1.17549435e-38"; one for what follows.
  constexpr std::size_t kMostLetters = 20;
  text.resize(rows.size() * kMostLetters);
  char* end = text.data();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    end = fmt::format_to(end, FMT_COMPILE("{}"), rows[i]);
    *end++ = (i + 1) % dim == 0 ? '\n' : ' ';
  }
  text.resize(static_cast<std::size_t>(end - text.data()));
}

void Output::write(std::string_view text) {
  constexpr std::size_t kBufferBytes = std::size_t{1} << 16;
  buffer_ += text;
  if (buffer_.size() >= kBufferBytes) flush();
}

void Output::flush() {
  std::string_view rest = buffer_;
  while (!rest.empty()) {
    const ssize_t count = ::write(STDOUT_FILENO, rest.data(), rest.size());
    if (count < 0) {
      if (errno == EINTR) continue;
      if (errno == EPIPE) throw ReaderGone{};
      throw Error(std::string("cannot write to standard output: ") + std::strerror(errno));
    }
    rest.remove_prefix(static_cast<std::size_t>(count));
  }
  buffer_.clear();
}

}  // namespace tagspace
