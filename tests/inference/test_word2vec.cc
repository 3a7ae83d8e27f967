#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <numeric>
#include <random>
#include <set>

#include "model/word2vec.h"
#include "tests/inference/posts_in_memory.h"

namespace tagspace {
namespace {

constexpr std::uint32_t kTopics = 5;
constexpr std::uint32_t kWords = 8 * kTopics;
const auto kNeverStop = [] { return false; };

// The words of a post are of its hashtag's topic.
PostsInMemory posts_about_topics(std::size_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  PostsInMemory posts;
  for (std::size_t i = 0; i < count; ++i) {
    const auto topic = static_cast<std::uint32_t>(random() % kTopics);
    Tokens tokens;
    for (std::uint64_t t = 2 + random() % 6; t > 0; --t)
      tokens.push_back(8 * topic + static_cast<std::uint32_t>(random() % 8));
    posts.tokens.push_back(tokens);
    posts.hashtags.push_back({topic});
  }
  return posts;
}

// Tables of doubles, and the loss as the header has it.
struct Plain {
  std::size_t dim;
  std::vector<double> inputs;
  std::vector<double> outputs;

  [[nodiscard]] double loss(std::uint32_t neighbor, std::span<const std::uint32_t> targets) const {
    double loss = 0;
    for (std::size_t i = 0; i < targets.size(); ++i) {
      if (i > 0 && targets[i] == targets[0]) continue;
      double score = 0;
      for (std::size_t d = 0; d < dim; ++d)
        score += inputs[neighbor * dim + d] * outputs[targets[i] * dim + d];
      loss -= std::log(1 / (1 + std::exp(i == 0 ? -score : score)));
    }
    return loss;
  }
  // Down the loss' gradient, found by differences; a target that is drawn twice moves before it is met again.
  // Returns the loss.
  double step(std::uint32_t neighbor, std::span<const std::uint32_t> targets, double rate) {
    const auto slope = [&](double& value, std::span<const std::uint32_t> of) {
      constexpr double kDifference = 1e-5;
      const double before = value;
      value = before + kDifference;
      const double above = loss(neighbor, of);
      value = before - kDifference;
      const double below = loss(neighbor, of);
      value = before;
      return (above - below) / (2 * kDifference);
    };
    std::vector<double> change(dim);
    double sum = 0;
    for (std::size_t i = 0; i < targets.size(); ++i) {
      if (i > 0 && targets[i] == targets[0]) continue;
      // This target's part of the loss alone: with the centre, or without.
      const Tokens with = {targets[0], targets[i]};
      const std::span<const std::uint32_t> part = i == 0 ? targets.first(1) : std::span(with);
      const std::span<const std::uint32_t> centre = targets.first(1);
      std::vector<double> of_output(dim);
      sum += loss(neighbor, part) - (i == 0 ? 0 : loss(neighbor, centre));
      for (std::size_t d = 0; d < dim; ++d) {
        double& input = inputs[neighbor * dim + d];
        change[d] -= rate * (slope(input, part) - (i == 0 ? 0 : slope(input, centre)));
        of_output[d] = slope(outputs[targets[i] * dim + d], part);
      }
      for (std::size_t d = 0; d < dim; ++d) outputs[targets[i] * dim + d] -= rate * of_output[d];
    }
    for (std::size_t d = 0; d < dim; ++d) inputs[neighbor * dim + d] += change[d];
    return sum;
  }
};

std::vector<float> all_vectors(const Word2Vec& model) {
  std::vector<float> all(model.word_vectors().begin(), model.word_vectors().end());
  all.insert(all.end(), model.hashtag_vectors().begin(), model.hashtag_vectors().end());
  return all;
}

TEST(Word2Vec, AStepGoesDownTheGradient) {
  const PostsInMemory posts = posts_about_topics(30, 1);
  for (const std::uint32_t dim : {3U, 8U, 19U}) {
    Word2Vec model(posts.posts(), kWords, kTopics, {1, dim, 2, 4, 0.5F});
    const std::vector<float> first = all_vectors(model);
    Plain plain{dim, {first.begin(), first.end()}, std::vector<double>(first.size())};
    std::mt19937_64 random(2);
    for (int i = 0; i < 150; ++i) {
      Tokens targets(5);
      for (auto& target : targets) target = static_cast<std::uint32_t>(random() % (kWords + kTopics));
      if (i % 3 == 0) targets[2] = targets[0];  // no negative of itself
      if (i % 4 == 0) targets[4] = targets[1];
      const auto neighbor = static_cast<std::uint32_t>(random() % (kWords + kTopics));
      EXPECT_NEAR(model.step(neighbor, targets, 0.3F), plain.step(neighbor, targets, 0.3), 1e-4);
    }
    const std::vector<float> last = all_vectors(model);
    for (std::size_t i = 0; i < last.size(); ++i) EXPECT_NEAR(last[i], plain.inputs[i], 1e-4);
    EXPECT_NE(last, first);
  }
}

// What an epoch is made of: posts in an order, neighbours in reach, a falling rate.
TEST(Word2Vec, AnEpochIsItsSteps) {
  const PostsInMemory posts = posts_about_topics(40, 3);
  const Word2Vec::Options options{9, 6, 3, 2, 0.3F};
  Word2Vec model(posts.posts(), kWords, kTopics, options);
  Word2Vec plain(posts.posts(), kWords, kTopics, options);
  const double loss = model.train_epoch(4, 0.4F, 0.2F, kNeverStop);
  std::vector<std::uint64_t> order(posts.tokens.size());
  std::iota(order.begin(), order.end(), std::uint64_t{0});
  Random(9, 4, 0).shuffle(std::span(order));
  double sum = 0;
  double steps = 0;
  for (std::size_t place = 0; place < order.size(); ++place) {
    const double rate = 0.4 - 0.2 * static_cast<double>(place) / static_cast<double>(order.size());
    Random random(9, 4, 1 + order[place]);
    Tokens tokens;
    plain.mix(order[place], random, tokens);
    for (int centre = 0; centre < static_cast<int>(tokens.size()); ++centre) {
      const int reach = 1 + static_cast<int>(random.below(3));
      for (int other = centre - reach; other <= centre + reach; ++other) {
        if (other < 0 || other == centre || other >= static_cast<int>(tokens.size())) continue;
        Tokens targets = {tokens[static_cast<std::size_t>(centre)]};
        for (int n = 0; n < 2; ++n)
          targets.push_back(plain.token_at(static_cast<double>(random.next() >> 11U) / std::pow(2.0, 53)));
        sum += plain.step(tokens[static_cast<std::size_t>(other)], targets, static_cast<float>(rate));
        ++steps;
      }
    }
  }
  EXPECT_NEAR(loss, sum / steps, 1e-5);
  const auto expected = all_vectors(plain);
  const auto actual = all_vectors(model);
  for (std::size_t i = 0; i < actual.size(); ++i) EXPECT_NEAR(actual[i], expected[i], 1e-5);
}

TEST(Word2Vec, HashtagsStandAnywhereAmongTheWords) {
  const PostsInMemory posts{{{3, 4, 5}}, {{0, 1}}};
  const Word2Vec model(posts.posts(), 10, 2, {});
  std::set<std::ptrdiff_t> places;
  for (std::uint64_t i = 0; i < 200; ++i) {
    Random random(1, 2, i);
    Tokens tokens;
    model.mix(0, random, tokens);
    places.insert(std::find(tokens.begin(), tokens.end(), 10U) - tokens.begin());
    Tokens words;
    std::copy_if(tokens.begin(), tokens.end(), std::back_inserter(words),
                 [](auto token) { return token < 10; });
    EXPECT_EQ(words, posts.tokens[0]);
    std::sort(tokens.begin(), tokens.end());
    EXPECT_EQ(tokens, (Tokens{3, 4, 5, 10, 11}));
  }
  EXPECT_EQ(places.size(), 5U);
}

TEST(Word2Vec, TokensAreDrawnByTheirCounts) {
  // Counts 16, 1, 0, and 1 of the hashtag: 16 ^ 0.75 = 8.
  const PostsInMemory posts{{Tokens(16, 0), {1}}, {{}, {0}}};
  const Word2Vec model(posts.posts(), 3, 1, {});
  std::vector<int> drawn(4);
  for (int i = 0; i < 1000; ++i) ++drawn[model.token_at(i / 1000.0)];
  EXPECT_EQ(drawn, (std::vector<int>{800, 100, 0, 100}));
}

TEST(Word2Vec, LearnsWhatBelongsTogetherAndTheSeedDecides) {
  const PostsInMemory posts = posts_about_topics(400, 5);
  const auto trained = [&](std::uint64_t seed) {
    Word2Vec model(posts.posts(), kWords, kTopics, {seed, 16, 5, 5, 0.01F});
    double first = 0;
    double last = 0;
    for (std::uint64_t epoch = 0; epoch < 15; ++epoch) {
      last = model.train_epoch(epoch, 0.1F, 0.1F, kNeverStop);
      if (epoch == 0) first = last;
    }
    EXPECT_LT(last, 0.8 * first);
    return model;
  };
  const Word2Vec model = trained(1);
  const auto cosine = [&](std::uint32_t word, std::uint32_t hashtag) {
    double product = 0;
    double words = 0;
    double hashtags = 0;
    for (std::size_t d = 0; d < 16; ++d) {
      const double a = model.word_vectors()[std::size_t{word} * 16 + d];
      const double b = model.hashtag_vectors()[std::size_t{hashtag} * 16 + d];
      product += a * b;
      words += a * a;
      hashtags += b * b;
    }
    return product / std::sqrt(words * hashtags);
  };
  for (std::uint32_t word = 0; word < kWords; ++word) {
    for (std::uint32_t hashtag = 0; hashtag < kTopics; ++hashtag) {
      if (hashtag != word / 8) {
        EXPECT_GT(cosine(word, word / 8), cosine(word, hashtag));
      }
    }
  }
  EXPECT_EQ(all_vectors(trained(1)), all_vectors(model));
  EXPECT_NE(all_vectors(trained(2)), all_vectors(model));
  Word2Vec stopped(posts.posts(), kWords, kTopics, {});
  EXPECT_LT(stopped.train_epoch(0, 0.1F, 0.1F, [] { return true; }), 0);
}

}  // namespace
}  // namespace tagspace
