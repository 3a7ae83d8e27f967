// A fixed set of threads that work through numbered tasks together.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace tagspace::kernels {

// Each thread begins with a share of its own, the t-th of equal runs of neighbouring tasks, and helps others
// when it is through: which thread runs a task is open, and results are reproducible as long as a task's
// result depends on its number alone. But mostly what a thread wrote in one run it reads in the next, if the
// two runs' tasks are for the same posts. The calling thread works too.
//
// A training step is a handful of runs of ten to some hundred microseconds, and to wake a sleeping thread
// takes tens of them. So a thread that waits looks on for a while before it sleeps, unless there are more
// threads than cores.
class ThreadPool {
 public:
  explicit ThreadPool(std::size_t threads);  // at least 1, the caller included
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ThreadPool(ThreadPool&&) = delete;
  ThreadPool& operator=(ThreadPool&&) = delete;

  [[nodiscard]] std::size_t threads() const { return workers_.size() + 1; }

  // Calls task(i, thread) once for every i < count and returns when all are done; `thread`, below threads(),
  // tells which scratch memory the task may use. The first exception of a task is thrown again here, after
  // the others have ended. Not to be called from a task.
  using Task = std::function<void(std::size_t i, std::size_t thread)>;
  void run(std::size_t count, const Task& task);

 private:
  void work(std::size_t thread);
  void take_tasks(std::size_t thread);

  // One thread's way to wait. It looks on for as long as that has paid lately: where other programs want the
  // cores, what it waits for does not come while it keeps one of them busy.
  class Waiter {
   public:
    explicit Waiter(bool may_spin) : may_spin_(may_spin) {}
    // Returns when `value` is no longer `old`.
    void wait(const std::atomic<std::uint32_t>& value, std::uint32_t old);

   private:
    bool may_spin_;
    std::chrono::nanoseconds patience_{0};
  };

  // Tasks [begin, end) that a thread has yet to begin, and the run that they belong to, in one word: the
  // thread takes tasks from the front, others steal from the back. On a cache line of its own, so that it
  // moves between cores only where something is stolen.
  struct alignas(64) Share {
    std::atomic<std::uint64_t> left{0};
  };
  [[nodiscard]] std::uint64_t left_of(std::uint64_t seen, std::size_t thread) const;
  bool steal(std::size_t thread);

  std::vector<Share> shares_;  // one for each thread
  bool may_spin_;              // there is a core for each thread
  Waiter waiter_;              // of the calling thread
  std::vector<std::thread> workers_;
  std::mutex error_mutex_;
  std::exception_ptr error_;
  // What threads wait for, each on a cache line of its own.
  alignas(64) std::atomic<std::uint32_t> generation_{0};  // counts the runs; what follows is written before
  const Task* task_ = nullptr;
  std::uint64_t count_ = 0;
  std::atomic<bool> stopping_{false};
  alignas(64) std::atomic<std::uint32_t> done_{0};  // counts the times that a worker ended a run
};

}  // namespace tagspace::kernels
