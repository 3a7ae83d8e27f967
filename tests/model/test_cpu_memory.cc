#include <algorithm>
#include <cstdint>
#include <fstream>
#include <gtest/gtest.h>
#include <malloc.h>
#include <random>
#include <set>
#include <unistd.h>

#include "model/cpu_memory.h"

namespace tagspace {
namespace {

// Bytes of this process that lie in memory.
double resident_bytes() {
  std::uint64_t pages_of_program = 0;
  std::uint64_t resident_pages = 0;
  std::ifstream("/proc/self/statm") >> pages_of_program >> resident_pages;
  return static_cast<double>(resident_pages) * static_cast<double>(::sysconf(_SC_PAGESIZE));
}

PackedBatch batch_of(const ModelConfig& config, std::size_t posts, std::mt19937& random) {
  PackedBatch batch;
  for (std::size_t post = 0; post < posts; ++post) {
    // Few words are frequent.
    for (auto length = random() % 30; length > 0; --length)
      batch.tokens.push_back(static_cast<std::uint32_t>(std::min(random(), random()) % config.vocab_size));
    batch.hashtags.push_back(static_cast<std::uint32_t>(random() % config.hashtags));
    batch.end_post();
  }
  return batch;
}

// The memory is the kernel's count of pages, so the models are large enough that a few MB are nothing.
void expect_estimate_holds(ModelConfig config) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer's own memory cannot be told from the model's";
#endif
  for (const std::size_t posts : {64UL, 2048UL, 8192UL}) {
    std::mt19937 random(1);
    const PackedBatch batch = batch_of(config, posts, random);
    const std::set<std::uint32_t> distinct(batch.tokens.begin(), batch.tokens.end());
    ::malloc_trim(0);
    const double before = resident_bytes();
    if (before == 0) GTEST_SKIP() << "no /proc";
    Model model(config);
    // Several, as a thread that finds no task left in one has yet no memory of its own.
    for (std::uint64_t step = 0; step < 3; ++step) (void)model.train_step(batch, step, 1, false);
    const double taken = resident_bytes() - before;
    const CpuMemory estimate = estimate_cpu_memory(config, {posts, batch.tokens.size(), distinct.size()});
    const auto library = static_cast<double>(estimate.library);  // the first model takes it, or a test before
    const auto expected = static_cast<double>(estimate.parameters + estimate.optimizer + estimate.step);
    EXPECT_LE(expected, 1.15 * taken) << posts << " posts, " << config.threads << " threads";
    EXPECT_LE(taken, 1.15 * (expected + library)) << posts << " posts, " << config.threads << " threads";
  }
}

TEST(CpuMemoryTest, TheEstimateOfABagHolds) {
  ModelConfig config;
  config.encoder = EncoderType::bag;
  config.vocab_size = 200'000;
  config.hashtags = 300'000;
  config.word_dropout = 0.1F;
  expect_estimate_holds(config);
}

TEST(CpuMemoryTest, TheEstimateOfAConvolutionHolds) {
  for (const std::uint32_t threads : {1U, 2U}) {
    ModelConfig config;
    config.vocab_size = 20'000;
    config.hashtags = 100'000;
    config.filters = 1000;
    config.threads = threads;
    config.optimizer = threads == 1 ? OptimizerType::sgd : OptimizerType::adagrad;
    expect_estimate_holds(config);
  }
}

}  // namespace
}  // namespace tagspace
