#include <atomic>
#include <chrono>
#include <gtest/gtest.h>
#include <stdexcept>
#include <thread>
#include <vector>

#include "model/kernels/thread_pool.h"

namespace tagspace::kernels {
namespace {

TEST(ThreadPool, RunsEveryTaskOnceOnAKnownThread) {
  for (const std::size_t threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (const std::size_t count : {0, 1, 2, 5, 1000}) {
      std::vector<std::atomic<int>> calls(count);
      std::atomic<bool> bad_thread = false;
      pool.run(count, [&](std::size_t i, std::size_t thread) {
        ++calls[i];
        if (thread >= threads) bad_thread = true;
      });
      for (const auto& c : calls) EXPECT_EQ(c.load(), 1);
      EXPECT_FALSE(bad_thread);
    }
  }
}

// Runs in quick succession find the workers awake; after a pause they sleep and have to be woken.
TEST(ThreadPool, RunsWhetherItsThreadsSleepOrNot) {
  for (const std::size_t threads : {2, 3, 7}) {
    ThreadPool pool(threads);
    for (const auto pause : {std::chrono::milliseconds{0}, std::chrono::milliseconds{3}}) {
      for (int round = 0; round < (pause.count() == 0 ? 2000 : 20); ++round) {
        std::vector<int> results(16);
        pool.run(results.size(),
                 [&](std::size_t i, std::size_t) { results[i] = static_cast<int>(i) + round; });
        for (std::size_t i = 0; i < results.size(); ++i) ASSERT_EQ(results[i], static_cast<int>(i) + round);
        if (pause.count() != 0) std::this_thread::sleep_for(pause);
      }
    }
  }
}

// A task that waits for all the others: they can only be done if another thread takes them, the first task's
// neighbours among them.
TEST(ThreadPool, AnotherThreadTakesWhatALongTaskHoldsUp) {
  for (const std::size_t threads : {2, 5}) {
    ThreadPool pool(threads);
    for (const std::size_t long_task : {0, 57, 99}) {
      std::atomic<int> others = 0;
      pool.run(100, [&](std::size_t i, std::size_t) {
        if (i == long_task) {
          while (others.load() != 99) std::this_thread::yield();
        } else {
          ++others;
        }
      });
      EXPECT_EQ(others, 99);
    }
  }
}

TEST(ThreadPool, ThrowsATasksExceptionAndGoesOn) {
  ThreadPool pool(3);
  for (int round = 0; round < 50; ++round) {
    EXPECT_THROW(pool.run(100,
                          [](std::size_t i, std::size_t) {
                            if (i == 37) throw std::runtime_error("task 37");
                          }),
                 std::runtime_error);
    std::atomic<int> done = 0;
    pool.run(10, [&](std::size_t, std::size_t) { ++done; });
    EXPECT_EQ(done, 10);
  }
}

}  // namespace
}  // namespace tagspace::kernels
