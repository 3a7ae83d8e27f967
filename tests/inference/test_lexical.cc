#include <algorithm>
#include <cmath>
#include <filesystem>
#include <gtest/gtest.h>
#include <map>
#include <random>
#include <set>
#include <unistd.h>

#include "base/error.h"
#include "base/files.h"
#include "model/lexical/lexical_trainer.h"
#include "tests/inference/posts_in_memory.h"

namespace tagspace {
namespace {

// Features of a post by text.
std::map<std::string, float> by_text(const LexicalKeys& keys, const LexicalVocabulary& vocabulary,
                                     const Tokens& tokens) {
  std::vector<std::uint64_t> of_post;
  std::vector<LexicalFeature> vector;
  keys.of_post(tokens, of_post);
  vocabulary.vector_of(of_post, vector);
  std::map<std::string, float> texts;
  for (const LexicalFeature& feature : vector)
    texts[keys.text(vocabulary.keys[feature.number], tokens)] = feature.value;
  return texts;
}

TEST(LexicalKeys, WordsPairsAndBeginnings) {
  const LexicalKeys keys({"new", "yorker", "größe", "the"});
  std::vector<std::uint64_t> of_post;
  const Tokens tokens = {3, 0, 1, 0, 1, 2};
  keys.of_post(tokens, of_post);
  std::multiset<std::string> texts;
  for (const std::uint64_t key : of_post) texts.insert(keys.text(key, tokens));
  // Letters, not bytes: "größe" has five.
  EXPECT_EQ(texts, (std::multiset<std::string>{"the", "new", "new", "yorker", "yorker", "größe", "the new",
                                               "new yorker", "new yorker", "yorker new", "yorker größe",
                                               "york...", "yorke...", "yorker...", "york...", "yorke...",
                                               "yorker...", "größ...", "größe..."}));
  // A whole word, and a beginning that is as long, are two features; so are a pair and its reverse.
  EXPECT_NE(LexicalKeys::of_pair(0, 1), LexicalKeys::of_pair(1, 0));
  EXPECT_EQ(LexicalKeys::weight_of_kind(LexicalKeys::of_token(1)), 1);
  EXPECT_EQ(LexicalKeys::weight_of_kind(LexicalKeys::of_pair(0, 1)), 0.7F);
  std::vector<std::uint64_t> beginnings;
  LexicalKeys::of_beginnings("york", beginnings);
  ASSERT_EQ(beginnings.size(), 1U);
  EXPECT_EQ(LexicalKeys::weight_of_kind(beginnings[0]), 0.5F);
  EXPECT_EQ(std::count(of_post.begin(), of_post.end(), beginnings[0]), 2);
  EXPECT_EQ(keys.text(LexicalKeys::of_token(2), {{0, 1}}), "");
}

constexpr std::uint32_t kHashtags = 9;
constexpr std::uint32_t kWords = 60;

PostsInMemory make_corpus(std::size_t posts, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  PostsInMemory corpus;
  for (std::size_t i = 0; i < posts; ++i) {
    const auto hashtag = static_cast<std::uint32_t>(random() % kHashtags);
    Tokens tokens;
    for (std::uint64_t t = 1 + random() % 7; t > 0; --t) {
      const auto word = static_cast<std::uint32_t>(random() % 6);
      tokens.push_back(random() % 3 == 0 ? kWords - 1 - word : 6 * hashtag + word);
    }
    corpus.tokens.push_back(tokens);
    Tokens own = {hashtag};
    if (random() % 4 == 0 && hashtag + 1 < kHashtags) own.push_back(hashtag + 1);
    corpus.hashtags.push_back(own);
  }
  return corpus;
}

std::vector<std::string> words() {
  std::vector<std::string> texts;
  for (std::uint32_t i = 0; i < kWords; ++i)
    texts.push_back("word" + std::string(1 + i % 3, 'a') + std::to_string(i));
  texts[5] = "solo";
  return texts;
}
std::vector<std::string> names() {
  std::vector<std::string> texts;
  for (std::uint32_t i = 0; i < kHashtags; ++i) texts.push_back("name" + std::to_string(i));
  texts[7] = "so_lo";  // the word "solo"
  return texts;
}

TEST(LexicalVocabulary, ValuesByHand) {
  const LexicalKeys keys({"aa", "bb"});
  PostsInMemory corpus;
  corpus.tokens = {{0}, {0, 1}, {0, 0, 1}};
  corpus.hashtags = {{0}, {1}, {1}};
  kernels::CpuContext context(1);
  const std::vector<std::string> hashtags = {"x", "y"};
  const LexicalTrainer trainer(keys, corpus.posts(), hashtags, {}, context);
  const LexicalVocabulary vocabulary = trainer.arrays().vocabulary();
  EXPECT_EQ(vocabulary.keys.size(), 4U);  // "aa", "bb", "aa bb", "aa aa"
  // ln(4 / df), df 3 of "aa", 2 of "bb" and "aa bb", 1 of "aa aa".
  const double a = (1 + std::log(2.0)) * std::log(4.0 / 3);
  const double b = std::log(2.0);
  const double pair = 0.7 * std::log(2.0);
  const double twice = 0.7 * std::log(4.0);
  const double length = std::sqrt(a * a + b * b + pair * pair + twice * twice);
  const auto values = by_text(keys, vocabulary, {0, 0, 1});
  ASSERT_EQ(values.size(), 4U);
  EXPECT_NEAR(values.at("aa"), a / length, 1e-6);
  EXPECT_NEAR(values.at("bb"), b / length, 1e-6);
  EXPECT_NEAR(values.at("aa bb"), pair / length, 1e-6);
  EXPECT_NEAR(values.at("aa aa"), twice / length, 1e-6);
  // "bb aa" was on no training post.
  EXPECT_EQ(by_text(keys, vocabulary, {1, 0}).size(), 2U);
  EXPECT_TRUE(by_text(keys, vocabulary, {}).empty());
}

TEST(LexicalTrainer, WeightsOfWhatOccursTogetherAndOfNames) {
  const LexicalKeys keys(words());
  const PostsInMemory corpus = make_corpus(500, 1);
  kernels::CpuContext context(2);
  const LexicalTrainer trainer(keys, corpus.posts(), names(), {}, context);
  const LexicalArrays& arrays = trainer.arrays();
  std::set<std::pair<std::uint64_t, std::uint32_t>> expected;
  std::vector<std::uint64_t> of_post;
  for (std::size_t post = 0; post < corpus.tokens.size(); ++post) {
    keys.of_post(corpus.tokens[post], of_post);
    for (const std::uint64_t key : of_post) {
      for (const std::uint32_t hashtag : corpus.hashtags[post]) expected.emplace(key, hashtag);
    }
  }
  expected.emplace(LexicalKeys::of_token(5), 7);  // a name; the topics of word 5 are 0 and 1
  std::set<std::pair<std::uint64_t, std::uint32_t>> actual;
  for (std::size_t f = 0; f < arrays.keys.size(); ++f) {
    for (std::size_t w = arrays.offsets[f]; w < arrays.offsets[f + 1]; ++w) {
      actual.emplace(arrays.keys[f], arrays.targets[w]);
      const bool is_name = arrays.keys[f] == LexicalKeys::of_token(5) && arrays.targets[w] == 7;
      EXPECT_EQ(arrays.weights[w], is_name ? 1 : 0);
    }
  }
  EXPECT_EQ(actual, expected);
}

// The same in the plainest way: a dense table of weights, posts one batch after the other.
TEST(LexicalTrainer, AnEpochEqualsThePlainAlgorithm) {
  const LexicalKeys keys(words());
  const PostsInMemory corpus = make_corpus(300, 2);
  for (const std::size_t threads : {1U, 2U, 5U}) {
    kernels::CpuContext context(threads);
    LexicalTrainer trainer(keys, corpus.posts(), names(), {11, 0.3F}, context);
    const LexicalArrays start = trainer.arrays();
    const LexicalVocabulary vocabulary = start.vocabulary();
    std::vector<std::vector<double>> weights(start.keys.size(), std::vector<double>(kHashtags));
    std::vector<std::vector<bool>> there(start.keys.size(), std::vector<bool>(kHashtags));
    for (std::size_t f = 0; f < start.keys.size(); ++f) {
      for (std::size_t w = start.offsets[f]; w < start.offsets[f + 1]; ++w) {
        weights[f][start.targets[w]] = start.weights[w];
        there[f][start.targets[w]] = true;
      }
    }
    const double loss = trainer.train_epoch(0, [] { return false; });

    // The order of the posts is found from what the trainer asked for.
    std::vector<std::uint64_t> order;
    TrainingPosts watched = corpus.posts();
    watched.tokens = [&](std::uint64_t post) {
      order.push_back(post);
      return std::span(corpus.tokens[post]);
    };
    kernels::CpuContext one_thread(1);
    LexicalTrainer watching(keys, watched, names(), {11, 0.3F}, one_thread);
    order.clear();
    watching.train_epoch(0, [] { return false; });
    ASSERT_EQ(order.size(), corpus.tokens.size());
    EXPECT_EQ(std::set(order.begin(), order.end()).size(), order.size());
    EXPECT_FALSE(std::is_sorted(order.begin(), order.end()));

    double expected_loss = 0;
    for (std::size_t first = 0; first < order.size(); first += LexicalTrainer::kPostsAtOnce) {
      const std::size_t end = std::min(order.size(), first + LexicalTrainer::kPostsAtOnce);
      auto after = weights;
      for (std::size_t i = first; i < end; ++i) {
        std::vector<std::uint64_t> of_post;
        std::vector<LexicalFeature> vector;
        keys.of_post(corpus.tokens[order[i]], of_post);
        vocabulary.vector_of(of_post, vector);
        const Tokens& own = corpus.hashtags[order[i]];
        for (std::uint32_t h = 0; h < kHashtags; ++h) {
          double score = -1;
          for (const auto& [f, value] : vector) score += value * weights[f][h];
          const bool is_own = std::find(own.begin(), own.end(), h) != own.end();
          const double violation = std::max(0.0, is_own ? 1 - score : 1 + score);
          expected_loss += violation * violation;
          const double slope = (is_own ? -2 : 2) * violation;
          for (const auto& [f, value] : vector) {
            if (there[f][h]) after[f][h] -= 0.3 * slope * value;
          }
        }
      }
      weights = after;
    }
    EXPECT_NEAR(loss, expected_loss / static_cast<double>(order.size()), 1e-4);
    const LexicalArrays& trained = trainer.arrays();
    for (std::size_t f = 0; f < trained.keys.size(); ++f) {
      for (std::size_t w = trained.offsets[f]; w < trained.offsets[f + 1]; ++w)
        ASSERT_NEAR(trained.weights[w], weights[f][trained.targets[w]], 2e-4);
    }
  }
}

TEST(LexicalTrainer, TheSameBitsForAnyNumberOfThreadsAndItStops) {
  const LexicalKeys keys(words());
  const PostsInMemory corpus = make_corpus(400, 3);
  std::vector<float> first;
  for (const std::size_t threads : {1U, 2U, 7U}) {
    kernels::CpuContext context(threads);
    LexicalTrainer trainer(keys, corpus.posts(), names(), {5, 0.05F}, context);
    for (std::uint64_t epoch = 0; epoch < 3; ++epoch)
      EXPECT_GT(trainer.train_epoch(epoch, [] { return false; }), 0);
    if (first.empty()) first = trainer.arrays().weights;
    EXPECT_EQ(trainer.arrays().weights, first);
    EXPECT_LT(trainer.train_epoch(3, [] { return true; }), 0);
  }
}

class LexicalFile : public testing::Test {
 protected:
  void SetUp() override {
    path_ = std::filesystem::path(testing::TempDir()) / ("lexical-" + std::to_string(::getpid()));
    kernels::CpuContext context(2);
    LexicalTrainer trainer(keys_, corpus_.posts(), names(), {5, 0.1F}, context);
    for (std::uint64_t epoch = 0; epoch < 5; ++epoch) trainer.train_epoch(epoch, [] { return false; });
    arrays_ = trainer.arrays();
    write_lexical_model(path_, arrays_, {2, 3}, R"({"epoch":5})");
  }
  void TearDown() override { std::filesystem::remove(path_); }

  LexicalKeys keys_{words()};
  PostsInMemory corpus_ = make_corpus(600, 4);
  LexicalArrays arrays_;
  std::filesystem::path path_;
};

TEST_F(LexicalFile, MixesScoresAndSaysWhy) {
  const LexicalModel model(path_, words(), kHashtags);
  EXPECT_EQ(model.mixture().embedding, 2);
  EXPECT_EQ(model.mixture().lexical, 3);
  const PostsInMemory others = make_corpus(200, 99);
  const LexicalVocabulary vocabulary = arrays_.vocabulary();
  std::size_t right = 0;
  for (std::size_t post = 0; post < others.tokens.size(); ++post) {
    std::vector<float> scores(kHashtags, 0.25F);
    model.mix_into(others.tokens[post], scores);
    std::vector<std::uint64_t> of_post;
    std::vector<LexicalFeature> vector;
    keys_.of_post(others.tokens[post], of_post);
    vocabulary.vector_of(of_post, vector);
    for (std::uint32_t h = 0; h < kHashtags; ++h) {
      double expected = 2 * 0.25;
      double reasons = 0;
      for (const auto& [f, value] : vector) {
        for (std::size_t w = arrays_.offsets[f]; w < arrays_.offsets[f + 1]; ++w) {
          if (arrays_.targets[w] != h) continue;
          expected += 3.0 * value * arrays_.weights[w];
          if (arrays_.weights[w] > 0) reasons += 3.0 * value * arrays_.weights[w];
        }
      }
      EXPECT_NEAR(scores[h], expected, 1e-5);
      const auto found = model.reasons(others.tokens[post], h, 1000);
      double sum = 0;
      for (std::size_t i = 0; i < found.size(); ++i) {
        sum += found[i].score;
        EXPECT_FALSE(found[i].text.empty());
        EXPECT_LE(found[i].score, i > 0 ? found[i - 1].score : found[i].score);
      }
      EXPECT_NEAR(sum, reasons, 1e-5);
      EXPECT_LE(model.reasons(others.tokens[post], h, 2).size(), 2U);
    }
    const auto best =
        static_cast<std::uint32_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
    right += best == others.hashtags[post][0] || best == others.hashtags[post].back() ? 1 : 0;
  }
  EXPECT_GT(right, 150U);  // a third of the words are of any topic
}

TEST_F(LexicalFile, OfAnotherRunOrDamagedIsAnError) {
  EXPECT_THROW(LexicalModel(path_, words(), kHashtags - 1), Error);
  EXPECT_THROW(LexicalModel(path_.string() + ".not", words(), kHashtags), Error);
  std::string bytes = read_file(path_);
  bytes[bytes.size() / 2] ^= 1;
  write_file(path_, bytes);
  EXPECT_THROW(LexicalModel(path_, words(), kHashtags), Error);
  write_file(path_, bytes.substr(0, bytes.size() / 3));
  EXPECT_THROW(LexicalModel(path_, words(), kHashtags), Error);
}

}  // namespace
}  // namespace tagspace
