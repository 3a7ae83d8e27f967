#include <algorithm>
#include <chrono>
#include <gtest/gtest.h>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "data_pipeline/corpus.h"
#include "test_support.h"

namespace tagspace {
namespace {

using testing::TemporaryFolder;
using Order = std::vector<std::uint32_t>;

class BatchLoaderTest : public ::testing::Test {
 protected:
  // Post i has i % 3 + 1 tokens i and the hashtag i, so that a batch tells which posts it holds.
  Corpus corpus(std::uint32_t posts) const {
    const auto path = folder_.path() / (std::to_string(posts) + ".corpus");
    if (!std::filesystem::exists(path)) {
      CorpusWriter writer(path, {posts + 1, posts + 1, 0});
      PackedBatch batch;
      for (std::uint32_t post = 0; post < posts; ++post) {
        batch.tokens.insert(batch.tokens.end(), post % 3 + 1, post);
        batch.hashtags.push_back(post);
        batch.end_post();
      }
      writer.add(batch);
      writer.commit();
    }
    return Corpus(path);
  }

  static void append_posts(const PackedBatch& batch, Order& order) {
    ASSERT_EQ(batch.hashtags.size(), batch.posts());
    ASSERT_EQ(batch.hashtag_offsets.size(), batch.posts() + 1);
    ASSERT_EQ(batch.token_offsets.back(), batch.tokens.size());
    for (std::size_t i = 0; i < batch.posts(); ++i) {
      const std::uint32_t post = batch.hashtags[batch.hashtag_offsets[i]];
      ASSERT_EQ(batch.hashtag_offsets[i + 1] - batch.hashtag_offsets[i], 1U);
      ASSERT_EQ(batch.token_offsets[i + 1] - batch.token_offsets[i], post % 3 + 1);
      for (std::uint32_t at = batch.token_offsets[i]; at < batch.token_offsets[i + 1]; ++at) {
        ASSERT_EQ(batch.tokens[at], post);
      }
      order.push_back(post);
    }
  }

  static Order epoch(BatchLoader& loader, std::uint64_t number, std::uint64_t first_batch = 0) {
    Order order;
    PackedBatch batch;
    loader.start(number, first_batch);
    while (loader.next(batch)) append_posts(batch, order);
    EXPECT_FALSE(loader.next(batch));
    return order;
  }

  static Order sorted(Order order) {
    std::sort(order.begin(), order.end());
    return order;
  }

  static Order range(std::uint32_t posts) {
    Order order(posts);
    for (std::uint32_t i = 0; i < posts; ++i) order[i] = i;
    return order;
  }

  TemporaryFolder folder_;
};

TEST_F(BatchLoaderTest, GivesEveryPostOnceAnEpoch) {
  // Around the sizes of blocks (64), batches and windows (65,536), and several windows with a short block.
  for (const std::uint32_t posts : {0U, 1U, 63U, 64U, 65U, 100U, 1000U, 65535U, 65536U, 65537U, 200001U}) {
    const Corpus data = corpus(posts);
    for (const std::uint32_t batch_size : {1000U, 97U, 100000U}) {
      BatchLoader loader(data, {.batch_size = batch_size, .seed = 3, .workers = 2});
      EXPECT_EQ(loader.batches_per_epoch(), (posts + batch_size - 1) / batch_size);
      for (std::uint64_t number = 0; number < 4; ++number) {
        ASSERT_EQ(sorted(epoch(loader, number)), range(posts)) << posts << " posts, epoch " << number;
      }
    }
  }
}

TEST_F(BatchLoaderTest, FillsEveryBatchButTheLast) {
  const Corpus data = corpus(1000);
  BatchLoader loader(data, {.batch_size = 300});
  loader.start(0);
  std::vector<std::size_t> sizes;
  for (PackedBatch batch; loader.next(batch);) sizes.push_back(batch.posts());
  EXPECT_EQ(sizes, (std::vector<std::size_t>{300, 300, 300, 100}));
}

TEST_F(BatchLoaderTest, TheOrderDependsOnSeedAndEpochAlone) {
  const Corpus data = corpus(200001);
  BatchLoader one(data, {.batch_size = 512, .seed = 5, .workers = 1, .prefetch = 1});
  const Order expected = epoch(one, 7);
  for (const std::uint32_t workers : {0U, 1U, 2U, 3U, 7U}) {
    for (const std::uint32_t prefetch : {1U, 4U, 64U}) {
      BatchLoader loader(data, {.batch_size = 512, .seed = 5, .workers = workers, .prefetch = prefetch});
      EXPECT_TRUE(epoch(loader, 7) == expected) << workers << " workers, " << prefetch << " ahead";
    }
  }
  BatchLoader other_size(data, {.batch_size = 100, .seed = 5});
  EXPECT_TRUE(epoch(other_size, 7) == expected);
  EXPECT_FALSE(epoch(one, 8) == expected);
  EXPECT_TRUE(epoch(one, 7) == expected);
  BatchLoader other_seed(data, {.batch_size = 512, .seed = 6});
  EXPECT_FALSE(epoch(other_seed, 7) == expected);
}

TEST_F(BatchLoaderTest, AnotherThreadMayPrepareTheNextBatch) {
  const Corpus data = corpus(70000);
  for (const std::uint32_t workers : {0U, 2U}) {
    BatchLoader loader(data, {.batch_size = 999, .seed = 5, .workers = workers});
    const Order expected = epoch(loader, 3);
    Order order;
    loader.start(3);
    for (PackedBatch batch; loader.next(batch);) {
      std::jthread([&] {
        loader.prepare();
        loader.prepare();
      }).join();
      append_posts(batch, order);
    }
    EXPECT_TRUE(order == expected) << workers << " workers";
    // What was prepared for another epoch is not given.
    loader.start(1);
    loader.prepare();
    EXPECT_TRUE(epoch(loader, 3) == expected) << workers << " workers";
  }
  BatchLoader failing(data, {.batch_size = 10, .workers = 0, .transform = [](PackedBatch& /*batch*/) {
                               throw std::runtime_error("no");
                             }});
  failing.start(0);
  failing.prepare();
  PackedBatch batch;
  EXPECT_THROW(failing.next(batch), std::runtime_error);
}

// Numbers of a second implementation, in Python: another compiler or library must not change what a seed
// means.
TEST_F(BatchLoaderTest, TheOrderIsTheSameEverywhere) {
  const auto part = [](const Order& order, std::size_t begin, std::size_t count) {
    return Order(order.begin() + static_cast<std::ptrdiff_t>(begin),
                 order.begin() + static_cast<std::ptrdiff_t>(begin + count));
  };
  const Corpus small = corpus(1000);
  BatchLoader one_window(small, {.batch_size = 1000, .seed = 1});
  EXPECT_EQ(part(epoch(one_window, 0), 0, 6), (Order{328, 486, 652, 911, 539, 978}));
  const Corpus large = corpus(200001);
  BatchLoader windows(large, {.batch_size = 1000, .seed = 1});
  const Order order = epoch(windows, 1);
  EXPECT_EQ(part(order, 0, 3), (Order{133427, 137349, 188044}));
  EXPECT_EQ(part(order, 131072, 3), (Order{71499, 100535, 105344}));
  EXPECT_EQ(part(order, 199998, 3), (Order{183883, 162869, 183935}));
}

TEST_F(BatchLoaderTest, BeginsInTheMiddleOfAnEpoch) {
  const Corpus data = corpus(200001);
  BatchLoader loader(data, {.batch_size = 1000, .seed = 9, .workers = 2, .prefetch = 4});
  const Order whole = epoch(loader, 2);
  for (const std::uint64_t first : {1ULL, 65ULL, 66ULL, 131ULL, 200ULL}) {
    const Order rest(whole.begin() + static_cast<std::ptrdiff_t>(first * 1000), whole.end());
    EXPECT_TRUE(epoch(loader, 2, first) == rest) << first;
  }
  EXPECT_TRUE(epoch(loader, 2, 201).empty());
  EXPECT_TRUE(epoch(loader, 2, 999).empty());
}

TEST_F(BatchLoaderTest, AnEpochMayBeLeftAtAnyTime) {
  const Corpus data = corpus(65537);
  BatchLoader loader(data, {.batch_size = 64, .workers = 3, .prefetch = 16});
  const Order expected = epoch(loader, 1);
  PackedBatch batch;
  for (int i = 0; i < 20; ++i) {
    loader.start(0);
    for (int j = 0; j < i; ++j) ASSERT_TRUE(loader.next(batch));
  }
  EXPECT_TRUE(epoch(loader, 1) == expected);
}

TEST_F(BatchLoaderTest, StartingEarlyChangesNothing) {
  const Corpus data = corpus(200001);
  BatchLoader loader(data, {.batch_size = 1000, .prefetch = 2});
  const Order expected = epoch(loader, 1, 3);
  PackedBatch batch;
  for (const std::uint64_t other : {0ULL, 1ULL}) {
    loader.start(other, 0);
    loader.start(1, 3);
    EXPECT_TRUE(epoch(loader, 1, 3) == expected);
  }
  // Not where it was started, if batches were given since.
  loader.start(1, 3);
  ASSERT_TRUE(loader.next(batch));
  EXPECT_TRUE(epoch(loader, 1, 3) == expected);
  loader.start(1, 3);
  ASSERT_TRUE(loader.next(batch));
  EXPECT_TRUE(epoch(loader, 1, 4) == Order(expected.begin() + 1000, expected.end()));
}

TEST_F(BatchLoaderTest, CountsTheTimeItWaitedFor) {
  using Clock = std::chrono::steady_clock;
  const Corpus data = corpus(200001);
  PackedBatch batch;
  // Never more than passed, and never less than before.
  BatchLoader loader(data, {.batch_size = 4096, .prefetch = 1});
  const auto begin = Clock::now();
  loader.start(0);
  EXPECT_EQ(loader.seconds_waited(), 0);
  for (double before = 0; loader.next(batch); before = loader.seconds_waited()) {
    EXPECT_GE(loader.seconds_waited(), before);
  }
  const std::chrono::duration<double> passed = Clock::now() - begin;
  EXPECT_LE(loader.seconds_waited(), passed.count());
  loader.start(1);
  EXPECT_EQ(loader.seconds_waited(), 0);

  // An epoch of one batch, asked for at once: it is not there, unless this thread was put aside just then.
  BatchLoader whole(data, {.batch_size = 200001, .prefetch = 1});
  double waited = 0;
  for (std::uint64_t number = 0; number < 1000 && waited == 0; ++number) {
    whole.start(number);
    ASSERT_TRUE(whole.next(batch));
    waited = whole.seconds_waited();
    // The end of the epoch is not waited for.
    EXPECT_FALSE(whole.next(batch));
    EXPECT_EQ(whole.seconds_waited(), waited);
  }
  EXPECT_GT(waited, 0);
}

TEST_F(BatchLoaderTest, KeepsTheOrderIfAsked) {
  const Corpus data = corpus(70000);
  BatchLoader loader(data, {.batch_size = 333, .shuffle = false, .workers = 2});
  EXPECT_TRUE(epoch(loader, 0) == range(70000));
  EXPECT_TRUE(epoch(loader, 1) == range(70000));
}

TEST_F(BatchLoaderTest, ShufflesFullyUpToAWindow) {
  constexpr std::uint32_t kPosts = 8192;
  const Corpus data = corpus(kPosts);
  BatchLoader loader(data, {.batch_size = kPosts, .seed = 11});
  // The place of a post is uniform: over 64 epochs, its mean is near the middle for every post, and
  // neighbours part.
  std::vector<double> mean(kPosts, 0.0);
  std::size_t neighbours = 0;
  constexpr int kEpochs = 64;
  for (int number = 0; number < kEpochs; ++number) {
    const Order order = epoch(loader, static_cast<std::uint64_t>(number));
    for (std::uint32_t place = 0; place < kPosts; ++place)
      mean[order[place]] += place / double{kPosts} / kEpochs;
    for (std::uint32_t place = 1; place < kPosts; ++place)
      neighbours += order[place] == order[place - 1] + 1 ? 1U : 0U;
  }
  // The standard deviation of such a mean is 0.036.
  for (const double m : mean) EXPECT_NEAR(m, 0.5, 0.2);
  EXPECT_LT(neighbours, 3U * kEpochs);  // one an epoch is expected
}

// A corpus above 32 MB is copied out a window at a time, a smaller one is read post by post: in the same
// order.
TEST_F(BatchLoaderTest, PagesThatStayOrGoChangeNothing) {
  constexpr std::uint32_t kPosts = 70'000;  // two windows, the last block short
  constexpr std::uint32_t kTokens = 120;
  const auto path = folder_.path() / "long.corpus";
  CorpusWriter writer(path, {kPosts + 1, kPosts + 1, 0});
  PackedBatch part;
  for (std::uint32_t post = 0; post < kPosts; ++post) {
    part.tokens.insert(part.tokens.end(), kTokens + post % 5, post);
    part.hashtags.push_back(post);
    part.end_post();
    if (part.posts() < 1000) continue;
    writer.add(part);
    part.clear();
  }
  writer.commit();
  const Corpus large(path);
  ASSERT_GT(large.bytes(), std::uint64_t{33} << 20U);
  const Corpus small = corpus(kPosts);
  for (const std::uint32_t workers : {0U, 2U}) {
    for (const bool shuffle : {false, true}) {
      const BatchLoader::Options options{
          .batch_size = 999, .seed = 6, .shuffle = shuffle, .workers = workers};
      BatchLoader of_small(small, options);
      BatchLoader of_large(large, options);
      const Order expected = epoch(of_small, 3);
      EXPECT_EQ(sorted(expected), range(kPosts));
      Order order;
      PackedBatch batch;
      of_large.start(3);
      while (of_large.next(batch)) {
        for (std::size_t i = 0; i < batch.posts(); ++i) {
          const std::uint32_t post = batch.hashtags[batch.hashtag_offsets[i]];
          ASSERT_EQ(batch.hashtag_offsets[i + 1] - batch.hashtag_offsets[i], 1U);
          ASSERT_EQ(batch.token_offsets[i + 1] - batch.token_offsets[i], kTokens + post % 5);
          for (std::uint32_t at = batch.token_offsets[i]; at < batch.token_offsets[i + 1]; ++at)
            ASSERT_EQ(batch.tokens[at], post);
          order.push_back(post);
        }
      }
      EXPECT_EQ(order, expected);
    }
  }
}

TEST_F(BatchLoaderTest, MixesPostsFromAllOverALargeCorpus) {
  constexpr std::uint32_t kPosts = 200001;
  const Corpus data = corpus(kPosts);
  BatchLoader loader(data, {.batch_size = 1000, .seed = 4});
  loader.start(0);
  PackedBatch batch;
  while (loader.next(batch)) {
    std::set<std::uint32_t> tenths;
    for (const std::uint32_t post : batch.hashtags) tenths.insert(post / (kPosts / 10));
    if (batch.posts() == 1000) {
      EXPECT_GE(tenths.size(), 10U);
    }
  }
}

}  // namespace
}  // namespace tagspace
