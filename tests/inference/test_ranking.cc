#include <algorithm>
#include <gtest/gtest.h>
#include <limits>
#include <mutex>
#include <random>

#include "model/model.h"

namespace tagspace {
namespace {

TEST(Ranks, TiesCountAgainstTheModel) {
  const std::vector<float> scores = {0.5F, 0.9F, 0.5F, 0.1F, 0.5F};
  const std::vector<std::uint32_t> own = {0, 1, 3};
  EXPECT_EQ(ranks_of(scores, own), (std::vector<std::uint32_t>{4, 1, 5}));
}

TEST(Ranks, AScoreThatIsNoNumberCountsAgainstTheModel) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<std::uint32_t> own = {0};
  EXPECT_EQ(ranks_of(std::vector<float>{1, nan, 0}, own), std::vector<std::uint32_t>{2});
  EXPECT_EQ(ranks_of(std::vector<float>{nan, 1, 0}, own), std::vector<std::uint32_t>{3});
}

TEST(RankingMetrics, ByHand) {
  // 12 hashtags with scores 12, 11, ..., 1: hashtag i has rank i + 1.
  std::vector<float> scores(12);
  for (std::size_t i = 0; i < scores.size(); ++i) scores[i] = 12 - static_cast<float>(i);
  RankingMetrics metrics;
  metrics.add(scores, std::vector<std::uint32_t>{0, 11});      // ranks 1, 12
  metrics.add(scores, std::vector<std::uint32_t>{3});          // rank 4
  metrics.add(scores, std::vector<std::uint32_t>{9, 10, 11});  // ranks 10, 11, 12
  const auto average = metrics.averages();
  EXPECT_EQ(average.posts, 3U);
  EXPECT_NEAR(average.precision_at_1, 1.0 / 3, 1e-12);
  EXPECT_NEAR(average.recall_at_10, (0.5 + 1 + 1.0 / 3) / 3, 1e-12);
  EXPECT_NEAR(average.mean_rank, (6.5 + 4 + 11) / 3, 1e-12);
  EXPECT_NEAR(average.mrr, (1 + 0.25 + 0.1) / 3, 1e-12);

  RankingMetrics twice = metrics;
  twice += metrics;
  EXPECT_EQ(twice.averages().posts, 6U);
  EXPECT_NEAR(twice.averages().mrr, average.mrr, 1e-12);
}

TEST(TopK, EqualsAFullSortWithTiesInOrderOfIds) {
  std::mt19937 random(4);
  for (const std::size_t count : {0, 1, 9, 10, 11, 1000}) {
    std::vector<float> scores(count);
    for (auto& score : scores) score = static_cast<float>(random() % 20);  // many ties
    std::vector<std::uint32_t> order(count);
    for (std::uint32_t i = 0; i < count; ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return scores[a] > scores[b]; });
    for (const std::size_t k : {0, 1, 10, 2000}) {
      const auto best = top_k(scores, k);
      ASSERT_EQ(best.size(), std::min(k, count));
      for (std::size_t i = 0; i < best.size(); ++i) {
        EXPECT_EQ(best[i].id, order[i]);
        EXPECT_EQ(best[i].score, scores[order[i]]);
      }
    }
  }
}

TEST(ScoreAll, VisitsEveryQueryOnceWithItsInnerProducts) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  const std::size_t dim = 9;
  std::vector<float> queries(130 * dim);
  std::vector<float> table(37 * dim);
  for (auto& x : queries) x = normal(random);
  for (auto& x : table) x = normal(random);
  std::vector<float> first;
  for (const std::uint32_t threads : {1, 2, 3, 7}) {
    std::vector<float> all(std::size_t{130} * 37, -99);
    std::mutex mutex;
    std::size_t visits = 0;
    score_all(queries, table, dim, threads, [&](std::size_t query, std::span<const float> scores) {
      const std::lock_guard lock(mutex);
      ++visits;
      ASSERT_EQ(scores.size(), 37U);
      std::copy(scores.begin(), scores.end(), all.begin() + static_cast<std::ptrdiff_t>(query * 37));
    });
    EXPECT_EQ(visits, 130U);
    for (std::size_t q = 0; q < 130; ++q) {
      for (std::size_t r = 0; r < 37; ++r) {
        double sum = 0;
        for (std::size_t i = 0; i < dim; ++i)
          sum += static_cast<double>(queries[q * dim + i]) * table[r * dim + i];
        ASSERT_NEAR(all[q * 37 + r], sum, 1e-5);
      }
    }
    if (threads == 1) first = all;
    EXPECT_EQ(all, first);
  }
}

}  // namespace
}  // namespace tagspace
