#include <gtest/gtest.h>

#include "model/inference/ranking.h"

namespace tagspace {
namespace {

// Three posts with 2, 1 and 3 hashtags, of dimension 1: scores are the rows times the post's number.
struct Posts {
  PackedBatch batch;
  std::vector<float> vectors = {1, -1, 2};
  std::vector<float> table = {0.5F, 0.9F, 0.5F, 0.1F};

  Posts() {
    for (const auto& hashtags : {std::vector<std::uint32_t>{0, 3}, std::vector<std::uint32_t>{3},
                                 std::vector<std::uint32_t>{0, 1, 2}}) {
      batch.hashtags.insert(batch.hashtags.end(), hashtags.begin(), hashtags.end());
      batch.end_post();
    }
  }
};

TEST(RankHashtags, OfABatchByHand) {
  const Posts posts;
  kernels::CpuContext context(2);
  const BatchRanks result = rank_hashtags(posts.batch, posts.vectors, posts.table, 1, context);
  // Ties count against the model.
  EXPECT_EQ(result.ranks, (std::vector<std::uint32_t>{3, 4, 1, 3, 1, 3}));
  EXPECT_EQ(result.first, (std::vector<std::uint32_t>{1, 3, 1}));
  const auto last = of_post(posts.batch, result.ranks, 2);
  EXPECT_EQ(std::vector<std::uint32_t>(last.begin(), last.end()), (std::vector<std::uint32_t>{3, 1, 3}));
}

TEST(TopK, OfABatchByHand) {
  const Posts posts;
  kernels::CpuContext context(2);
  const auto best = top_k(posts.vectors, posts.table, 1, 3, context);
  const std::vector<std::uint32_t> ids = {1, 0, 2, 3, 0, 2, 1, 0, 2};
  ASSERT_EQ(best.size(), ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) EXPECT_EQ(best[i].id, ids[i]) << i;
  EXPECT_EQ(best[6].score, 1.8F);
  EXPECT_EQ(top_k(posts.vectors, posts.table, 1, 10, context).size(), 12U);
}

TEST(RankingMetrics, ByHand) {
  RankingMetrics metrics;
  metrics.add(std::vector<std::uint32_t>{1, 12});
  metrics.add(std::vector<std::uint32_t>{4});
  metrics.add(std::vector<std::uint32_t>{10, 11, 12});
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

}  // namespace
}  // namespace tagspace
