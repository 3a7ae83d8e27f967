#include "app/stop_signal.h"

namespace tagspace {
namespace {

// A signal handler can reach nothing but a global.
volatile std::sig_atomic_t arrived_signal = 0;

void remember(int number) { arrived_signal = number; }

}  // namespace

StopSignal::StopSignal() {
  arrived_signal = 0;
  struct sigaction action {};
  action.sa_handler = remember;
  // RESETHAND gives the second one its usual effect; RESTART keeps reads and writes whole.
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, &old_interrupt_);
  sigaction(SIGTERM, &action, &old_terminate_);
}

StopSignal::~StopSignal() {
  sigaction(SIGINT, &old_interrupt_, nullptr);
  sigaction(SIGTERM, &old_terminate_, nullptr);
}

int StopSignal::number() const { return arrived_signal; }

}  // namespace tagspace
