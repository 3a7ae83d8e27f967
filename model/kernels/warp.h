// The WARP ranking loss: sampling of negatives, first violator, rank weight, loss and all gradients, for a
// batch.
//
// WARP (weighted approximate-rank pairwise loss: Weston, Bengio, Usunier, "WSABIE: Scaling up to large
// vocabulary image annotation", IJCAI 2011) draws negatives one after the other until one violates the
// margin; how many it took estimates the rank of the positive. It is said that this cannot be done in
// batches, because the draws are sequential. It can: every draw of every pair has a random number of its own
// (philox.h), the table stands still during a batch, and whatever the number of pairs and tries scored at
// once, the *first* violator of each pair is kept. Every implementation here returns the same violators and
// the same numbers of tries, bit for bit.
//
// The algorithm, for a pair of a post with vector p and one of its hashtags y, and a table T of V rows:
//
//   threshold = s(p, T[y]) - margin
//   draw rows n uniformly; skip those the post carries; stop at the first with s(p, T[n]) > threshold,
//   or after max_tries tries, or after 4 max_tries + 64 draws;
//   violator found at try N: loss = w(N) (margin - s(p, T[y]) + s(p, T[n])); none: no loss, no gradient.
//
// That is `Negatives::sampled`. Two other ways choose tries and violator from the same distribution for every
// post, and cost less where violators are rare:
//
//   shared  all pairs of a step search one pool of `pool` draws, each in an order of its own (warp_draws.h),
//   to
//           its own first violator, or to the pool's end. Memory hands out each of its rows once a step,
//           however many tries there are. What pairs find is no longer independent of each other;
//   exact   all rows are scored. With m violators among the n rows that the post does not carry, N has the
//           geometric distribution of m / n and the violator is any of the m: two random numbers a pair.
//
// Two other losses are searches of one try with the weight 1 (max_tries 1, weight_of_tries {1}):
//
//   hinge     PairLoss::margin, one negative a pair: max(0, margin - s(p, T[y]) + s(p, T[n]));
//   bpr       PairLoss::logistic, every negative a violator: ln(1 + exp(s(p, T[n]) - s(p, T[y]))) (Rendle,
//             Freudenthaler, Gantner, Schmidt-Thieme, "BPR: Bayesian personalized ranking from implicit
//             feedback", UAI 2009).
//
// Scores have a fixed order of additions (see dot_reference), without fused multiply-adds, so that all
// implementations see the same floats and take the same decisions. A score that is not a number counts as a
// violation, so that it reaches the loss, where the caller must look for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tagspace::kernels {

struct CpuContext;  // cpu_context.h

enum class Score { dot, cosine };
enum class RankWeight { harmonic, log, linear };
enum class PairLoss { margin, logistic };
enum class Negatives { sampled, shared, exact };

constexpr std::uint32_t kNoViolator = 0xFFFFFFFF;

struct WarpConfig {
  Score score = Score::dot;
  float margin = 0.1F;
  std::uint32_t max_tries = 1000;
  std::uint64_t seed = 1;
  const float* weight_of_tries = nullptr;  // [max_tries], see rank_weights()
  Negatives negatives = Negatives::sampled;
  std::uint32_t pool = 1024;   // shared: draws that the pairs of a step have in common, see pool_size()
  bool pool_in_parts = false;  // shared: all search the pool's first fourth first, see searches_in_parts()
  PairLoss loss = PairLoss::margin;
};

// Draws in the pool of a step with `pairs` pairs: a power of two, 1,024 to kLargestPool, and within these
// bounds at least four a pair and as many as `max_tries`.
constexpr std::uint32_t kLargestPool = 65'536;
[[nodiscard]] std::uint32_t pool_size(std::size_t pairs, std::uint32_t max_tries);

// w(N) for N = 1 .. max_tries and a table of `rows` rows:
//   harmonic  sum of 1/i for i = 1 .. floor((rows - 1) / N)   (WSABIE, #TagSpace)
//   log       max(1, ln((rows - 1) / N))                      (LightFM)
//   linear    (rows - 1) / N                                  (the pre-sampled Keras form)
[[nodiscard]] std::vector<float> rank_weights(RankWeight weight, std::uint32_t rows, std::uint32_t max_tries);

struct WarpBatch {
  std::size_t posts = 0;
  std::size_t dim = 0;
  std::uint32_t rows = 0;                      // V, at least 2
  const float* post_vectors = nullptr;         // [posts, dim]
  const float* table = nullptr;                // [rows, dim]
  const std::uint32_t* own = nullptr;          // the posts' hashtags, end to end, ascending within a post
  const std::uint32_t* own_offsets = nullptr;  // [posts + 1]
  const std::uint32_t* positives = nullptr;    // [pairs]
  const std::uint32_t* positive_offsets =
      nullptr;  // [posts + 1]: post i has the pairs offsets[i] .. offsets[i + 1]
  std::uint64_t step = 0;
  std::uint32_t first_pair = 0;  // number of pair 0 within the global batch
  bool pool_is_filled = false;   // by fill_pool(), for this step
};

// A row's gradient is post * p + row * T[row].
struct RowGradient {
  float post = 0;
  float row = 0;
};

struct WarpResult {
  std::uint32_t* violator = nullptr;         // [pairs], kNoViolator where none was found
  std::uint32_t* tries = nullptr;            // [pairs], N, or the tries made in vain
  float* loss = nullptr;                     // [pairs]
  RowGradient* positive_gradient = nullptr;  // [pairs], of the row of the positive
  RowGradient* negative_gradient = nullptr;  // [pairs], of the row of the violator
  float* post_gradient = nullptr;            // [posts, dim], the sum over a post's pairs
};

// Loss and gradients of the batch; gradients are multiplied by `gradient_scale` (1 / pairs for a mean). All
// arrays of `result` are overwritten. The plain reference, and the implementation to use.
void warp_reference(const WarpConfig& config, const WarpBatch& batch, float gradient_scale,
                    const WarpResult& result);
void warp(const WarpConfig& config, const WarpBatch& batch, float gradient_scale, const WarpResult& result,
          CpuContext& context);

// Negatives::shared: the rows of the pool, or of its first part, are put side by side, in `context`, before
// the search. That needs no post vectors, so it may be done beside what makes them: start_pool() returns the
// number of tasks, which may run at once and in any order. Of the batch only table, rows, dim and step are
// read. Otherwise warp() does it.
[[nodiscard]] std::size_t start_pool(const WarpConfig& config, std::size_t dim, CpuContext& context);
void fill_pool(const WarpConfig& config, const WarpBatch& batch, std::size_t task, CpuContext& context);

// The way that costs least for a table of `rows` rows where a pair needs `mean_tries` tries of `max_tries`.
// `shared` only where the pool can have as many draws.
[[nodiscard]] Negatives cheapest_negatives(std::uint32_t rows, double mean_tries, std::uint32_t max_tries);

// Whether a pool should be searched in parts where pairs needed `mean_tries` tries lately, of which 1 may
// mean that it is not known: with few tries a fourth of the pool is enough for all, and a fourth of the rows
// has to be fetched from memory; with more, pairs would too often find the same violators.
[[nodiscard]] bool searches_in_parts(double mean_tries);

// The inner product in the order that defines a score: element i is added to partial sum i mod 16, and then
// the partial sums are added in halves: 8 to 8, 4 to 4, 2 to 2, 1 to 1.
[[nodiscard]] float dot_reference(const float* a, const float* b, std::size_t dim);

}  // namespace tagspace::kernels
