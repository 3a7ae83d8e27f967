#include "model/inference/ranking.h"

#include <algorithm>

namespace tagspace {

std::vector<Ranked> top_k(std::span<const float> queries, std::span<const float> table, std::size_t dim,
                          std::size_t k, kernels::CpuContext& context) {
  const kernels::VectorArray vectors{queries.data(), queries.size() / dim, dim};
  const kernels::VectorArray rows{table.data(), table.size() / dim, dim};
  std::vector<Ranked> best(vectors.count * std::min(k, rows.count));
  kernels::top_k(vectors, rows, k, best.data(), context);
  return best;
}

BatchRanks rank_hashtags(const PackedBatch& batch, std::span<const float> post_vectors,
                         std::span<const float> table, std::size_t dim, kernels::CpuContext& context) {
  BatchRanks result;
  result.ranks.resize(batch.hashtags.size());
  result.first.resize(batch.posts());
  kernels::ranks({post_vectors.data(), batch.posts(), dim}, {table.data(), table.size() / dim, dim},
                 {batch.hashtag_offsets.data(), batch.hashtags.data()}, result.ranks.data(),
                 result.first.data(), context);
  return result;
}

std::vector<Ranked> top_k_of(std::span<const float> scores, std::size_t k) {
  std::vector<Ranked> all(scores.size());
  for (std::uint32_t id = 0; id < scores.size(); ++id) all[id] = {id, scores[id]};
  const auto end = all.begin() + static_cast<std::ptrdiff_t>(std::min(k, all.size()));
  std::partial_sort(all.begin(), end, all.end(), kernels::is_better);
  all.erase(end, all.end());
  return all;
}

std::vector<std::uint32_t> ranks_of(std::span<const float> scores, std::span<const std::uint32_t> own) {
  std::vector<std::uint32_t> ranks;
  for (const std::uint32_t id : own) {
    const float score = scores[id];
    // Not "score <= other", so that a score that is no number counts as more.
    ranks.push_back(static_cast<std::uint32_t>(
        std::count_if(scores.begin(), scores.end(), [&](float other) { return !(other < score); })));
  }
  return ranks;
}

std::span<const std::uint32_t> of_post(const PackedBatch& batch, std::span<const std::uint32_t> values,
                                       std::size_t post) {
  const std::size_t begin = batch.hashtag_offsets[post];
  return values.subspan(begin, batch.hashtag_offsets[post + 1] - begin);
}

void RankingMetrics::add(std::span<const std::uint32_t> ranks) {
  double found = 0;
  double sum = 0;
  for (const auto rank : ranks) {
    found += rank <= 10 ? 1 : 0;
    sum += rank;
  }
  const auto count = static_cast<double>(ranks.size());
  const auto best = *std::min_element(ranks.begin(), ranks.end());
  posts += 1;
  precision_at_1 += best == 1 ? 1 : 0;
  recall_at_10 += found / count;
  mean_rank += sum / count;
  mrr += 1.0 / best;
}

RankingMetrics& RankingMetrics::operator+=(const RankingMetrics& other) {
  posts += other.posts;
  precision_at_1 += other.precision_at_1;
  recall_at_10 += other.recall_at_10;
  mean_rank += other.mean_rank;
  mrr += other.mrr;
  return *this;
}

RankingMetrics RankingMetrics::averages() const {
  const auto count = static_cast<double>(std::max<std::uint64_t>(1, posts));
  return {posts, precision_at_1 / count, recall_at_10 / count, mean_rank / count, mrr / count};
}

}  // namespace tagspace
