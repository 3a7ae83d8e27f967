// Work shared among threads, with one error coming out of them.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace tagspace {

// `threads`, or one for each core if that is 0.
[[nodiscard]] inline std::uint32_t resolve_threads(std::uint32_t threads) {
  return threads > 0 ? threads : std::max(1U, std::thread::hardware_concurrency());
}

// Calls work(thread) on `threads` threads and waits for all. Throws what the first of them to fail threw.
template <class Work>
void run_threads(std::uint32_t threads, const Work& work) {
  if (threads <= 1) {
    work(0U);
    return;
  }
  std::mutex mutex;
  std::exception_ptr error;
  {
    std::vector<std::jthread> pool;
    pool.reserve(threads);
    for (std::uint32_t thread = 0; thread < threads; ++thread) {
      pool.emplace_back([&, thread] {
        try {
          work(thread);
        } catch (...) {
          const std::scoped_lock lock(mutex);
          if (!error) error = std::current_exception();
        }
      });
    }
  }
  if (error) std::rethrow_exception(error);
}

// A stream of blocks: `produce(block)` makes the next one, one call at a time, until it returns false;
// `work(block)` runs on many threads at once; `consume(block)` gets the blocks one at a time in the order
// they were produced. An error is that of the first block that has one, whatever the number of threads. At
// most one block a thread is held.
template <class Block, class Produce, class Work, class Consume>
void process_in_order(std::uint32_t threads, const Produce& produce, const Work& work,
                      const Consume& consume) {
  std::mutex produce_mutex;
  std::mutex turn_mutex;
  std::condition_variable turn_changed;
  std::uint64_t produced = 0;  // guarded by produce_mutex, the rest by turn_mutex
  std::uint64_t turn = 0;
  bool failed = false;

  run_threads(threads, [&](std::uint32_t) {
    Block block;
    for (;;) {
      std::uint64_t ticket = 0;
      bool made = false;
      std::exception_ptr error;
      {
        const std::scoped_lock lock(produce_mutex);
        {
          const std::scoped_lock turn_lock(turn_mutex);
          if (failed) return;
        }
        ticket = produced;
        try {
          made = produce(block);
        } catch (...) {
          error = std::current_exception();
        }
        if (!made && !error) return;
        ++produced;
      }
      if (!error) {
        try {
          work(block);
        } catch (...) {
          error = std::current_exception();
        }
      }
      std::unique_lock lock(turn_mutex);
      turn_changed.wait(lock, [&] { return turn == ticket || failed; });
      if (failed) return;
      try {
        if (error) std::rethrow_exception(error);
        consume(block);
      } catch (...) {
        failed = true;
        turn_changed.notify_all();
        throw;
      }
      ++turn;
      turn_changed.notify_all();
    }
  });
}

}  // namespace tagspace
