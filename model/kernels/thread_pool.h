// A fixed set of threads that work through numbered tasks together.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace tagspace::kernels {

// Threads take the next task when they are free, so which thread runs a task is open; results are
// reproducible as long as a task's result depends on its number alone. The calling thread works too.
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

  std::mutex mutex_;
  std::condition_variable started_;
  std::condition_variable finished_;
  const Task* task_ = nullptr;
  std::size_t count_ = 0;
  std::atomic<std::size_t> next_{0};
  std::size_t busy_ = 0;        // workers that have not ended the current run
  std::size_t generation_ = 0;  // counts the runs
  bool stopping_ = false;
  std::exception_ptr error_;
  std::vector<std::thread> workers_;
};

}  // namespace tagspace::kernels
