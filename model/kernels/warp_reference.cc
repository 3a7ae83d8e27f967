// The plain reference of warp.h, and what the implementations share.
#include <algorithm>
#include <bit>
#include <cmath>

#include "model/kernels/philox.h"
#include "model/kernels/warp.h"
#include "model/kernels/warp_draws.h"

namespace tagspace::kernels {
namespace {

// The sum of 1/i for i = 1 .. n, from 64 on by its asymptotic series (the error is below 1e-13).
double harmonic_number(std::uint64_t n) {
  double sum = 0;
  if (n < 64) {
    for (std::uint64_t i = 1; i <= n; ++i) sum += 1.0 / static_cast<double>(i);
    return sum;
  }
  const auto x = static_cast<double>(n);
  constexpr double kEulerGamma = 0.57721566490153286;
  return std::log(x) + kEulerGamma + 1 / (2 * x) - 1 / (12 * x * x) + 1 / (120 * x * x * x * x);
}

float inverse_norm(float squared_norm) { return squared_norm == 0 ? 0 : 1 / std::sqrt(squared_norm); }

struct Found {
  std::uint32_t violator = kNoViolator;
  std::uint32_t tries = 0;
};

template <typename Carried, typename Violates>
Found first_violator(const WarpConfig& config, const WarpBatch& batch, std::uint32_t pair,
                     const Carried& carried, const Violates& violates) {
  Found found;
  for (std::uint32_t draw = 0; draw < max_draws(config) && found.tries < config.max_tries; ++draw) {
    const std::uint32_t row = proposed_row(config, batch.step, pair, draw, batch.rows);
    if (carried(row)) continue;
    ++found.tries;
    if (!violates(row)) continue;
    found.violator = row;
    break;
  }
  return found;
}

template <typename Carried, typename Violates>
Found draw_exactly(const WarpConfig& config, const WarpBatch& batch, std::uint32_t pair,
                   const Carried& carried, const Violates& violates) {
  std::uint32_t candidates = 0;
  std::vector<std::uint32_t> violators;
  for (std::uint32_t row = 0; row < batch.rows; ++row) {
    if (carried(row)) continue;
    ++candidates;
    if (violates(row)) violators.push_back(row);
  }
  const ExactDraw draw =
      exact_draw(config, batch.step, pair, static_cast<std::uint32_t>(violators.size()), candidates);
  return {draw.found ? violators[draw.chosen] : kNoViolator, draw.tries};
}

}  // namespace

std::vector<float> rank_weights(RankWeight weight, std::uint32_t rows, std::uint32_t max_tries) {
  std::vector<float> weights(max_tries);
  for (std::uint32_t tries = 1; tries <= max_tries; ++tries) {
    const double rank = static_cast<double>(rows - 1) / tries;
    switch (weight) {
      case RankWeight::harmonic:
        weights[tries - 1] = static_cast<float>(harmonic_number((rows - 1) / tries));
        break;
      case RankWeight::log:
        weights[tries - 1] = static_cast<float>(std::max(1.0, std::log(rank)));
        break;
      case RankWeight::linear:
        weights[tries - 1] = static_cast<float>(rank);
        break;
    }
  }
  return weights;
}

std::uint32_t pool_size(std::size_t pairs, std::uint32_t max_tries) {
  constexpr std::size_t kLeast = 1024;
  static_assert(kLeast >= kSmallestPool);
  const std::size_t wanted = std::max({kLeast, 4 * pairs, static_cast<std::size_t>(max_tries)});
  return static_cast<std::uint32_t>(std::bit_ceil(std::min<std::size_t>(wanted, kLargestPool)));
}

// A row costs less to score in a tile of the table (exact: 1.3 ns of 64 dimensions) than a try in the pool
// (shared: 2.7 ns, and 90 a post): with fewer rows than tries exact is the cheapest by far, and up to twice
// as many it makes little difference. Draws of a post's own are never cheaper: they ask memory for more rows.
Negatives cheapest_negatives(std::uint32_t rows, double mean_tries, std::uint32_t max_tries) {
  if (rows < mean_tries) return Negatives::exact;
  return max_tries <= kLargestPool ? Negatives::shared : Negatives::sampled;
}

bool searches_in_parts(double mean_tries) { return mean_tries > 1 && mean_tries <= 32; }

float dot_reference(const float* a, const float* b, std::size_t dim) {
  float sums[16] = {};
  for (std::size_t i = 0; i < dim; ++i) {
    const float product = a[i] * b[i];
    sums[i % 16] = sums[i % 16] + product;
  }
  for (std::size_t half = 8; half > 0; half /= 2) {
    for (std::size_t i = 0; i < half; ++i) sums[i] = sums[i] + sums[i + half];
  }
  return sums[0];
}

// Gradients. With s = <p, t> for the dot product, ds/dp = t and ds/dt = p. With the cosine
// s = <p, t> / (|p| |t|), ds/dp = t / (|p| |t|) - s p / |p|^2 and ds/dt = p / (|p| |t|) - s t / |t|^2; a
// vector of length zero has score and gradient zero. The loss w (margin - s(y) + s(n)) moves -w along the
// gradient of s(y) and +w along that of s(n).
void warp_reference(const WarpConfig& config, const WarpBatch& batch, float gradient_scale,
                    const WarpResult& result) {
  const std::size_t dim = batch.dim;
  for (std::size_t post = 0; post < batch.posts; ++post) {
    const float* p = batch.post_vectors + post * dim;
    float* p_gradient = result.post_gradient + post * dim;
    std::fill(p_gradient, p_gradient + dim, 0.0F);
    const std::uint32_t* own_begin = batch.own + batch.own_offsets[post];
    const std::uint32_t* own_end = batch.own + batch.own_offsets[post + 1];
    const bool cosine = config.score == Score::cosine;
    const float p_inverse = cosine ? inverse_norm(dot_reference(p, p, dim)) : 1;
    const auto t_inverse = [&](const float* t) {
      return cosine ? inverse_norm(dot_reference(t, t, dim)) : 1;
    };
    const auto score = [&](const float* t) { return dot_reference(p, t, dim) * p_inverse * t_inverse(t); };

    for (std::uint32_t pair = batch.positive_offsets[post]; pair < batch.positive_offsets[post + 1]; ++pair) {
      const float* positive = batch.table + std::size_t{batch.positives[pair]} * dim;
      const float positive_score = score(positive);
      const float threshold = violation_threshold(config, positive_score);

      const std::uint32_t number = batch.first_pair + pair;
      const auto carried = [&](std::uint32_t row) { return std::find(own_begin, own_end, row) != own_end; };
      const auto score_of = [&](std::uint32_t row) { return score(batch.table + std::size_t{row} * dim); };
      // Not "greater", so that a score that is no number violates too.
      const auto violates = [&](std::uint32_t row) { return !(score_of(row) <= threshold); };
      const Found found = config.negatives == Negatives::exact
                              ? draw_exactly(config, batch, number, carried, violates)
                              : first_violator(config, batch, number, carried, violates);

      result.violator[pair] = found.violator;
      result.tries[pair] = found.tries;
      result.loss[pair] = 0;
      result.positive_gradient[pair] = {};
      result.negative_gradient[pair] = {};
      if (found.violator == kNoViolator) continue;
      const float* negative = batch.table + std::size_t{found.violator} * dim;
      const float negative_score = score_of(found.violator);
      const float weight = config.weight_of_tries[found.tries - 1];
      const LossOfPair of_pair = loss_of_pair(config, positive_score, negative_score);
      result.loss[pair] = weight * of_pair.loss;
      const float w = weight * of_pair.slope * gradient_scale;
      const float positive_inverse = t_inverse(positive);
      const float negative_inverse = t_inverse(negative);
      result.positive_gradient[pair].post = -w * p_inverse * positive_inverse;
      result.negative_gradient[pair].post = w * p_inverse * negative_inverse;
      float p_self = 0;
      if (cosine) {
        result.positive_gradient[pair].row = w * positive_score * positive_inverse * positive_inverse;
        result.negative_gradient[pair].row = -w * negative_score * negative_inverse * negative_inverse;
        p_self = w * (positive_score - negative_score) * p_inverse * p_inverse;
      }
      for (std::size_t i = 0; i < dim; ++i) {
        p_gradient[i] += result.negative_gradient[pair].post * negative[i] +
                         result.positive_gradient[pair].post * positive[i] + p_self * p[i];
      }
    }
  }
}

}  // namespace tagspace::kernels
