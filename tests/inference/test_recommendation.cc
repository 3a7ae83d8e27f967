#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <map>
#include <random>
#include <set>

#include "model/inference/recommendation.h"

namespace tagspace {
namespace {

using Ranks = std::vector<std::uint32_t>;
using Tokens = std::vector<std::uint32_t>;

void add_post(UserPosts& posts, const Tokens& tokens) {
  posts.tokens.insert(posts.tokens.end(), tokens.begin(), tokens.end());
  posts.token_offsets.push_back(posts.tokens.size());
}

void end_user(UserPosts& posts) { posts.offsets.push_back(posts.posts()); }

RecommendationRanks rank(const UserPosts& posts, const std::vector<float>& vectors, std::size_t dim,
                         const RecommendationConfig& config, std::size_t threads = 2) {
  kernels::CpuContext context(threads);
  return rank_held_out_posts(posts, vectors, dim, config, context);
}

TEST(RankHeldOutPosts, ByHand) {
  // Three users. Cosines of the candidates (1, 1), (0, -1) and (3, 0) to a user's nearest earlier post.
  UserPosts posts;
  std::vector<float> vectors;
  const auto add = [&](float x, float y, const Tokens& tokens) {
    vectors.insert(vectors.end(), {x, y});
    add_post(posts, tokens);
  };
  add(0, 2, {1, 2});  // user 0: 0.71, -1, 0 ...
  add(5, 0, {3});     // ... but to this 0.71, 0, 1: in all 0.71, 0, 1, so that the own is second
  add(1, 1, {3, 4});
  end_user(posts);
  add(0, 1, {4, 5});  // user 1: 0.71, -1, 0: third
  add(0, -1, {9});
  end_user(posts);
  add(2, 0, {2});  // user 2: 0.71, 0, 1: first
  add(3, 0, {2, 2, 3});
  end_user(posts);

  // N = 4 earlier posts. Of words, idf is ln 5/1 for 1, 3, 4, 5 and what no earlier post has, and ln 5/2
  // for 2.
  //   candidates: {3, 4}: 0.71, 0.71;  {9};  {2, 2, 3}: (1 + ln 2) ln 5/2 = 1.551 and ln 5 = 1.609, so
  //   0.694 and 0.720
  //   user 0: best of {1, 2} and {3}: 0.71, 0, 0.720: second. user 1, {4, 5}: 0.5, 0, 0: tied for the second
  //   place, which counts as third. user 2, {2}: 0, 0, 0.694: first.
  RecommendationConfig config;
  config.bag_of_words = true;
  RecommendationRanks ranks = rank(posts, vectors, 2, config);
  EXPECT_EQ(ranks.encoder, (Ranks{2, 3, 1}));
  EXPECT_EQ(ranks.bag_of_words, (Ranks{2, 3, 1}));
  EXPECT_EQ(ranks.both, (Ranks{2, 3, 1}));

  // Without the words, nothing of them.
  config.bag_of_words = false;
  ranks = rank(posts, vectors, 2, config);
  EXPECT_EQ(ranks.encoder, (Ranks{2, 3, 1}));
  EXPECT_TRUE(ranks.bag_of_words.empty());
  EXPECT_TRUE(ranks.both.empty());
}

TEST(RankHeldOutPosts, TheWeightDecidesBetweenThem) {
  // The vectors put user 0's own post last of three, the words put it first. Deviations from the mean, in
  // standard deviations: by vectors 0, 0.5, 1: -1.22, 0, 1.22; by words 1, 0, 0: 1.41, -0.71, -0.71.
  UserPosts posts;
  std::vector<float> vectors;
  const auto add = [&](float x, float y, float z, const Tokens& tokens) {
    vectors.insert(vectors.end(), {x, y, z});
    add_post(posts, tokens);
  };
  add(1, 0, 0, {1});
  add(0, 1, 0, {1});
  end_user(posts);
  add(0, 0, 1, {2});
  add(1, 0, std::sqrt(3.0F), {3});
  end_user(posts);
  add(0, 0, 1, {2});
  add(1, 0, 0, {4});
  end_user(posts);
  RecommendationConfig config;
  config.bag_of_words = true;
  // Own: -1.22 + 1.41 w; the others: -0.71 w and 1.22 - 0.71 w. The second is passed at w = 0.58, the first
  // at w = 1.15.
  for (const auto& [weight, expected] : std::map<double, std::uint32_t>{
           {0, 3}, {0.57, 3}, {0.59, 2}, {1, 2}, {1.14, 2}, {1.16, 1}, {100, 1}}) {
    config.weight = weight;
    const RecommendationRanks ranks = rank(posts, vectors, 3, config);
    EXPECT_EQ(ranks.encoder[0], 3U);
    EXPECT_EQ(ranks.bag_of_words[0], 1U);
    EXPECT_EQ(ranks.both[0], expected) << weight;
  }
}

TEST(RankHeldOutPosts, WhatSaysNothingIsLast) {
  // Posts without words and of zero vectors: all candidates are alike, and ties count against.
  UserPosts posts;
  for (int user = 0; user < 3; ++user) {
    add_post(posts, {});
    add_post(posts, {});
    end_user(posts);
  }
  RecommendationConfig config;
  config.bag_of_words = true;
  const RecommendationRanks ranks = rank(posts, std::vector<float>(6), 1, config);
  EXPECT_EQ(ranks.encoder, (Ranks{3, 3, 3}));
  EXPECT_EQ(ranks.bag_of_words, (Ranks{3, 3, 3}));
  EXPECT_EQ(ranks.both, (Ranks{3, 3, 3}));
}

// Users that write with preferences of their own. Each vector has 4 values of one size, a power of two, and
// the rest 0, so that cosines are exact, and many equal.
struct Made {
  static constexpr std::size_t kDim = 12;
  UserPosts posts;
  std::vector<float> vectors;

  Made(std::size_t users, std::uint32_t seed) {
    std::mt19937 generator(seed);
    const auto random = [&] { return static_cast<std::uint32_t>(generator()); };
    for (std::size_t user = 0; user < users; ++user) {
      const std::uint32_t favourite = random() % 20;
      // One user has very many posts.
      const std::size_t count = user == 3 ? 400 : 2 + random() % 9;
      for (std::size_t post = 0; post < count; ++post) {
        std::vector<float> vector(kDim);
        const float size = random() % 2 == 0 ? 0.25F : 4;
        for (std::size_t i = 0; i < 4; ++i) vector[i] = random() % 2 == 0 ? size : -size;
        std::shuffle(vector.begin(), vector.end(), generator);
        vectors.insert(vectors.end(), vector.begin(), vector.end());
        Tokens tokens;
        for (std::size_t i = random() % 9; i > 0; --i) {
          const std::uint32_t rare = 1 + random() % 50;  // the first words are the most frequent
          const std::uint32_t word = random() % rare;
          tokens.push_back(random() % 3 == 0 ? favourite : word);
        }
        add_post(posts, tokens);
      }
      end_user(posts);
    }
  }
};

// The lowest and the highest rank that the user's own candidate can have, where scores nearer than `near` may
// stand either way.
struct Between {
  std::uint32_t low = 0;
  std::uint32_t high = 0;
};

Between rank_between(const std::vector<double>& scores, const std::set<std::uint32_t>& candidates,
                     std::uint32_t user, double near) {
  Between rank{1, 1};
  for (const std::uint32_t other : candidates) {
    if (other == user) continue;
    // Posts without a word in common score 0 in any precision.
    const bool both_zero = scores[other] == 0 && scores[user] == 0;
    rank.low += scores[other] > scores[user] + near || both_zero ? 1 : 0;
    rank.high += scores[other] >= scores[user] - near ? 1 : 0;
  }
  return rank;
}

std::vector<double> standardized(std::vector<double> scores, const std::set<std::uint32_t>& candidates) {
  double mean = 0;
  double variance = 0;
  for (const std::uint32_t i : candidates) mean += scores[i] / static_cast<double>(candidates.size());
  for (const std::uint32_t i : candidates) {
    variance += (scores[i] - mean) * (scores[i] - mean) / static_cast<double>(candidates.size());
  }
  for (double& score : scores) score = variance < 1e-12 ? 0 : (score - mean) / std::sqrt(variance);
  return scores;
}

// Straight from the definitions, one pair of posts at a time, in double precision.
class Reference {
 public:
  explicit Reference(const Made& made) : made_(made) {
    const UserPosts& posts = made.posts;
    std::map<std::uint32_t, int> frequencies;
    for (std::size_t user = 0; user < posts.users(); ++user) {
      for (std::size_t post = posts.offsets[user]; post < posts.held_out(user); ++post) {
        const auto tokens = posts.tokens_of(post);
        for (const std::uint32_t word : std::set<std::uint32_t>(tokens.begin(), tokens.end())) {
          ++frequencies[word];
        }
      }
    }
    const auto earlier = static_cast<double>(posts.posts() - posts.users());
    for (std::size_t post = 0; post < posts.posts(); ++post) {
      std::map<std::uint32_t, double> vector;
      for (const std::uint32_t word : posts.tokens_of(post)) vector[word] += 1;
      for (auto& [word, value] : vector) {
        value = (1 + std::log(value)) * std::log((earlier + 1) / std::max(1, frequencies[word]));
      }
      words_.push_back(vector);
    }
  }

  [[nodiscard]] std::vector<double> scores(std::size_t user, bool by_words) const {
    const UserPosts& posts = made_.posts;
    std::vector<double> result;
    for (std::size_t other = 0; other < posts.users(); ++other) {
      double best = -2;
      for (std::size_t post = posts.offsets[user]; post < posts.held_out(user); ++post) {
        const std::size_t candidate = posts.held_out(other);
        best = std::max(best, by_words ? cosine(words_[post], words_[candidate])
                                       : cosine(vector_of(post), vector_of(candidate)));
      }
      result.push_back(best);
    }
    return result;
  }

 private:
  using Vector = std::map<std::uint32_t, double>;

  [[nodiscard]] Vector vector_of(std::size_t post) const {
    Vector vector;
    for (std::uint32_t i = 0; i < Made::kDim; ++i) vector[i] = made_.vectors[post * Made::kDim + i];
    return vector;
  }

  static double product(const Vector& a, const Vector& b) {
    double sum = 0;
    for (const auto& [key, value] : a) {
      const auto found = b.find(key);
      if (found != b.end()) sum += value * found->second;
    }
    return sum;
  }
  static double cosine(const Vector& a, const Vector& b) {
    const double length = std::sqrt(product(a, a) * product(b, b));
    return length == 0 ? 0 : product(a, b) / length;
  }

  const Made& made_;
  std::vector<Vector> words_;
};

TEST(RankHeldOutPosts, AsThePlainReference) {
  for (const std::uint32_t seed : {1U, 2U}) {
    for (const std::size_t others : {std::size_t{0}, std::size_t{20}}) {
      SCOPED_TRACE("seed " + std::to_string(seed) + ", others " + std::to_string(others));
      const Made made(70, seed);
      const Reference reference(made);
      RecommendationConfig config;
      config.bag_of_words = true;
      config.weight = 0.7;
      config.others = others;
      const RecommendationRanks ranks = rank(made.posts, made.vectors, Made::kDim, config);
      const auto users = static_cast<std::uint32_t>(made.posts.users());
      std::size_t open = 0;
      std::size_t compared = 0;
      for (std::uint32_t user = 0; user < users; ++user) {
        std::set<std::uint32_t> candidates = {user};
        if (others == 0) {
          for (std::uint32_t other = 0; other < users; ++other) candidates.insert(other);
        } else {
          const auto drawn = drawn_candidates(users, user, config);
          candidates.insert(drawn.begin(), drawn.end());
        }
        const std::vector<double> by_vectors = reference.scores(user, false);
        const std::vector<double> by_words = reference.scores(user, true);
        // Cosines of vectors are exact.
        const Between encoder = rank_between(by_vectors, candidates, user, 1e-9);
        EXPECT_EQ(ranks.encoder[user], encoder.high);
        const Between words = rank_between(by_words, candidates, user, 1e-5);
        EXPECT_GE(ranks.bag_of_words[user], words.low);
        EXPECT_LE(ranks.bag_of_words[user], words.high);
        std::vector<double> sums = standardized(by_vectors, candidates);
        const std::vector<double> second = standardized(by_words, candidates);
        for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += config.weight * second[i];
        const Between both = rank_between(sums, candidates, user, 1e-4);
        EXPECT_GE(ranks.both[user], both.low);
        EXPECT_LE(ranks.both[user], both.high);
        open += words.high - words.low + both.high - both.low;
        compared += 2 * candidates.size();
      }
      // The bounds are narrow enough to mean something.
      EXPECT_LT(open, compared / 10);
    }
  }
}

TEST(RankHeldOutPosts, ThreadsChangeNothing) {
  const Made made(300, 5);
  RecommendationConfig config;
  config.bag_of_words = true;
  config.others = 100;
  const RecommendationRanks one = rank(made.posts, made.vectors, Made::kDim, config, 1);
  for (const std::size_t threads : {2U, 3U, 8U}) {
    const RecommendationRanks many = rank(made.posts, made.vectors, Made::kDim, config, threads);
    EXPECT_EQ(many.encoder, one.encoder);
    EXPECT_EQ(many.bag_of_words, one.bag_of_words);
    EXPECT_EQ(many.both, one.both);
  }
}

// More scores than are held at once: blocks of users, and a user whose posts go over several pieces.
TEST(RankHeldOutPosts, InPieces) {
  constexpr std::size_t kUsers = 6000;
  const std::vector<float> directions = {1, 0, 0, 1, -1, 0, 0, -1};
  UserPosts posts;
  std::vector<float> vectors;
  Ranks expected;
  for (std::size_t user = 0; user < kUsers; ++user) {
    // All of a user's posts look one way; of the first user's earlier ones only the last does, and the first
    // looks another way than all between.
    const std::size_t earlier = user == 0 ? 3000 : 1 + user % 3;
    for (std::size_t post = 0; post <= earlier; ++post) {
      const std::size_t direction = user > 0 || post + 1 >= earlier ? user % 4 : post == 0 ? 1 : 2;
      vectors.insert(vectors.end(), {directions[2 * direction], directions[2 * direction + 1]});
      add_post(posts, {});
    }
    end_user(posts);
    // Those that look the same way: for the first user, in three of four ways.
    expected.push_back(user == 0 ? kUsers / 4 * 3 : kUsers / 4);
  }
  EXPECT_EQ(rank(posts, vectors, 2, {}).encoder, expected);
}

TEST(DrawnCandidates, EveryOtherIsEquallyLikelyAndDrawnOnce) {
  constexpr std::uint32_t kUsers = 30;
  RecommendationConfig config;
  config.others = 7;
  std::vector<int> drawn(kUsers);
  constexpr int kRounds = 3000;
  for (int round = 0; round < kRounds; ++round) {
    config.seed = static_cast<std::uint64_t>(round);
    const auto candidates = drawn_candidates(kUsers, 11, config);
    ASSERT_EQ(candidates.size(), 7U);
    EXPECT_TRUE(std::is_sorted(candidates.begin(), candidates.end()));
    EXPECT_EQ(std::set<std::uint32_t>(candidates.begin(), candidates.end()).size(), 7U);
    for (const std::uint32_t candidate : candidates) {
      ASSERT_LT(candidate, kUsers);
      ++drawn[candidate];
    }
  }
  const double share = 7.0 / 29;
  for (std::uint32_t user = 0; user < kUsers; ++user) {
    const double mean = user == 11 ? 0 : kRounds * share;
    const double deviation = user == 11 ? 0 : std::sqrt(kRounds * share * (1 - share));
    EXPECT_LE(std::abs(drawn[user] - mean), 5 * deviation) << user;
  }
  // Users have draws of their own, and all can be asked for.
  config.seed = 1;
  EXPECT_NE(drawn_candidates(1000, 998, config), drawn_candidates(1000, 999, config));
  config.others = kUsers - 1;
  Ranks all;
  for (std::uint32_t user = 0; user < kUsers; ++user) {
    if (user != 11) all.push_back(user);
  }
  EXPECT_EQ(drawn_candidates(kUsers, 11, config), all);
}

}  // namespace
}  // namespace tagspace
