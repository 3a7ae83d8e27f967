#include "tests/simt/fiber.h"

#include <cstdint>
#include <new>
#include <sys/mman.h>

#if !defined(__x86_64__) || defined(SIMT_UCONTEXT)
#define SIMT_USES_UCONTEXT 1
#include <ucontext.h>
#endif

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
// For functions whose accesses are to a fiber's own data.
#define SIMT_UNOBSERVED __attribute__((no_sanitize("thread")))
extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#else
#define SIMT_UNOBSERVED
#endif

#ifndef SIMT_USES_UCONTEXT
// simt_switch(&saved, next): keeps what a function must keep for its caller on this stack, leaves the stack
// pointer in `saved` and goes on where `next` was left.
extern "C" void simt_switch(void** saved, void* next);
asm(R"(
.text
.type simt_switch, @function
simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size simt_switch, .-simt_switch
)");
#endif

namespace simt {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::size_t kStackBytes = std::size_t{256} * 1024;
#else
constexpr std::size_t kStackBytes = std::size_t{64} * 1024;
#endif
constexpr std::size_t kGuardBytes =
    std::size_t{64} * 1024;  // a page or more, wherever a page has at most 64 KiB

#ifdef SIMT_USES_UCONTEXT
using Place = ucontext_t;
void switch_places(Place& from, Place& to) { swapcontext(&from, &to); }
#else
using Place = void*;
void switch_places(Place& from, Place& to) { simt_switch(&from, to); }
#endif

}  // namespace

struct Fiber::Context {
  Place place{};
  void (*entry)(void*) = nullptr;
  void* argument = nullptr;
  void* fake_stack = nullptr;  // address sanitizer's
  void* sanitizer_thread = nullptr;
};

namespace {

// The operating system's thread that resumes fibers.
struct Resumer {
  Place place{};
  void* fake_stack = nullptr;
  const void* stack = nullptr;
  std::size_t stack_bytes = 0;
  void* sanitizer_thread = nullptr;
};
Resumer resumer;
Fiber* running = nullptr;

}  // namespace

Fiber::Fiber(void (*entry)(void*), void* argument) : context_(new Context) {
  void* memory =
      mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory, kGuardBytes, PROT_NONE);
  memory_ = static_cast<char*>(memory);
  context_->entry = entry;
  context_->argument = argument;
#ifdef SIMT_USES_UCONTEXT
  getcontext(&context_->place);
  context_->place.uc_stack.ss_sp = memory_ + kGuardBytes;
  context_->place.uc_stack.ss_size = kStackBytes;
  context_->place.uc_link = nullptr;
  makecontext(&context_->place, &Fiber::start, 0);
#else
  // What simt_switch pops: six registers and the address to return to. A function finds the stack pointer 8
  // above a multiple of 16, as a call leaves it, and there, for debuggers, no caller.
  auto** top = reinterpret_cast<void**>(memory_ + kGuardBytes + kStackBytes - 24);
  top[0] = nullptr;
  top[-1] = reinterpret_cast<void*>(&Fiber::start);
  for (int i = 2; i <= 7; ++i) top[-i] = nullptr;
  context_->place = top - 7;
#endif
#ifdef __SANITIZE_THREAD__
  context_->sanitizer_thread = __tsan_create_fiber(0);
#endif
}

Fiber::~Fiber() {
#ifdef __SANITIZE_ADDRESS__
  ASAN_UNPOISON_MEMORY_REGION(memory_ + kGuardBytes, kStackBytes);
#endif
#ifdef __SANITIZE_THREAD__
  __tsan_destroy_fiber(context_->sanitizer_thread);
#endif
  munmap(memory_, kGuardBytes + kStackBytes);
  delete context_;
}

SIMT_UNOBSERVED void Fiber::resume() {
  running = this;
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(&resumer.fake_stack, memory_ + kGuardBytes, kStackBytes);
#endif
#ifdef __SANITIZE_THREAD__
  resumer.sanitizer_thread = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(context_->sanitizer_thread, __tsan_switch_to_fiber_no_sync);
#endif
  switch_places(resumer.place, context_->place);
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(resumer.fake_stack, nullptr, nullptr);
#endif
  running = nullptr;
}

SIMT_UNOBSERVED void Fiber::suspend() {
  Context& self = *running->context_;
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(&self.fake_stack, resumer.stack, resumer.stack_bytes);
#endif
#ifdef __SANITIZE_THREAD__
  __tsan_switch_to_fiber(resumer.sanitizer_thread, __tsan_switch_to_fiber_no_sync);
#endif
  switch_places(self.place, resumer.place);
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(self.fake_stack, &resumer.stack, &resumer.stack_bytes);
#endif
}

SIMT_UNOBSERVED void Fiber::start() {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(nullptr, &resumer.stack, &resumer.stack_bytes);
#endif
  const Context& self = *running->context_;
  self.entry(self.argument);
  __builtin_unreachable();
}

#ifdef __SANITIZE_THREAD__
void release(void* tag) { __tsan_release(tag); }
void acquire(void* tag) { __tsan_acquire(tag); }
Unobserved::Unobserved() {
  AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
  AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
}
Unobserved::~Unobserved() {
  AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
  AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
}
#else
void release(void* /*tag*/) {}
void acquire(void* /*tag*/) {}
Unobserved::Unobserved() = default;
Unobserved::~Unobserved() = default;
#endif

}  // namespace simt
