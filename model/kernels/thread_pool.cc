#include "model/kernels/thread_pool.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace tagspace::kernels {
namespace {

// Longer than the serial work between two runs of a step, and than it takes to wake a thread.
constexpr std::chrono::nanoseconds kLongestPatience{60'000};
constexpr std::chrono::nanoseconds kMorePatience{4'000};
// A thread takes this part, a fourth, of its share of what is left.
constexpr std::size_t kPartsOfThread = 4;

// Leaves the core's resources to its other thread for a moment.
inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

ThreadPool::ThreadPool(std::size_t threads)
    : may_spin_(threads <= std::thread::hardware_concurrency()), waiter_(may_spin_) {
  for (std::size_t i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
}

ThreadPool::~ThreadPool() {
  stopping_.store(true, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (auto& worker : workers_) worker.join();
}

void ThreadPool::Waiter::wait(const std::atomic<std::uint32_t>& value, std::uint32_t old) {
  constexpr int kLooks = 32;  // between two looks at the clock
  if (may_spin_) {
    const auto start = std::chrono::steady_clock::now();
    do {
      for (int i = 0; i < kLooks; ++i) {
        if (value.load(std::memory_order_acquire) != old) {
          patience_ = std::min(kLongestPatience, patience_ + kMorePatience);
          return;
        }
        relax();
      }
    } while (std::chrono::steady_clock::now() - start < patience_);
    patience_ /= 2;
  }
  value.wait(old, std::memory_order_acquire);
}

void ThreadPool::run(std::size_t count, const Task& task) {
  if (count == 0) return;
  if (workers_.empty() || count == 1) {
    for (std::size_t i = 0; i < count; ++i) task(i, 0);
    return;
  }
  task_ = &task;
  count_ = count;
  next_.store(0, std::memory_order_relaxed);
  busy_.store(static_cast<std::uint32_t>(workers_.size()), std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  take_tasks(0);
  for (auto busy = busy_.load(std::memory_order_acquire); busy != 0;
       busy = busy_.load(std::memory_order_acquire)) {
    waiter_.wait(busy_, busy);
  }
  task_ = nullptr;
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void ThreadPool::work(std::size_t thread) {
  Waiter waiter(may_spin_);
  std::uint32_t seen = 0;
  for (;;) {
    waiter.wait(generation_, seen);
    // Never two ahead: a run waits for all workers before the next begins.
    ++seen;
    if (stopping_.load(std::memory_order_relaxed)) return;
    take_tasks(thread);
    if (busy_.fetch_sub(1, std::memory_order_acq_rel) == 1) busy_.notify_one();
  }
}

// Some tasks at a time, fewer the nearer the end (guided self-scheduling: Polychronopoulos, Kuck, IEEE Trans.
// Computers 1987): cores have to hand over the counter's cache line less often, and those that hold results
// of neighbouring tasks.
void ThreadPool::take_tasks(std::size_t thread) {
  const std::size_t parts = kPartsOfThread * threads();
  std::size_t seen = 0;  // tasks that were taken, as far as this thread knows
  try {
    for (;;) {
      const std::size_t most = seen < count_ ? std::max<std::size_t>(1, (count_ - seen) / parts) : 1;
      const std::size_t begin = next_.fetch_add(most, std::memory_order_relaxed);
      if (begin >= count_) return;
      const std::size_t end = std::min(count_, begin + most);
      for (std::size_t i = begin; i < end; ++i) (*task_)(i, thread);
      seen = end;
    }
  } catch (...) {
    const std::lock_guard lock(error_mutex_);
    if (!error_) error_ = std::current_exception();
    next_.store(count_, std::memory_order_relaxed);
  }
}

}  // namespace tagspace::kernels
