// Ctrl-C and SIGTERM as a question that a loop asks between its steps.
#pragma once

#include <csignal>

namespace tagspace {

// While one exists, the first SIGINT or SIGTERM is only remembered; a second one ends the program at once, as
// if nobody had listened. At most one may exist.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;
  StopSignal(StopSignal&&) = delete;
  StopSignal& operator=(StopSignal&&) = delete;

  [[nodiscard]] bool arrived() const { return number() != 0; }
  // Which signal arrived; 0 if none.
  [[nodiscard]] int number() const;

 private:
  struct sigaction old_interrupt_ {};
  struct sigaction old_terminate_ {};
};

}  // namespace tagspace
