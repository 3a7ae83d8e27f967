#include <algorithm>
#include <chrono>
#include <csignal>
#include <gtest/gtest.h>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include "data_pipeline/corpus.h"
#include "data_pipeline/post_batcher.h"
#include "test_support.h"

namespace tagspace {
namespace {

using testing::contains;
using testing::error_of;
using testing::TemporaryFolder;

class PrepareDataTest : public ::testing::Test {
 protected:
  PrepareDataTest() {
    data_.train = sources_.file("train.txt", posts(6000));
    data_.valid = sources_.file("valid.txt", posts(300));
    data_.cache = folder_.path() / "cache";
    data_.min_count = 3;
    tokenizer_.type = TokenizerType::word;
    tokenizer_.vocab_size = 1000;
  }

  // Every third post without a hashtag of the table, every tenth with nothing but a hashtag.
  static std::string posts(int count) {
    std::string text;
    for (int i = 0; i < count; ++i) {
      if (i % 10 != 0) text += "word" + std::to_string(i % 50) + " and word" + std::to_string(i % 7) + " é ";
      text += i % 3 == 0 ? "#rare" + std::to_string(i) : "#tag" + std::to_string(i % 20) + " #common";
      text += "\n";
    }
    return text;
  }

  PreparedData prepare(std::uint32_t threads = 2) {
    log_.clear();
    return prepare_data(
        data_, tokenizer_, threads, [&](const std::string& line) { log_ += line + "\n"; },
        [] { return false; });
  }
  std::string error() {
    return error_of([&] { (void)prepare(); });
  }

  // The files of the one cache entry, and what is in them.
  [[nodiscard]] std::string cache_contents() const {
    std::string all;
    for (const std::string& name : folder_.list()) {
      const auto path = folder_.path() / name;
      if (std::filesystem::is_regular_file(path)) all += name + "\n" + read_file(path);
    }
    return all;
  }
  [[nodiscard]] std::filesystem::path entry() const {
    for (const auto& found : std::filesystem::directory_iterator(data_.cache)) return found.path();
    return {};
  }

  TemporaryFolder sources_;
  TemporaryFolder folder_;
  DataConfig data_;
  TokenizerConfig tokenizer_;
  std::string log_;
};

TEST_F(PrepareDataTest, MakesTableTokenizerAndCorpora) {
  const PreparedData prepared = prepare();
  // "common" in 4000 posts; tag0 .. tag19, each in 200.
  ASSERT_EQ(prepared.hashtags.size(), 21U);
  EXPECT_EQ(prepared.hashtags[0].name, "common");
  EXPECT_EQ(prepared.hashtags[0].count, 4000U);
  EXPECT_EQ(prepared.hashtags[1].name, "tag0");
  EXPECT_EQ(prepared.hashtags[1].count, 200U);
  EXPECT_EQ(prepared.hashtags[2].name, "tag1");
  EXPECT_EQ(prepared.train->posts(), 3600U);  // 400 have no token
  EXPECT_EQ(prepared.valid->posts(), 200U);   // here they stay
  EXPECT_LT(prepared.tokenizer->id("and"), 2U);

  // The first post of the corpus is line 1 (line 0 has no hashtag of the table).
  std::string text;
  for (const std::uint32_t token : prepared.train->tokens(0)) text += prepared.tokenizer->token(token) + " ";
  EXPECT_EQ(text, "word1 and word1 é ");
  ASSERT_EQ(prepared.train->hashtags(0).size(), 2U);
  EXPECT_EQ(prepared.train->hashtags(0)[0], 0U);
  EXPECT_EQ(prepared.train->hashtags(0)[1], 2U);
  EXPECT_TRUE(contains(log_, "read 6000 posts of '" + data_.train.string() + "'")) << log_;
  EXPECT_TRUE(contains(log_, "tokenized 3600 posts of '" + data_.train.string() + "'")) << log_;
}

// One post after the other, three times over the file, with the pipeline's parts as other programs use them.
TEST_F(PrepareDataTest, GivesWhatThePlainWayGives) {
  std::string text = posts(5000);
  std::mt19937 random(7);
  std::uniform_int_distribution<int> word(0, 3000);
  for (int i = 0; i < 3000; ++i) {
    for (int length = word(random) % 40; length > 0; --length)
      text += "Wort" + std::to_string(std::min(word(random), word(random))) + (length % 5 == 0 ? "！ " : " ");
    text += "#t" + std::to_string(word(random) % 60) + " #Common #common\n\n";
  }
  write_file(data_.train, text);
  tokenizer_.vocab_size = 400;
  tokenizer_.max_tokens = 12;
  for (const TokenizerType type : {TokenizerType::word, TokenizerType::sentencepiece}) {
    tokenizer_.type = type;
    const PreparedData prepared = prepare(3);

    std::map<std::string, std::uint64_t> counts;
    std::vector<Post> all;
    PostReader reader(data_.train, tokenizer_.lowercase);
    for (Post post; reader.next(post);) {
      for (const std::string& hashtag : post.hashtags) ++counts[hashtag];
      all.push_back(std::move(post));
    }
    std::erase_if(counts, [&](const auto& entry) { return entry.second < data_.min_count; });
    ASSERT_EQ(prepared.hashtags.size(), counts.size());
    for (std::uint32_t row = 0; row < prepared.hashtags.size(); ++row) {
      EXPECT_EQ(prepared.hashtags[row].count, counts[prepared.hashtags[row].name]);
    }
    std::erase_if(all, [&](const Post& post) {
      return std::none_of(post.hashtags.begin(), post.hashtags.end(),
                          [&](const std::string& hashtag) { return counts.contains(hashtag); });
    });

    std::size_t given = 0;
    std::mutex mutex;
    const auto tokenizer = Tokenizer::train(
        tokenizer_,
        [&](std::vector<std::string>& texts) {
          const std::scoped_lock lock(mutex);
          texts.clear();
          for (; given < all.size() && texts.size() < 100; ++given) texts.push_back(all[given].text);
          return !texts.empty();
        },
        1);
    ASSERT_EQ(prepared.tokenizer->vocab_size(), tokenizer->vocab_size());
    for (std::uint32_t id = 0; id < tokenizer->vocab_size(); ++id) {
      ASSERT_EQ(prepared.tokenizer->token(id), tokenizer->token(id));
    }

    std::uint64_t at = 0;
    for (const Post& post : all) {
      PackedBatch expected;
      append_encoded(expected, post, *tokenizer, prepared.hashtags);
      if (expected.tokens.empty()) continue;
      ASSERT_LT(at, prepared.train->posts());
      const auto tokens = prepared.train->tokens(at);
      const auto hashtags = prepared.train->hashtags(at);
      ASSERT_EQ(std::vector<std::uint32_t>(tokens.begin(), tokens.end()), expected.tokens) << at;
      ASSERT_EQ(std::vector<std::uint32_t>(hashtags.begin(), hashtags.end()), expected.hashtags) << at;
      ++at;
    }
    EXPECT_EQ(at, prepared.train->posts());
    EXPECT_GT(at, 5000U);
  }
}

TEST_F(PrepareDataTest, WordsAreCountedInPostsThatAreTrainedOn) {
  write_file(data_.train, "often once #a\noften #a\noften #b\noften #b\nalone alone alone #rare\nalone\n");
  data_.min_count = 2;
  data_.valid = data_.train;
  const PreparedData prepared = prepare();
  EXPECT_EQ(prepared.tokenizer->vocab_size(), 1U);
  EXPECT_EQ(prepared.tokenizer->token(0), "often");
}

TEST_F(PrepareDataTest, TheTableTakesTheMostFrequent) {
  data_.max_size = 2;
  const PreparedData prepared = prepare();
  ASSERT_EQ(prepared.hashtags.size(), 2U);
  EXPECT_EQ(prepared.hashtags[1].name, "tag0");
}

TEST_F(PrepareDataTest, DoesNotDependOnTheThreads) {
  (void)prepare(1);
  const std::string expected = cache_contents();
  for (const std::uint32_t threads : {2U, 3U, 7U, 0U}) {
    std::filesystem::remove_all(data_.cache);
    (void)prepare(threads);
    EXPECT_TRUE(cache_contents() == expected) << threads;
  }
}

TEST_F(PrepareDataTest, ReusesWhatItMade) {
  (void)prepare();
  const std::string before = cache_contents();
  const PreparedData again = prepare();
  EXPECT_TRUE(contains(log_, "reusing '" + entry().string() + "': 3600 training posts")) << log_;
  EXPECT_FALSE(contains(log_, "tokenized"));
  EXPECT_EQ(again.train->posts(), 3600U);
  EXPECT_TRUE(cache_contents() == before);
}

TEST_F(PrepareDataTest, MakesAnewWhatOtherSettingsOrSourcesNeed) {
  (void)prepare();
  const auto made = [&] {
    (void)prepare();
    return !contains(log_, "reusing");
  };
  EXPECT_FALSE(made());
  data_.min_count = 4;
  EXPECT_TRUE(made());
  data_.max_size = 10;
  EXPECT_TRUE(made());
  tokenizer_.vocab_size = 40;
  EXPECT_TRUE(made());
  tokenizer_.min_count = 1;
  EXPECT_TRUE(made());
  tokenizer_.max_tokens = 2;
  EXPECT_TRUE(made());
  tokenizer_.lowercase = false;
  EXPECT_TRUE(made());
  EXPECT_FALSE(made());
  // The same bytes at another time, other bytes at the same time, another file.
  std::filesystem::last_write_time(data_.valid,
                                   std::filesystem::last_write_time(data_.valid) + std::chrono::seconds(1));
  EXPECT_TRUE(made());
  const auto time = std::filesystem::last_write_time(data_.train);
  write_file(data_.train, posts(6001));
  std::filesystem::last_write_time(data_.train, time);
  EXPECT_TRUE(made());
  std::filesystem::copy(data_.train, sources_.path() / "other.txt");
  data_.train = sources_.path() / "other.txt";
  EXPECT_TRUE(made());
  EXPECT_FALSE(made());
}

TEST_F(PrepareDataTest, MakesADamagedEntryAgain) {
  (void)prepare();
  const std::string before = cache_contents();
  const std::filesystem::path folder = entry();
  for (const char* name : {"manifest.json", "hashtags.tsv", "train.corpus", "valid.corpus",
                           "tokenizer/words.tsv", "tokenizer/tokenizer.json"}) {
    const std::string bytes = read_file(folder / name);
    std::string changed = bytes;
    changed[changed.size() / 2] = static_cast<char>(changed[changed.size() / 2] ^ 1);
    for (const std::string& wrong : {bytes.substr(0, bytes.size() / 2), changed, std::string()}) {
      if (std::string(name) == "manifest.json" && wrong == changed)
        continue;  // may be a harmless letter of a path
      write_file(folder / name, wrong);
      (void)prepare();
      EXPECT_TRUE(contains(log_, "making '" + folder.string() + "' again") && contains(log_, name))
          << name << log_;
      EXPECT_TRUE(cache_contents() == before) << name;
    }
    std::filesystem::remove(folder / name);
    (void)prepare();
    EXPECT_TRUE(cache_contents() == before) << name;
  }
}

TEST_F(PrepareDataTest, DoesNotMixUpEntries) {
  (void)prepare();
  const auto first = entry();
  const std::string corpus = read_file(first / "train.corpus");
  std::filesystem::remove_all(first);
  data_.min_count = 4;
  (void)prepare();
  write_file(entry() / "train.corpus", corpus);  // of the same sizes, but another key
  (void)prepare();
  EXPECT_TRUE(contains(log_, "other settings")) << log_;
}

TEST_F(PrepareDataTest, TrainsSentencepiece) {
  tokenizer_.type = TokenizerType::sentencepiece;
  tokenizer_.vocab_size = 80;
  const PreparedData prepared = prepare();
  EXPECT_LE(prepared.tokenizer->vocab_size(), 80U);
  EXPECT_EQ(prepared.train->posts(), 3600U);
  (void)prepare();
  EXPECT_TRUE(contains(log_, "reusing"));
}

TEST_F(PrepareDataTest, MissingAndEmptyFilesAreErrors) {
  const DataConfig good = data_;
  for (auto member : {&DataConfig::train, &DataConfig::valid, &DataConfig::test}) {
    data_ = good;
    data_.*member = sources_.path() / "missing.txt";
    EXPECT_TRUE(contains(error(), "missing.txt': No such file")) << error();
    data_.*member = sources_.file("empty.txt", "");
    EXPECT_TRUE(contains(error(), "empty.txt' is empty")) << error();
    data_.*member = sources_.path();
    EXPECT_TRUE(contains(error(), "not a regular file")) << error();
  }
  data_ = good;
  data_.train = sources_.file("empty.gz", testing::gzip(""));
  EXPECT_TRUE(contains(error(), "empty.gz' is empty")) << error();
  data_ = good;
  data_.valid = sources_.file("empty.zst", testing::zstd(""));
  EXPECT_TRUE(contains(error(), "empty.zst' is empty")) << error();
  EXPECT_TRUE(folder_.list().size() <= 1U);  // the cache folder at most
}

TEST_F(PrepareDataTest, TooFewHashtagsAreErrorsThatSayWhy) {
  data_.train = sources_.file("none.txt", "no hashtag\n#1 neither\n");
  EXPECT_TRUE(contains(error(), "none.txt' has a hashtag") && contains(error(), "#tag")) << error();
  data_.train = sources_.file("one.txt", "a #x\nb #x\nc #x\nd #y #z\n");
  EXPECT_TRUE(contains(error(), "1 of the 3 hashtags") && contains(error(), "min_count = 3")) << error();
  data_.train = sources_.file("bare.txt", "#x #y\n#x #y\n#x #y\nbut words #z\nbut words\n");
  tokenizer_.type = TokenizerType::sentencepiece;
  EXPECT_TRUE(contains(error(), "no text")) << error();
  tokenizer_.type = TokenizerType::word;
  EXPECT_TRUE(contains(error(), "no word")) << error();
  data_.train = sources_.file("good.txt", posts(1000));
  data_.valid = sources_.file("other.txt", "x #nothing\n");
  EXPECT_TRUE(contains(error(), "other.txt' has a hashtag of the table")) << error();
  EXPECT_EQ(folder_.list(), std::vector<std::string>{"cache"});
}

TEST_F(PrepareDataTest, ABadLineIsNamedWhateverTheThreads) {
  std::string lines;
  for (int i = 1; i <= 20000; ++i)
    lines += i == 9000 || i == 9001 || i == 15000 ? "{}\n" : "{\"text\": \"x #a #b\"}\n";
  data_.train = sources_.file("p.jsonl", lines);
  for (const std::uint32_t threads : {1U, 2U, 7U}) {
    EXPECT_TRUE(contains(error_of([&] { (void)prepare(threads); }), "p.jsonl:9000: ")) << threads;
  }
  EXPECT_EQ(folder_.list(), std::vector<std::string>{"cache"});
}

TEST_F(PrepareDataTest, ReportsInvalidUtf8) {
  write_file(data_.train, posts(5999) + "\xFF #tag1 word1\n");
  (void)prepare();
  EXPECT_TRUE(contains(log_, "train.txt': 1 of 6000 lines are not valid UTF-8")) << log_;
}

TEST_F(PrepareDataTest, LeavesNothingWhenInterrupted) {
  for (int polls = 0; polls < 12; ++polls) {
    int left = polls;
    EXPECT_THROW((void)prepare_data(
                     data_, tokenizer_, 2, [](const std::string&) {}, [&] { return left-- == 0; }),
                 Interrupted);
    EXPECT_EQ(folder_.list(), std::vector<std::string>{"cache"}) << polls;
  }
}

TEST_F(PrepareDataTest, RemovesWhatAKilledProcessLeft) {
  const pid_t child = ::fork();
  if (child == 0) {
    int left = 3;
    (void)prepare_data(
        data_, tokenizer_, 1, [](const std::string&) {},
        [&] {
          if (left-- == 0) ::_exit(7);
          return false;
        });
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(WEXITSTATUS(status), 7);
  const auto partial = [&] {
    std::vector<std::filesystem::path> found;
    for (const auto& entry : std::filesystem::directory_iterator(data_.cache)) {
      if (entry.path().extension() == ".partial") found.push_back(entry.path());
    }
    return found;
  };
  ASSERT_EQ(partial().size(), 1U);
  const std::filesystem::path living = data_.cache / "0.1.partial";
  create_folder(living);
  const FolderLock held(living);
  (void)prepare();
  EXPECT_EQ(partial(), std::vector<std::filesystem::path>{living});
  (void)prepare();  // from the cache
  EXPECT_EQ(partial(), std::vector<std::filesystem::path>{living});
}

TEST_F(PrepareDataTest, AnUnwritableCacheIsAnError) {
  data_.cache = folder_.file("cache-file", "x");
  EXPECT_TRUE(contains(error(), "cache-file")) << error();
}

// A limit on the size of files fails as a full disk does: in the middle of a write.
TEST_F(PrepareDataTest, LeavesNothingWhenTheDiskIsFull) {
  for (const rlim_t limit : {rlim_t{0}, rlim_t{100}, rlim_t{5000}, rlim_t{60000}, rlim_t{100000}}) {
    const pid_t child = ::fork();
    if (child == 0) {
      std::signal(SIGXFSZ, SIG_IGN);
      const rlimit bytes{limit, limit};
      ::setrlimit(RLIMIT_FSIZE, &bytes);
      const std::string message = error();
      ::_exit(contains(message, "cannot write") && contains(message, data_.cache.string()) ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << limit << " bytes";
    EXPECT_EQ(folder_.list(), std::vector<std::string>{"cache"}) << limit << " bytes";
  }
  EXPECT_EQ(error(), "");
}

}  // namespace
}  // namespace tagspace
