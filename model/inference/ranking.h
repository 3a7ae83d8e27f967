// Rankings of a hashtag table for posts, and their metrics.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data_pipeline/packed_batch.h"
#include "model/kernels/cpu_context.h"
#include "model/kernels/scoring.h"

namespace tagspace {

// One hashtag or word with its score.
using Ranked = kernels::ScoredRow;

// The k best rows of `table` [rows, dim] for each of `queries` [count, dim], best first, equal scores in the
// order of their ids: [count, min(k, rows)].
[[nodiscard]] std::vector<Ranked> top_k(std::span<const float> queries, std::span<const float> table,
                                        std::size_t dim, std::size_t k, kernels::CpuContext& context);

// Where the hashtags of a batch's posts stand among all hashtags.
struct BatchRanks {
  // [hashtags of the batch] one plus the number of other hashtags that score at least as much.
  std::vector<std::uint32_t> ranks;
  std::vector<std::uint32_t> first;  // [posts] the best hashtag of all
};

// `post_vectors` [posts, dim], `table` [hashtags, dim].
[[nodiscard]] BatchRanks rank_hashtags(const PackedBatch& batch, std::span<const float> post_vectors,
                                       std::span<const float> table, std::size_t dim,
                                       kernels::CpuContext& context);

// The same from the scores of all hashtags for one post: the k best, and the ranks of the hashtags `own`.
[[nodiscard]] std::vector<Ranked> top_k_of(std::span<const float> scores, std::size_t k);
[[nodiscard]] std::vector<std::uint32_t> ranks_of(std::span<const float> scores,
                                                  std::span<const std::uint32_t> own);

// The elements of `values`, [hashtags of the batch], that belong to a post.
[[nodiscard]] std::span<const std::uint32_t> of_post(const PackedBatch& batch,
                                                     std::span<const std::uint32_t> values, std::size_t post);

// The metrics of rankings, summed over posts: ties count against the model, as they do in the ranks.
struct RankingMetrics {
  std::uint64_t posts = 0;
  double precision_at_1 = 0;
  double recall_at_10 = 0;
  double mean_rank = 0;
  double mrr = 0;

  // Adds one post, of whose hashtags these are the ranks; at least one.
  void add(std::span<const std::uint32_t> ranks);
  RankingMetrics& operator+=(const RankingMetrics& other);
  // The sums divided by posts: what is reported.
  [[nodiscard]] RankingMetrics averages() const;
};

}  // namespace tagspace
