// A call stack of its own that runs until it suspends itself, on the operating system's thread that resumed
// it.
//
// On x86-64 a switch is a few instructions of assembly; elsewhere it is ucontext's, which makes a system call
// and is some twenty times slower. Address and thread sanitizer are told of each switch: to the former a
// fiber is a stack, to the latter a thread, whose memory accesses are ordered with another fiber's by nothing
// but what release() and acquire() say.
#pragma once

#include <cstddef>

namespace simt {

class Fiber {
 public:
  // Calls entry(argument) when it is first resumed; entry must never return.
  Fiber(void (*entry)(void*), void* argument);
  // A suspended fiber may be destroyed; objects on its stack are not.
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Runs the fiber until it suspends itself. Not to be called from a fiber.
  void resume();
  // Back to where the running fiber was resumed.
  static void suspend();

 private:
  struct Context;

  static void start();

  char* memory_;  // a page that must not be touched, then the stack
  Context* context_;
};

// Everything before release(tag) happens before everything after a later acquire(tag), for the thread
// sanitizer.
void release(void* tag);
void acquire(void* tag);

// While one of these lives, the thread sanitizer does not look at the fiber's memory accesses: the emulator's
// own data is not the kernel's.
class Unobserved {
 public:
  Unobserved();
  ~Unobserved();  // NOLINT(performance-trivially-destructible): not under the thread sanitizer
  Unobserved(const Unobserved&) = delete;
  Unobserved& operator=(const Unobserved&) = delete;
};

}  // namespace simt
