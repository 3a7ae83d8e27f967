// Scoring of whole tables, rankings and their metrics.
#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <algorithm>

#include "model/kernels/thread_pool.h"
#include "model/model.h"

namespace tagspace {

void score_all(std::span<const float> queries, std::span<const float> table, std::size_t dim,
               std::uint32_t threads, const std::function<void(std::size_t, std::span<const float>)>& visit) {
  constexpr std::size_t kQueriesPerTask = 64;
  const std::size_t count = queries.size() / dim;
  const std::size_t rows = table.size() / dim;
  // from_blob takes a pointer to non-const memory; the tensors are only read.
  const auto as_tensor = [&](const float* data, std::size_t n) {
    return at::from_blob(const_cast<float*>(data),  // NOLINT(*-const-cast)
                         {static_cast<std::int64_t>(n), static_cast<std::int64_t>(dim)}, at::kFloat);
  };
  const at::Tensor transposed = as_tensor(table.data(), rows).t();
  kernels::ThreadPool pool(threads);
  pool.run((count + kQueriesPerTask - 1) / kQueriesPerTask, [&](std::size_t task, std::size_t) {
    at::set_num_threads(1);  // of this thread: the tasks are what runs in parallel
    const std::size_t first = task * kQueriesPerTask;
    const std::size_t n = std::min(kQueriesPerTask, count - first);
    const at::Tensor scores = at::mm(as_tensor(queries.data() + first * dim, n), transposed);
    const float* data = scores.const_data_ptr<float>();
    for (std::size_t i = 0; i < n; ++i) visit(first + i, {data + i * rows, rows});
  });
}

std::vector<Ranked> top_k(std::span<const float> scores, std::size_t k) {
  k = std::min(k, scores.size());
  std::vector<Ranked> best;
  if (k == 0) return best;
  best.reserve(k + 1);
  const auto before = [](const Ranked& a, const Ranked& b) {
    return a.score != b.score ? a.score > b.score : a.id < b.id;
  };
  // A heap of the k best so far, the worst of them in front.
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const Ranked candidate{static_cast<std::uint32_t>(i), scores[i]};
    if (best.size() == k) {
      if (!(candidate.score > best.front().score)) continue;
      std::pop_heap(best.begin(), best.end(), before);
      best.back() = candidate;
    } else {
      best.push_back(candidate);
    }
    std::push_heap(best.begin(), best.end(), before);
  }
  std::sort_heap(best.begin(), best.end(), before);
  return best;
}

std::vector<std::uint32_t> ranks_of(std::span<const float> scores, std::span<const std::uint32_t> own) {
  std::vector<std::uint32_t> ranks;
  ranks.reserve(own.size());
  for (const auto id : own) {
    const float mine = scores[id];
    // "Not less" rather than "at least", so that a score that is no number counts against the model.
    const auto not_less =
        std::count_if(scores.begin(), scores.end(), [mine](float s) { return !(s < mine); });
    ranks.push_back(static_cast<std::uint32_t>(not_less));  // the hashtag itself is one of them
  }
  return ranks;
}

void RankingMetrics::add(std::span<const float> scores, std::span<const std::uint32_t> own) {
  const auto ranks = ranks_of(scores, own);
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
