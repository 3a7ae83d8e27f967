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

std::vector<float> all_vectors(const Word2Vec& model) {
  std::vector<float> all(model.word_vectors().begin(), model.word_vectors().end());
  all.insert(all.end(), model.hashtag_vectors().begin(), model.hashtag_vectors().end());
  return all;
}

// Neighbours in reach, of every token in turn, and negatives of their own.
TEST(Word2Vec, APostsStepsAreItsNeighbors) {
  const PostsInMemory posts{{{0, 1, 2, 3, 4, 5, 6}}, {{0}}};
  const Word2Vec model(posts.posts(), 7, 1, {3, 4, 3, 2, 0.1F});
  std::set<std::size_t> reaches;
  for (std::uint64_t epoch = 0; epoch < 20; ++epoch) {
    kernels::SkipgramSteps steps{3, {9}, {9, 9, 9}};
    model.append_steps(epoch, 0, steps);
    Random random(3, epoch, 1);
    Tokens tokens;
    model.mix(0, random, tokens);
    const auto place_of = [&](std::uint32_t token) {
      return std::find(tokens.begin(), tokens.end(), token) - tokens.begin();
    };
    EXPECT_EQ(steps.rows.size(), 3 * steps.neighbors.size());
    std::vector<std::vector<std::ptrdiff_t>> of_centre(tokens.size());
    for (std::size_t step = 1; step < steps.neighbors.size(); ++step) {
      const auto centre = place_of(steps.rows[3 * step]);
      of_centre[static_cast<std::size_t>(centre)].push_back(place_of(steps.neighbors[step]) - centre);
      for (std::size_t n = 1; n < 3; ++n) EXPECT_LT(steps.rows[3 * step + n], 8U);
    }
    // From the farthest before to the farthest after, but for what the post does not have.
    for (std::size_t centre = 0; centre < tokens.size(); ++centre) {
      const auto& places = of_centre[centre];
      ASSERT_FALSE(places.empty());
      const auto reach = std::max(-places.front(), places.back());
      reaches.insert(static_cast<std::size_t>(reach));
      std::vector<std::ptrdiff_t> expected;
      for (std::ptrdiff_t place = -reach; place <= reach; ++place) {
        const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(centre) + place;
        if (place != 0 && at >= 0 && at < std::ssize(tokens)) expected.push_back(place);
      }
      EXPECT_EQ(places, expected);
    }
  }
  EXPECT_EQ(reaches, (std::set<std::size_t>{1, 2, 3}));
}

// What an epoch is made of: posts in an order, some at a time, and a falling rate; the same with any number
// of threads.
TEST(Word2Vec, AnEpochIsItsSteps) {
  const std::size_t count = 2 * Word2Vec::kPostsAtOnce + 20;
  const PostsInMemory posts = posts_about_topics(count, 3);
  const Word2Vec::Options options{9, 6, 3, 2, 0.3F};
  Word2Vec model(posts.posts(), kWords, kTopics, options);
  kernels::CpuContext one(1);
  // The second epoch shows the output vectors that the first has left.
  model.train_epoch(3, 0.4F, 0.4F, kNeverStop, one);
  const double loss = model.train_epoch(4, 0.4F, 0.2F, kNeverStop, one);

  std::vector<float> inputs = all_vectors(Word2Vec(posts.posts(), kWords, kTopics, options));
  std::vector<float> outputs(inputs.size());
  const kernels::SkipgramTables tables{inputs.data(), outputs.data(), 6};
  double sum = 0;
  double steps_taken = 0;
  for (const std::uint64_t epoch : {3U, 4U}) {
    std::vector<std::uint64_t> order(count);
    std::iota(order.begin(), order.end(), std::uint64_t{0});
    Random(9, epoch, 0).shuffle(std::span(order));
    sum = steps_taken = 0;
    for (std::size_t begin = 0; begin < count; begin += Word2Vec::kPostsAtOnce) {
      const double rate =
          epoch == 3 ? 0.4 : 0.4 - 0.2 * static_cast<double>(begin) / static_cast<double>(count);
      for (std::size_t place = begin; place < std::min(count, begin + Word2Vec::kPostsAtOnce); ++place) {
        kernels::SkipgramSteps steps{3, {}, {}};
        model.append_steps(epoch, order[place], steps);
        sum += kernels::take_skipgram_steps_reference(steps, tables, static_cast<float>(rate));
        steps_taken += static_cast<double>(steps.neighbors.size());
      }
    }
  }
  EXPECT_NEAR(loss, sum / steps_taken, 1e-5);
  const auto actual = all_vectors(model);
  for (std::size_t i = 0; i < actual.size(); ++i) EXPECT_NEAR(actual[i], inputs[i], 1e-4);

  Word2Vec with_three(posts.posts(), kWords, kTopics, options);
  kernels::CpuContext three(3);
  with_three.train_epoch(3, 0.4F, 0.4F, kNeverStop, three);
  EXPECT_EQ(with_three.train_epoch(4, 0.4F, 0.2F, kNeverStop, three), loss);
  EXPECT_EQ(all_vectors(with_three), actual);
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
  constexpr int kDraws = 100'000;
  std::vector<int> drawn(4);
  Random random(1, 2, 3);
  for (int i = 0; i < kDraws; ++i) ++drawn[model.draw_token(random)];
  const double shares[] = {0.8, 0.1, 0, 0.1};
  for (std::size_t token = 0; token < 4; ++token) {
    const double deviation = std::sqrt(kDraws * shares[token] * (1 - shares[token]));
    EXPECT_NEAR(drawn[token], kDraws * shares[token], 4 * deviation) << token;
  }
}

TEST(Word2Vec, LearnsWhatBelongsTogetherAndTheSeedDecides) {
  const PostsInMemory posts = posts_about_topics(400, 5);
  kernels::CpuContext context(2);
  const auto trained = [&](std::uint64_t seed) {
    Word2Vec model(posts.posts(), kWords, kTopics, {seed, 16, 5, 5, 0.01F});
    double first = 0;
    double last = 0;
    for (std::uint64_t epoch = 0; epoch < 15; ++epoch) {
      last = model.train_epoch(epoch, 0.1F, 0.1F, kNeverStop, context);
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
  EXPECT_LT(stopped.train_epoch(
                0, 0.1F, 0.1F, [] { return true; }, context),
            0);
}

}  // namespace
}  // namespace tagspace
