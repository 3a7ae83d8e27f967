// The emulator itself: what collectives return, and that it finds the mistakes that it is there to find.
#include <cmath>
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include "tests/simt/simt.h"

namespace {

constexpr unsigned kAll = 0xFFFFFFFF;

// Runs body() in the order of the threads' numbers, and in five random orders.
template <typename Body>
void for_each_schedule(const Body& body) {
  for (std::uint64_t seed = 0; seed <= 5; ++seed) {
    SCOPED_TRACE("schedule " + std::to_string(seed));
    simt::schedule_seed = seed;
    body();
  }
  simt::schedule_seed = 0;
}

// One block of `threads` threads.
template <typename Kernel>
void run(unsigned threads, std::size_t shared_bytes, const Kernel& kernel) {
  simt::launch(dim3(1), dim3(threads), shared_bytes, kernel);
}

// The message of the error that the kernel is stopped with, under every schedule; the last one's.
template <typename Kernel>
std::string error_of(unsigned threads, const Kernel& kernel) {
  std::string message;
  for_each_schedule([&] {
    message.clear();
    try {
      run(threads, 0, kernel);
    } catch (const simt::Error& error) {
      message = error.what();
    }
    EXPECT_NE(message, "");
  });
  return message;
}

void expect_part(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << text;
}

std::string here(int line) { return "test_simt.cc:" + std::to_string(line); }

TEST(Simt, RunsEveryThreadOfEveryBlockOnce) {
  for_each_schedule([] {
    std::vector<int> runs(5 * 3 * 2 * 40 * 2 * 2);
    int* const out = runs.data();
    simt::launch(dim3(5, 3, 2), dim3(40, 2, 2), 0, [out] {
      const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
      const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
      ++out[block * 160 + thread];
    });
    EXPECT_EQ(runs, std::vector<int>(runs.size(), 1));
  });
}

TEST(Simt, Shuffles) {
  for_each_schedule([] {
    std::vector<float> out(64 * 6);
    float* const results = out.data();
    run(64, 0, [results] {
      float* const mine = results + std::size_t{6} * threadIdx.x;
      const auto value = static_cast<float>(threadIdx.x);
      mine[0] = __shfl_sync(kAll, value, 5);
      mine[1] = __shfl_sync(kAll, value, 9, 8);  // lane 1 of each 8
      mine[2] = __shfl_xor_sync(kAll, value, 2);
      mine[3] = __shfl_down_sync(kAll, value, 3);
      mine[4] = __shfl_up_sync(kAll, value, 3, 16);
      // Two halves of the warp, each a collective of its own.
      mine[5] = __shfl_sync(threadIdx.x % 32 < 16 ? 0xFFFFU : 0xFFFF0000U, value, 15, 16);
    });
    for (unsigned i = 0; i < 64; ++i) {
      const unsigned lane = i % 32;
      const unsigned warp = i - lane;
      EXPECT_EQ(out[6 * i], static_cast<float>(warp + 5));
      EXPECT_EQ(out[6 * i + 1], static_cast<float>(i / 8 * 8 + 1));
      EXPECT_EQ(out[6 * i + 2], static_cast<float>(i ^ 2));
      EXPECT_EQ(out[6 * i + 3], static_cast<float>(lane + 3 < 32 ? i + 3 : i));
      EXPECT_EQ(out[6 * i + 4], static_cast<float>(lane % 16 >= 3 ? i - 3 : i));
      EXPECT_EQ(out[6 * i + 5], static_cast<float>(i / 16 * 16 + 15));
    }
  });
}

TEST(Simt, Votes) {
  for_each_schedule([] {
    std::vector<unsigned> out(40 * 3);
    unsigned* const results = out.data();
    run(40, 0, [results] {
      unsigned* const mine = results + std::size_t{3} * threadIdx.x;
      const unsigned mask = threadIdx.x < 32 ? kAll : 0xFFU;
      mine[0] = __ballot_sync(mask, threadIdx.x % 3 == 0);
      mine[1] = static_cast<unsigned>(__any_sync(mask, threadIdx.x == 32));
      mine[2] = static_cast<unsigned>(__all_sync(mask, threadIdx.x >= 32));
    });
    for (unsigned i = 0; i < 40; ++i) {
      EXPECT_EQ(out[3 * i], i < 32 ? 0x49249249U : 0x92U);  // 33, 36, 39: lanes 1, 4, 7
      EXPECT_EQ(out[3 * i + 1], i < 32 ? 0U : 1U);
      EXPECT_EQ(out[3 * i + 2], i < 32 ? 0U : 1U);
    }
  });
}

// Groups of 8 lanes that make different numbers of rounds.
TEST(Simt, GroupsOfAWarpAreIndependent) {
  for_each_schedule([] {
    std::vector<int> sums(32);
    int* const out = sums.data();
    run(32, 0, [out] {
      const unsigned group = threadIdx.x / 8;
      const unsigned mask = 0xFFU << (8 * group);
      for (unsigned round = 0; round < 3 * group + 1; ++round) {
        out[threadIdx.x] += __popc(__ballot_sync(mask, threadIdx.x % 2 == 0));
      }
    });
    for (unsigned i = 0; i < 32; ++i) EXPECT_EQ(sums[i], static_cast<int>(4 * (3 * (i / 8) + 1)));
  });
}

TEST(Simt, LanesThatHaveFinishedAreNotWaitedFor) {
  for_each_schedule([] {
    unsigned votes = 0;
    int sum = 0;
    run(96, 0, [&votes, &sum] {
      if (threadIdx.x % 32 >= 20) return;
      const unsigned ballot = __ballot_sync(kAll, 1);
      const int count = __syncthreads_count(1);
      if (threadIdx.x == 0) {
        votes = ballot;
        sum = count;
      }
    });
    EXPECT_EQ(votes, 0xFFFFFU);
    EXPECT_EQ(sum, 60);
  });
}

void reverse(float* values, bool with_barrier) {
  TAGSPACE_DYNAMIC_SHARED(float, shared);
  shared[threadIdx.x] = values[threadIdx.x];
  if (with_barrier) __syncthreads();
  values[threadIdx.x] = shared[blockDim.x - 1 - threadIdx.x];
}

std::vector<float> reversed(bool with_barrier) {
  std::vector<float> values(128);
  for (unsigned i = 0; i < 128; ++i) values[i] = static_cast<float>(i);
  float* const data = values.data();
  run(128, 128 * sizeof(float), [=] { reverse(data, with_barrier); });
  return values;
}

TEST(Simt, BarriersOfTheBlock) {
  for_each_schedule([] {
    const auto values = reversed(true);
    for (unsigned i = 0; i < 128; ++i) EXPECT_EQ(values[i], static_cast<float>(127 - i));
  });
}

TEST(Simt, Atomics) {
  for_each_schedule([] {
    int sum = 0;
    unsigned smallest = 1000;
    unsigned largest = 0;
    float real = 0;
    simt::launch(dim3(3), dim3(64), 0, [&] {
      atomicAdd(&sum, 2);
      atomicMin(&smallest, threadIdx.x + 7);
      atomicMax(&largest, threadIdx.x);
      atomicAdd(&real, 0.5F);
    });
    EXPECT_EQ(sum, 3 * 64 * 2);
    EXPECT_EQ(smallest, 7U);
    EXPECT_EQ(largest, 63U);
    EXPECT_EQ(real, 96);
  });
}

TEST(Simt, SharedMemoryStartsAsNoNumberInEachBlock) {
  int numbers = 0;
  simt::launch(dim3(4), dim3(32), 32 * sizeof(float), [&numbers] {
    TAGSPACE_DYNAMIC_SHARED(float, shared);
    if (!std::isnan(shared[threadIdx.x])) atomicAdd(&numbers, 1);
    shared[threadIdx.x] = 1;
  });
  EXPECT_EQ(numbers, 0);
}

TEST(Simt, ASeedGivesTheSameScheduleAgain) {
  const auto order_of = [](std::uint64_t seed) {
    std::vector<unsigned> order(3 * 64);
    unsigned next = 0;
    simt::schedule_seed = seed;
    simt::launch(dim3(3), dim3(64), 0, [&] { order[atomicAdd(&next, 1)] = 64 * blockIdx.x + threadIdx.x; });
    simt::schedule_seed = 0;
    return order;
  };
  EXPECT_EQ(order_of(3), order_of(3));
  EXPECT_NE(order_of(3), order_of(4));
  EXPECT_NE(order_of(3), order_of(0));
}

// Planted mistakes.

TEST(Simt, FindsALaneOutsideItsMask) {
  expect_part(error_of(32, [] { __ballot_sync(0xFFFF, 1); }), "not in the mask");
}

TEST(Simt, FindsDifferentMasks) {
  const auto message = error_of(32, [] { __ballot_sync(threadIdx.x < 16 ? kAll : 0xFFFF0001U, 1); });
  expect_part(message, "different masks");
}

TEST(Simt, FindsDifferentCollectives) {
  const auto message = error_of(32, [] {
    if (threadIdx.x < 16) {
      __ballot_sync(kAll, 1);
    } else {
      __syncwarp();
    }
  });
  expect_part(message, "different collectives");
}

TEST(Simt, FindsCollectivesOfDifferentPlaces) {
  const int line = __LINE__ + 3;
  const auto message = error_of(32, [] {
    if (threadIdx.x < 16) {
      __ballot_sync(kAll, 1);
    } else {
      __ballot_sync(kAll, 1);
    }
  });
  expect_part(message, "different places");
  expect_part(message, here(line));
  expect_part(message, here(line + 2));
}

TEST(Simt, FindsAShuffleFromALaneThatTakesNoPart) {
  expect_part(error_of(32,
                       [] {
                         if (threadIdx.x >= 16) return;
                         __shfl_sync(0xFFFF, 1, 20);
                       }),
              "reads lane 20");
  expect_part(error_of(32,
                       [] {
                         if (threadIdx.x == 31) return;
                         __shfl_sync(kAll, 1, 31);
                       }),
              "reads lane 31");
}

TEST(Simt, FindsALaneThatMissesACollective) {
  const int line = __LINE__ + 3;
  const auto message = error_of(32, [] {
    if (threadIdx.x != 31) __ballot_sync(kAll, 1);
    __syncthreads();
  });
  expect_part(message, "deadlock");
  expect_part(message, here(line));
  expect_part(message, here(line - 1));
}

TEST(Simt, FindsABarrierThatNotAllReach) {
  const int line = __LINE__ + 3;
  const auto message = error_of(64, [] {
    if (threadIdx.x < 32) {
      __syncthreads();
    } else {
      __syncthreads();
    }
  });
  expect_part(message, "different barriers");
  expect_part(message, here(line));
  expect_part(message, here(line + 2));
}

TEST(Simt, FindsALaunchThatCannotBe) {
  EXPECT_THROW(simt::launch(dim3(0), dim3(32), 0, [] {}), simt::Error);
  EXPECT_THROW(simt::launch(dim3(1), dim3(2048), 0, [] {}), simt::Error);
  EXPECT_THROW(simt::launch(dim3(1), dim3(32), 1 << 20, [] {}), simt::Error);
}

TEST(Simt, WorksAgainAfterAnError) {
  EXPECT_THROW(run(32, 0, [] { __ballot_sync(0xFFFF, 1); }), simt::Error);
  EXPECT_EQ(reversed(true)[0], 127);
}

// A missing barrier: here values are wrong under every schedule; the thread sanitizer names the lines as
// well.
#ifdef __SANITIZE_THREAD__
TEST(SimtDeathTest, TheThreadSanitizerFindsAMissingBarrier) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        reversed(false);
        std::exit(0);
      },
      testing::ExitedWithCode(66), "data race");
  EXPECT_EXIT(
      {
        reversed(true);
        std::exit(0);
      },
      testing::ExitedWithCode(0), "");
}
#else
TEST(Simt, AMissingBarrierGivesAWrongResult) {
  for_each_schedule([] { EXPECT_NE(reversed(false), reversed(true)); });
}
#endif

#ifdef __SANITIZE_ADDRESS__
TEST(SimtDeathTest, TheAddressSanitizerFindsWhatIsOutOfBounds) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(run(32, 32,
                   [] {
                     TAGSPACE_DYNAMIC_SHARED(char, shared);
                     shared[threadIdx.x + 1] = 0;
                   }),
               "heap-buffer-overflow");
}
#endif

}  // namespace
