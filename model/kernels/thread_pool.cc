#include "model/kernels/thread_pool.h"

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <utility>

namespace tagspace::kernels {
namespace {

// Longer than the serial work between two runs of a step, and than it takes to wake a thread.
constexpr std::chrono::nanoseconds kLongestPatience{60'000};
constexpr std::chrono::nanoseconds kMorePatience{4'000};

// A share in a word: the run's number modulo 4, then begin and end. A run waits for all workers before the
// next begins, so a share is of this run or of the one before.
constexpr unsigned kBits = 31;
constexpr std::uint64_t kMostTasks = (std::uint64_t{1} << kBits) - 1;

constexpr std::uint64_t pack(std::uint32_t generation, std::uint64_t begin, std::uint64_t end) {
  return std::uint64_t{generation % 4} << (2 * kBits) | begin << kBits | end;
}
constexpr std::uint64_t run_of(std::uint64_t share) { return share >> (2 * kBits); }
constexpr std::uint64_t begin_of(std::uint64_t share) { return share >> kBits & kMostTasks; }
constexpr std::uint64_t end_of(std::uint64_t share) { return share & kMostTasks; }

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
    : shares_(threads), may_spin_(threads <= std::thread::hardware_concurrency()), waiter_(may_spin_) {
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
  if (count > kMostTasks) throw std::logic_error("ThreadPool::run: too many tasks");
  task_ = &task;
  count_ = count;
  const std::uint32_t generation = generation_.fetch_add(1, std::memory_order_release) + 1;
  generation_.notify_all();
  take_tasks(0);
  const auto all = generation * static_cast<std::uint32_t>(workers_.size());
  for (auto done = done_.load(std::memory_order_acquire); done != all;
       done = done_.load(std::memory_order_acquire)) {
    waiter_.wait(done_, done);
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
    done_.fetch_add(1, std::memory_order_acq_rel);
    done_.notify_one();
  }
}

// What a thread has yet to begin, where its share was seen as this: nobody has written a share of this run as
// long as its thread sleeps.
std::uint64_t ThreadPool::left_of(std::uint64_t seen, std::size_t thread) const {
  const std::uint32_t generation = generation_.load(std::memory_order_relaxed);
  if (run_of(seen) == generation % 4) return seen;
  return pack(generation, thread * count_ / threads(), (thread + 1) * count_ / threads());
}

// Half of what another thread has left becomes the thread's share: to take tasks one by one would move two
// cache lines for each, that of the share and that between results. False when nothing is left.
bool ThreadPool::steal(std::size_t thread) {
  for (std::size_t i = 1; i < threads(); ++i) {
    const std::size_t other = (thread + i) % threads();
    std::uint64_t seen = shares_[other].left.load(std::memory_order_relaxed);
    for (;;) {
      const std::uint64_t left = left_of(seen, other);
      const std::uint64_t begin = begin_of(left);
      const std::uint64_t end = end_of(left);
      if (begin == end) break;
      const std::uint64_t middle = begin + (end - begin) / 2;
      const auto run = static_cast<std::uint32_t>(run_of(left));
      if (shares_[other].left.compare_exchange_weak(seen, pack(run, begin, middle),
                                                    std::memory_order_relaxed)) {
        shares_[thread].left.store(pack(run, middle, end), std::memory_order_relaxed);
        return true;
      }
    }
  }
  return false;
}

void ThreadPool::take_tasks(std::size_t thread) {
  std::atomic<std::uint64_t>& share = shares_[thread].left;
  std::uint64_t seen = share.load(std::memory_order_relaxed);
  share.compare_exchange_strong(seen, left_of(seen, thread), std::memory_order_relaxed);
  try {
    do {
      seen = share.load(std::memory_order_relaxed);
      while (begin_of(seen) != end_of(seen)) {
        const std::uint64_t begin = begin_of(seen);
        const std::uint64_t rest = seen + (std::uint64_t{1} << kBits);
        if (!share.compare_exchange_weak(seen, rest, std::memory_order_relaxed)) continue;
        (*task_)(begin, thread);
        seen = share.load(std::memory_order_relaxed);
      }
    } while (steal(thread));
  } catch (...) {
    const std::lock_guard lock(error_mutex_);
    if (!error_) error_ = std::current_exception();
    for (Share& each : shares_)
      each.left.store(pack(generation_.load(std::memory_order_relaxed), 0, 0), std::memory_order_relaxed);
  }
}

}  // namespace tagspace::kernels
