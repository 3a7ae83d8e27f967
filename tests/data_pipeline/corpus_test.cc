#include "data_pipeline/corpus.h"

#include <gtest/gtest.h>
#include <string>
#include <vector>

#include "test_support.h"

namespace tagspace {
namespace {

using testing::contains;
using testing::error_of;
using testing::TemporaryFolder;
using Ids = std::vector<std::uint32_t>;

TEST(HashtagVocabularyTest, FindsEveryNameAndNoOther) {
  const HashtagVocabulary hashtags({{"zebra", 9}, {"apple", 5}, {"mango", 5}, {"日本", 2}});
  EXPECT_EQ(hashtags.size(), 4U);
  EXPECT_EQ(hashtags.find("zebra"), 0U);
  EXPECT_EQ(hashtags.find("apple"), 1U);
  EXPECT_EQ(hashtags.find("mango"), 2U);
  EXPECT_EQ(hashtags.find("日本"), 3U);
  EXPECT_FALSE(hashtags.find("app").has_value());
  EXPECT_FALSE(hashtags.find("").has_value());
  EXPECT_FALSE(HashtagVocabulary().find("x").has_value());
}

TEST(HashtagVocabularyTest, FindsEachOfManyAndNothingElse) {
  std::vector<HashtagVocabulary::Entry> entries;
  for (int i = 0; i < 20000; ++i) entries.push_back({"name" + std::to_string(i), 5});
  const HashtagVocabulary hashtags(entries);
  for (std::uint32_t i = 0; i < 20000; ++i) ASSERT_EQ(hashtags.find(entries[i].name), i);
  for (int i = 20000; i < 40000; ++i) ASSERT_FALSE(hashtags.find("name" + std::to_string(i)).has_value());
}

TEST(HashtagVocabularyTest, SaveAndLoadKeepEverything) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "hashtags.tsv";
  HashtagVocabulary({{"zebra", 9}, {"apple", 5}, {"mango", 5}}).save(path);
  EXPECT_EQ(read_file(path), "zebra\t9\napple\t5\nmango\t5\n");
  const auto loaded = HashtagVocabulary::load(path);
  ASSERT_EQ(loaded.size(), 3U);
  EXPECT_EQ(loaded[1].name, "apple");
  EXPECT_EQ(loaded[1].count, 5U);
}

TEST(HashtagVocabularyTest, WrongFilesAreErrorsThatNameFileAndLine) {
  const TemporaryFolder folder;
  struct Case {
    const char* text;
    const char* message;
  };
  for (const Case& c :
       {Case{"a\t5\nb\n", ":2: expected a name"}, Case{"\t5\n", ":1: expected a name"},
        Case{"a\tfive\n", ":1: the count 'five'"}, Case{"a\t5x\n", ":1: the count '5x'"},
        Case{"a\t-5\n", ":1: the count '-5'"}, Case{"a\t\n", ":1: the count ''"},
        Case{"a\t5\nb\t5\na\t5\n", ":3: 'a' occurs a second time"},
        Case{"a\t5\na\t4\n", ":2: 'a' occurs a second time"}, Case{"a\t5\nb\t6\n", ":2: 'b' is out of order"},
        Case{"b\t5\na\t5\n", ":2: 'a' is out of order"},
        Case{"a\t5\nb\t5", ":2: the last line has no end"}}) {
    const auto path = folder.file("h.tsv", c.text);
    const std::string error = error_of([&] { (void)HashtagVocabulary::load(path); });
    EXPECT_TRUE(contains(error, path.string() + c.message)) << c.text << " → " << error;
  }
}

class CorpusTest : public ::testing::Test {
 protected:
  CorpusTest() : path_(folder_.path() / "a.corpus") {}

  // Three posts: {1 2 3} #{0 4}, {} #{2}, {9} #{}.
  void write(const CorpusInfo& info = {10, 5, 77}) const {
    CorpusWriter writer(path_, info);
    PackedBatch batch;
    batch.tokens = {1, 2, 3};
    batch.hashtags = {0, 4};
    batch.end_post();
    batch.hashtags.push_back(2);
    batch.end_post();
    writer.add(batch);
    batch.clear();
    batch.tokens = {9};
    batch.end_post();
    writer.add(batch);
    EXPECT_EQ(writer.posts(), 3U);
    writer.commit();
  }

  std::string error_with(const std::string& bytes) const {
    write_file(path_, bytes);
    return error_of([&] { const Corpus corpus(path_); });
  }

  TemporaryFolder folder_;
  std::filesystem::path path_;
};

TEST_F(CorpusTest, HoldsWhatWasWritten) {
  write();
  const Corpus corpus(path_);
  EXPECT_EQ(corpus.posts(), 3U);
  EXPECT_EQ(corpus.tokens(), 4U);
  EXPECT_EQ(corpus.info().vocab_size, 10U);
  EXPECT_EQ(corpus.info().hashtags, 5U);
  EXPECT_EQ(corpus.info().key, 77U);
  const auto ids = [](std::span<const std::uint32_t> span) { return Ids(span.begin(), span.end()); };
  EXPECT_EQ(ids(corpus.tokens(0)), (Ids{1, 2, 3}));
  EXPECT_EQ(ids(corpus.tokens(1)), Ids{});
  EXPECT_EQ(ids(corpus.tokens(2)), Ids{9});
  EXPECT_EQ(ids(corpus.hashtags(0)), (Ids{0, 4}));
  EXPECT_EQ(ids(corpus.hashtags(1)), Ids{2});
  EXPECT_EQ(ids(corpus.hashtags(2)), Ids{});
  PackedBatch batch;
  corpus.append_to(batch, 2, 3);
  corpus.release_pages();
  corpus.append_to(batch, 0, 2);
  corpus.append_to(batch, 1, 1);
  EXPECT_EQ(batch.tokens, (Ids{9, 1, 2, 3}));
  EXPECT_EQ(batch.token_offsets, (Ids{0, 1, 4, 4}));
  EXPECT_EQ(batch.hashtags, (Ids{0, 4, 2}));
  EXPECT_EQ(batch.hashtag_offsets, (Ids{0, 0, 2, 3}));
  EXPECT_EQ(folder_.list(), std::vector<std::string>{"a.corpus"});
}

TEST_F(CorpusTest, MayBeEmpty) {
  CorpusWriter(path_, {1, 1, 0}).commit();
  EXPECT_EQ(Corpus(path_).posts(), 0U);
}

TEST_F(CorpusTest, ManyPostsPassThroughTheSideFiles) {
  constexpr std::uint32_t kPosts = 200000;
  CorpusWriter writer(path_, {1000, kPosts, 0});
  for (std::uint32_t first = 0; first < kPosts; first += 1000) {
    PackedBatch batch;
    for (std::uint32_t post = first; post < first + 1000; ++post) {
      for (std::uint32_t i = 0; i < post % 5; ++i) batch.tokens.push_back((post + i) % 1000);
      batch.hashtags.push_back(post);
      batch.end_post();
    }
    writer.add(batch);
  }
  writer.commit();
  const Corpus corpus(path_);
  ASSERT_EQ(corpus.posts(), kPosts);
  for (std::uint32_t post = 0; post < kPosts; ++post) {
    ASSERT_EQ(corpus.tokens(post).size(), post % 5);
    for (std::uint32_t i = 0; i < post % 5; ++i) ASSERT_EQ(corpus.tokens(post)[i], (post + i) % 1000);
    ASSERT_EQ(corpus.hashtags(post).size(), 1U);
    ASSERT_EQ(corpus.hashtags(post)[0], post);
  }
}

TEST_F(CorpusTest, EveryCutIsFound) {
  write();
  const std::string whole = read_file(path_);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const std::string error = error_with(whole.substr(0, size));
    EXPECT_TRUE(contains(error, path_.string()) && contains(error, "damaged")) << size << ": " << error;
  }
  EXPECT_TRUE(contains(error_with(whole + '\0'), "damaged"));
  EXPECT_EQ(error_with(whole), "");
}

TEST_F(CorpusTest, EveryFlippedBitIsFound) {
  write();
  const std::string whole = read_file(path_);
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = whole;
      flipped[at] = static_cast<char>(flipped[at] ^ (1 << bit));
      const std::string error = error_with(flipped);
      EXPECT_TRUE(contains(error, path_.string())) << at << ": " << error;
    }
  }
}

TEST_F(CorpusTest, ANewerVersionIsAnErrorOfItsOwn) {
  write();
  std::string bytes = read_file(path_);
  bytes[8] = 2;
  EXPECT_TRUE(contains(error_with(bytes), "version 2"));
}

TEST_F(CorpusTest, IdsOutOfRangeAreFoundBehindARightChecksum) {
  write({9, 5, 0});
  EXPECT_TRUE(contains(error_of([&] { const Corpus corpus(path_); }), "a token is out of range"));
  write({10, 4, 0});
  EXPECT_TRUE(contains(error_of([&] { const Corpus corpus(path_); }), "a hashtag is out of range"));
}

// The header's checksum made right again, as a faulty writer would have it.
TEST_F(CorpusTest, OffsetsThatGoBackwardsAreFoundBehindARightChecksum) {
  write();
  std::string bytes = read_file(path_);
  constexpr std::size_t kHeader = 72;
  const std::size_t offsets = kHeader + std::size_t{4} * 8;  // four tokens, three hashtags, padding
  ASSERT_EQ(bytes[offsets + 8], 3);
  bytes[offsets + 8] = 4;  // 0 4 3 4
  Checksum checksum;
  checksum.update(std::string_view(bytes).substr(kHeader));
  checksum.update(std::string_view(bytes).substr(0, kHeader - 8));
  const std::uint64_t value = checksum.value();
  bytes.replace(kHeader - 8, 8, reinterpret_cast<const char*>(&value), 8);
  EXPECT_TRUE(contains(error_with(bytes), "an offset goes backwards"));
}

TEST_F(CorpusTest, NothingIsLeftOfAWriterThatDidNotCommit) {
  { CorpusWriter writer(path_, {1, 1, 0}); }
  EXPECT_TRUE(folder_.list().empty());
  EXPECT_TRUE(contains(error_of([&] { CorpusWriter(folder_.path() / "none" / "x", {1, 1, 0}); }), "none/x"));
}

}  // namespace
}  // namespace tagspace
