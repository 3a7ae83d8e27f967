// Naive Bayes and neighbours against the formulas of their headers, computed densely.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <gtest/gtest.h>
#include <map>
#include <numeric>
#include <random>
#include <unistd.h>

#include "base/error.h"
#include "model/lexical/naive_bayes.h"
#include "model/lexical/neighbors.h"
#include "tests/inference/posts_in_memory.h"

namespace tagspace {
namespace {

using Scores = std::vector<double>;

constexpr std::uint32_t kHashtags = 7;
constexpr std::uint32_t kWords = 15;

PostsInMemory random_posts(std::size_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  PostsInMemory posts;
  for (std::size_t i = 0; i < count; ++i) {
    Tokens tokens;
    for (std::uint64_t t = random() % 9; t > 0; --t)
      tokens.push_back(static_cast<std::uint32_t>(random() % kWords));
    Tokens own;
    for (std::uint32_t h = 0; h < kHashtags; ++h) {
      if (random() % (2 + h) == 0) own.push_back(h);
    }
    posts.tokens.push_back(tokens);
    posts.hashtags.push_back(own);
  }
  return posts;
}

// Long words, so that there would be beginnings of them.
LexicalKeys keys_of_words() {
  std::vector<std::string> texts;
  for (std::uint32_t i = 0; i < kWords; ++i) texts.push_back("lengthy" + std::to_string(i));
  return LexicalKeys(texts);
}

// How often a post has each word, {w, w}, and each pair of neighbours, {1000 + first, second}.
using Counts = std::map<std::pair<std::uint32_t, std::uint32_t>, double>;
Counts counts_of(const Tokens& tokens) {
  Counts counts;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    ++counts[{tokens[i], tokens[i]}];
    if (i > 0) ++counts[{1000 + tokens[i - 1], tokens[i]}];
  }
  return counts;
}
double weight_of_kind(const Counts::key_type& feature) { return feature.first >= 1000 ? 0.7 : 1; }

// log P(h) + sum of v log P(f | h), less the same of the background.
Scores naive_bayes(const PostsInMemory& posts, const Tokens& tokens, double smoothing) {
  Counts background;
  std::vector<Counts> of_hashtag(kHashtags);
  std::vector<double> carriers(kHashtags);
  double all = 0;
  for (std::size_t post = 0; post < posts.tokens.size(); ++post) {
    for (const auto& [feature, count] : counts_of(posts.tokens[post])) {
      background[feature] += count;
      all += count;
      for (const std::uint32_t h : posts.hashtags[post]) of_hashtag[h][feature] += count;
    }
    for (const std::uint32_t h : posts.hashtags[post]) ++carriers[h];
  }
  const double all_carriers = std::accumulate(carriers.begin(), carriers.end(), 0.0);
  Scores scores;
  for (std::uint32_t h = 0; h < kHashtags; ++h) {
    double size = 0;
    for (const auto& [feature, count] : of_hashtag[h]) size += count;
    double score = std::log(carriers[h] / all_carriers);
    for (const auto& [feature, count] : counts_of(tokens)) {
      if (background.count(feature) == 0) continue;
      const double share = background[feature] / all;
      const double likelihood = (of_hashtag[h][feature] + smoothing * share) / (size + smoothing);
      score += weight_of_kind(feature) * count * (std::log(likelihood) - std::log(share));
    }
    scores.push_back(score);
  }
  return scores;
}

std::map<Counts::key_type, double> tf_idf(const PostsInMemory& posts, const Tokens& tokens) {
  std::map<Counts::key_type, double> values;
  double squares = 0;
  for (const auto& [feature, count] : counts_of(tokens)) {
    double df = 0;
    for (const Tokens& other : posts.tokens) df += counts_of(other).count(feature) > 0 ? 1 : 0;
    if (df == 0) continue;
    const double value = weight_of_kind(feature) * (1 + std::log(count)) *
                         std::log(static_cast<double>(posts.tokens.size() + 1) / df);
    values[feature] = value;
    squares += value * value;
  }
  for (auto& [feature, value] : values) value /= std::sqrt(squares);
  return values;
}

Scores votes(const PostsInMemory& posts, const Tokens& tokens, std::size_t neighbors) {
  const auto query = tf_idf(posts, tokens);
  std::vector<std::pair<double, std::size_t>> found;  // less their cosine, post
  for (std::size_t post = 0; post < posts.tokens.size(); ++post) {
    double cosine = 0;
    for (const auto& [feature, value] : tf_idf(posts, posts.tokens[post])) {
      if (query.count(feature) > 0) cosine += value * query.at(feature);
    }
    if (cosine > 0) found.emplace_back(-cosine, post);
  }
  std::sort(found.begin(), found.end());
  Scores scores(kHashtags);
  for (std::size_t i = 0; i < std::min(neighbors, found.size()); ++i) {
    for (const std::uint32_t h : posts.hashtags[found[i].second]) scores[h] -= found[i].first;
  }
  return scores;
}

Scores scores_of(const LexicalArrays& arrays, const LexicalKeys& keys, const Tokens& tokens) {
  std::vector<float> scores(kHashtags);
  arrays.scorer().add_scores(lexical_vector(keys, arrays.vocabulary(), tokens), 1, scores);
  return {scores.begin(), scores.end()};
}

void expect_near(const Scores& actual, const Scores& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t h = 0; h < expected.size(); ++h)
    EXPECT_NEAR(actual[h], expected[h], 2e-5 * (1 + std::abs(expected[h])));
}

TEST(NaiveBayes, ByHand) {
  const LexicalKeys keys({"aa", "bb"});
  const PostsInMemory posts{{{0}, {0, 1}}, {{0}, {1}}};
  // Counts: "aa" 2, "bb" 1, "aa bb" 1; of hashtag 0 "aa", of hashtag 1 one of each.
  const LexicalArrays arrays = train_naive_bayes(keys, posts.posts(), 2, 4);
  std::vector<float> scores(2);
  arrays.scorer().add_scores(lexical_vector(keys, arrays.vocabulary(), Tokens{1, 1}), 1, scores);
  // Twice "bb", of which the background has 1/4, and with smoothing 4 gives 1; "bb bb" is unknown.
  EXPECT_NEAR(scores[0], std::log(0.5) + 2 * std::log((0 + 1) / (1 + 4.0) / 0.25), 1e-5);
  EXPECT_NEAR(scores[1], std::log(0.5) + 2 * std::log((1 + 1) / (3 + 4.0) / 0.25), 1e-5);
  // Without a known word there is only how frequent a hashtag is.
  scores = {0, 0};
  arrays.scorer().add_scores(lexical_vector(keys, arrays.vocabulary(), Tokens{}), 1, scores);
  EXPECT_NEAR(scores[0], std::log(0.5), 1e-6);
  EXPECT_NEAR(scores[1], std::log(0.5), 1e-6);
}

TEST(NaiveBayes, EqualsTheFormula) {
  const LexicalKeys keys = keys_of_words();
  for (const std::uint64_t seed : {1U, 2U, 3U}) {
    const PostsInMemory posts = random_posts(60, seed);
    const PostsInMemory others = random_posts(40, seed + 100);
    for (const double smoothing : {0.5, 30.0, 1000.0}) {
      const LexicalArrays arrays = train_naive_bayes(keys, posts.posts(), kHashtags, smoothing);
      for (const Tokens& tokens : others.tokens)
        expect_near(scores_of(arrays, keys, tokens), naive_bayes(posts, tokens, smoothing));
    }
  }
}

TEST(Neighbors, ByHand) {
  const LexicalKeys keys({"aa", "bb", "cc"});
  const PostsInMemory posts{{{0}, {1}, {0}, {2}}, {{0}, {1}, {0, 1}, {2}}};
  const LexicalArrays arrays = index_neighbors(keys, posts.posts(), 2);
  std::vector<float> scores(3);
  // Posts 0 and 2 are "aa" and nothing else: cosine 1. No other has anything of it.
  arrays.scorer().add_scores(lexical_vector(keys, arrays.vocabulary(), Tokens{0}), 1, scores);
  EXPECT_EQ(scores, (std::vector<float>{2, 1, 0}));
  // "bb" is rarer than "aa", so that its post is nearer; of the equal ones, the earlier is the second.
  const double a = std::log(5.0 / 2);
  const double b = std::log(5.0);
  scores = {0, 0, 0};
  arrays.scorer().add_scores(lexical_vector(keys, arrays.vocabulary(), Tokens{1, 0}), 1, scores);
  EXPECT_NEAR(scores[1], b / std::hypot(a, b), 1e-6);
  EXPECT_NEAR(scores[0], a / std::hypot(a, b), 1e-6);
  EXPECT_EQ(scores[2], 0);
}

TEST(Neighbors, EqualTheFormula) {
  const LexicalKeys keys = keys_of_words();
  for (const std::uint64_t seed : {4U, 5U, 6U}) {
    const PostsInMemory posts = random_posts(60, seed);
    const PostsInMemory others = random_posts(10, seed + 100);
    for (const std::uint32_t neighbors : {1U, 5U, 1000U}) {
      const LexicalArrays arrays = index_neighbors(keys, posts.posts(), neighbors);
      for (const Tokens& tokens : others.tokens)
        expect_near(scores_of(arrays, keys, tokens), votes(posts, tokens, neighbors));
    }
  }
}

// Through a file, and what features make of a score.
class LexicalBaselineFile : public testing::TestWithParam<bool> {};

TEST_P(LexicalBaselineFile, ScoresAsInMemoryAndSaysWhy) {
  const LexicalKeys keys = keys_of_words();
  const PostsInMemory posts = random_posts(60, 7);
  const LexicalArrays arrays = GetParam() ? train_naive_bayes(keys, posts.posts(), kHashtags, 10)
                                          : index_neighbors(keys, posts.posts(), 5);
  const std::filesystem::path path =
      std::filesystem::path(testing::TempDir()) / ("lexical-baseline-" + std::to_string(::getpid()));
  write_lexical_model(path, arrays, {0, 2}, "{}");
  const LexicalModel model(path, keys.tokens(), kHashtags);
  for (const Tokens& tokens : random_posts(30, 107).tokens) {
    std::vector<float> scores(kHashtags);
    model.mix_into(tokens, scores);
    const Scores expected = scores_of(arrays, keys, tokens);
    const auto vector = lexical_vector(keys, arrays.vocabulary(), tokens);
    for (std::uint32_t h = 0; h < kHashtags; ++h) {
      EXPECT_NEAR(scores[h], 2 * expected[h], 1e-4);
      const auto parts = arrays.scorer().parts(vector, h);
      EXPECT_NEAR(std::accumulate(parts.begin(), parts.end(), 0.0), expected[h], 1e-4);
      double positive = 0;
      for (const float part : parts) positive += 2 * std::max(0.0F, part);
      double reasons = 0;
      for (const auto& reason : model.reasons(tokens, h, 1000)) {
        EXPECT_TRUE(reason.text.starts_with("lengthy") && !reason.text.ends_with("...")) << reason.text;
        reasons += reason.score;
      }
      EXPECT_NEAR(reasons, positive, 1e-4);
    }
  }
  EXPECT_THROW(LexicalModel(path, keys.tokens(), kHashtags - 1), Error);
  std::filesystem::remove(path);
}

INSTANTIATE_TEST_SUITE_P(Types, LexicalBaselineFile, testing::Bool(), [](const auto& type) {
  return std::string(type.param ? "NaiveBayes" : "Neighbors");
});

}  // namespace
}  // namespace tagspace
