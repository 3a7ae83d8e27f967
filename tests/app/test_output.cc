#include <csignal>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <string>
#include <unistd.h>

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

}  // namespace
}  // namespace tagspace
