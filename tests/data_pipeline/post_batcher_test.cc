#include "data_pipeline/post_batcher.h"

#include <atomic>
#include <fstream>
#include <gtest/gtest.h>
#include <string>
#include <sys/stat.h>
#include <thread>
#include <vector>

#include "test_support.h"

namespace tagspace {
namespace {

using testing::contains;
using testing::error_of;
using testing::TemporaryFolder;
using Ids = std::vector<std::uint32_t>;

class PostBatcherTest : public ::testing::Test {
 protected:
  PostBatcherTest() {
    bool given = false;
    tokenizer_ = Tokenizer::train(
        {.type = TokenizerType::word, .vocab_size = 9, .min_count = 1, .model = {}},
        [&](std::vector<std::string>& texts) {
          texts = {"a a a b b c"};
          return !std::exchange(given, true);
        },
        1);
  }

  TemporaryFolder folder_;
  std::unique_ptr<Tokenizer> tokenizer_;
  HashtagVocabulary hashtags_{{{"x", 9}, {"y", 8}, {"z", 7}}};
};

TEST_F(PostBatcherTest, GivesOnePostForEveryLine) {
  PostReader reader(folder_.file("p.txt", "c a #z #x #other\n\nunknown #Y\nb #x #x\n"), true);
  PostBatcher batcher(reader, *tokenizer_, hashtags_, 1);
  PackedBatch batch;
  std::vector<Post> posts;
  ASSERT_TRUE(batcher.next(3, batch, &posts));
  EXPECT_EQ(batch.tokens, (Ids{2, 0}));
  EXPECT_EQ(batch.token_offsets, (Ids{0, 2, 2, 2}));
  EXPECT_EQ(batch.hashtags, (Ids{0, 2, 1}));  // ascending in a post
  EXPECT_EQ(batch.hashtag_offsets, (Ids{0, 2, 2, 3}));
  ASSERT_EQ(posts.size(), 3U);
  EXPECT_EQ(posts[2].text, "unknown");
  ASSERT_TRUE(batcher.next(3, batch, &posts));
  EXPECT_EQ(batch.tokens, (Ids{1}));
  EXPECT_EQ(batch.hashtags, (Ids{0}));
  EXPECT_EQ(posts.size(), 1U);
  EXPECT_FALSE(batcher.next(3, batch, &posts));
  EXPECT_EQ(batch.posts(), 0U);
}

TEST_F(PostBatcherTest, KeepsOnlyPostsWithAHashtagOfTheTableIfAsked) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += i % 10 == 0 ? "a #y\n" : "b #none\n";
  PostReader reader(folder_.file("p.txt", text), true);
  PostBatcher batcher(reader, *tokenizer_, hashtags_, 2, PostBatcher::Keep::with_hashtags);
  PackedBatch batch;
  std::vector<Post> posts;
  ASSERT_TRUE(batcher.next(64, batch, &posts));
  EXPECT_EQ(batch.posts(), 64U);
  EXPECT_EQ(posts.size(), 64U);
  EXPECT_EQ(batch.hashtags, Ids(64, 1));
  ASSERT_TRUE(batcher.next(64, batch, &posts));
  EXPECT_EQ(batch.posts(), 36U);
  EXPECT_FALSE(batcher.next(64, batch, &posts));
}

TEST_F(PostBatcherTest, DoesNotDependOnTheThreads) {
  std::string text;
  for (int i = 0; i < 3000; ++i) text += std::string(static_cast<std::size_t>(i % 4), 'a') + " b c a #x\n";
  const auto path = folder_.file("p.txt", text);
  Ids expected;
  for (const std::uint32_t threads : {1U, 2U, 3U, 7U}) {
    PostReader reader(path, true);
    PostBatcher batcher(reader, *tokenizer_, hashtags_, threads);
    Ids all;
    std::size_t posts = 0;
    for (PackedBatch batch; batcher.next(700, batch);) {
      all.insert(all.end(), batch.tokens.begin(), batch.tokens.end());
      all.insert(all.end(), batch.token_offsets.begin(), batch.token_offsets.end());
      posts += batch.posts();
    }
    EXPECT_EQ(posts, 3000U);
    if (expected.empty()) expected = all;
    EXPECT_TRUE(all == expected) << threads;
  }
}

TEST_F(PostBatcherTest, NamesTheFirstBadLineWhateverTheThreads) {
  std::string text;
  for (int i = 1; i <= 1000; ++i) text += i == 300 || i == 310 || i == 900 ? "bad\n" : "{\"text\": \"a\"}\n";
  const auto path = folder_.file("p.jsonl", text);
  for (const std::uint32_t threads : {1U, 3U, 7U}) {
    PostReader reader(path, true);
    PostBatcher batcher(reader, *tokenizer_, hashtags_, threads);
    PackedBatch batch;
    EXPECT_TRUE(contains(error_of([&] {
                           while (batcher.next(1000, batch)) {
                           }
                         }),
                         ":300: "));
  }
}

TEST_F(PostBatcherTest, AnswersALineWithoutWaitingForMore) {
  const auto path = folder_.path() / "pipe";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  std::atomic<int> answered = 0;
  std::jthread typist([&] {
    std::ofstream pipe(path);
    for (int i = 0; i < 3; ++i) {
      pipe << (i == 1 ? "a\nb\n" : "c\n") << std::flush;
      while (answered <= i) std::this_thread::yield();
    }
  });
  PostReader reader(path, true);
  PostBatcher batcher(reader, *tokenizer_, hashtags_, 4);
  PackedBatch batch;
  std::vector<std::size_t> sizes;
  while (batcher.next(512, batch)) {
    sizes.push_back(batch.posts());
    ++answered;
  }
  EXPECT_EQ(sizes, (std::vector<std::size_t>{1, 2, 1}));
}

}  // namespace
}  // namespace tagspace
