#include <bit>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <limits>
#include <random>
#include <sstream>
#include <string>
#include <unistd.h>
#include <vector>

#include "app/output.h"
#include "app/stop_signal.h"
#include "base/error.h"

namespace tagspace {
namespace {

// Standard output is another descriptor while one of these lives.
class Redirected {
 public:
  explicit Redirected(int descriptor) : saved_(::dup(STDOUT_FILENO)) { ::dup2(descriptor, STDOUT_FILENO); }
  ~Redirected() {
    ::dup2(saved_, STDOUT_FILENO);
    ::close(saved_);
  }
  Redirected(const Redirected&) = delete;
  Redirected& operator=(const Redirected&) = delete;
  Redirected(Redirected&&) = delete;
  Redirected& operator=(Redirected&&) = delete;

 private:
  int saved_;
};

TEST(Output, ArrivesInOrder) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  {
    const Redirected redirected(ends[1]);
    Output output;
    output.write("one\n");
    output.write("two\n");
    output.flush();
  }
  ::close(ends[1]);
  char text[32] = {};
  EXPECT_EQ(::read(ends[0], text, sizeof text), 8);
  EXPECT_EQ(std::string(text), "one\ntwo\n");
  ::close(ends[0]);
}

TEST(Output, FullDiskIsAnError) {
  const int full = ::open("/dev/full", O_WRONLY);
  if (full < 0) GTEST_SKIP() << "there is no /dev/full";
  std::string message;
  {
    const Redirected redirected(full);
    Output output;
    output.write("text");
    try {
      output.flush();
    } catch (const Error& error) {
      message = error.what();
    }
  }
  ::close(full);
  EXPECT_EQ(message, "cannot write to standard output: No space left on device");
}

TEST(Output, ClosedPipeIsNoError) {
  std::signal(SIGPIPE, SIG_IGN);
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  ::close(ends[0]);
  bool gone = false;
  {
    const Redirected redirected(ends[1]);
    Output output;
    output.write("text");
    try {
      output.flush();
    } catch (const ReaderGone&) {
      gone = true;
    }
  }
  ::close(ends[1]);
  EXPECT_TRUE(gone);
}

TEST(StopSignal, IsRememberedAndThenForgotten) {
  {
    const StopSignal stop;
    EXPECT_FALSE(stop.arrived());
    std::raise(SIGTERM);
    EXPECT_TRUE(stop.arrived());
    EXPECT_EQ(stop.number(), SIGTERM);
    // The second has its usual effect.
    struct sigaction now {};
    sigaction(SIGTERM, nullptr, &now);
    EXPECT_EQ(now.sa_handler, SIG_DFL);
  }
  const StopSignal again;
  EXPECT_FALSE(again.arrived());
}

TEST(RowsAsText, AreTheSameFloats) {
  std::mt19937 random(1);
  // Of all the bits, of every exponent with many digits, and alone in a row, so that nothing makes up for the
  // room that the longest take.
  std::vector<float> values = {0.0F,
                               -0.0F,
                               -1234567846985728.0F,
                               -9999999198822400.0F,
                               -1.0e16F,
                               -1.17549435e-38F,
                               std::numeric_limits<float>::denorm_min(),
                               std::numeric_limits<float>::max()};
  for (int i = 0; i < 20'000; ++i) {
    const auto value = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    if (std::isfinite(value)) values.push_back(value);
  }
  for (int exponent = -45; exponent < 38; ++exponent) {
    for (int i = 0; i < 20; ++i)
      values.push_back(
          -static_cast<float>(std::pow(10, exponent) * (1 + 1e-9 * static_cast<double>(random()))));
  }
  std::string text;
  for (const float value : values) {
    const std::vector<float> rows(300, value);
    rows_as_text(rows, 3, text);
    std::istringstream lines(text);
    std::size_t seen = 0;
    for (std::string line; std::getline(lines, line);) {
      std::istringstream numbers(line);
      std::size_t of_line = 0;
      for (std::string number; std::getline(numbers, number, ' '); ++of_line) {
        ASSERT_EQ(std::bit_cast<std::uint32_t>(std::strtof(number.c_str(), nullptr)),
                  std::bit_cast<std::uint32_t>(value))
            << number;
      }
      ASSERT_EQ(of_line, 3U);
      seen += of_line;
    }
    ASSERT_EQ(seen, rows.size()) << value;
  }
}

}  // namespace
}  // namespace tagspace
