#include "model/scored_loss.h"

#include <ATen/ATen.h>
#include <cmath>
#include <limits>

namespace tagspace {
namespace {

// Vectors divided by their lengths, and one over these; a vector of length zero stays as it is.
std::pair<at::Tensor, at::Tensor> units_of(const at::Tensor& vectors, ScoreType score) {
  if (score == ScoreType::dot) return {vectors, {}};
  const at::Tensor lengths = at::linalg_vector_norm(vectors, 2, at::IntArrayRef{1}, true);
  const at::Tensor inverses = at::where(lengths == 0, at::zeros_like(lengths), at::reciprocal(lengths));
  return {vectors * inverses, inverses};
}

// From the gradient of a unit to that of its vector: (g - <g, u> u) / |v|.
at::Tensor gradient_of_vectors(const at::Tensor& of_units, const at::Tensor& units,
                               const at::Tensor& inverses, ScoreType score) {
  if (score == ScoreType::dot) return of_units;
  return (of_units - at::sum(of_units * units, {1}, true) * units) * inverses;
}

}  // namespace

ScoredLoss::ScoredLoss(const ModelConfig& config, const ScoredBatch& batch, const at::Tensor& post_vectors,
                       const at::Tensor& table, float scale)
    : config_(config), batch_(batch), scale_(scale) {
  const at::Tensor negative_rows =
      batch.negatives.defined() ? batch.negatives : at::arange(table.size(0), batch.positives.options());
  rows = at::cat({batch.positives, negative_rows});
  const at::Tensor negative_vectors =
      (batch.negatives.defined() ? table.index_select(0, batch.negatives) : table).to(at::kFloat);
  std::tie(units_, inverses_) = units_of(post_vectors, config.score);
  std::tie(table_units_, table_inverses_) = units_of(negative_vectors, config.score);
  std::tie(positive_units_, positive_inverses_) =
      units_of(table.index_select(0, batch.positives).to(at::kFloat), config.score);
  const std::int64_t posts = post_vectors.size(0);
  const std::int64_t count = negative_rows.size(0);
  const auto options = post_vectors.options();
  losses = at::empty({posts}, options);
  violators = at::empty({posts}, options.dtype(at::kLong));
  post_gradient = at::empty({posts, post_vectors.size(1)}, options);
  row_gradients = at::empty({posts + count, post_vectors.size(1)}, options);
  coefficients_ = at::empty({posts, count}, options);
}

// Scores with those of the posts' own hashtags at minus infinity.
at::Tensor ScoredLoss::without_own(const at::Tensor& scores, std::int64_t first) const {
  at::Tensor own_posts = batch_.own_posts;
  at::Tensor own_rows = batch_.own_rows;
  if (scores.size(0) < posts()) {  // else without a question to the device how many they are
    const at::Tensor here =
        at::logical_and(own_posts >= first, own_posts < first + scores.size(0)).nonzero().squeeze(1);
    own_posts = own_posts.index_select(0, here) - first;
    own_rows = own_rows.index_select(0, here);
  }
  if (!batch_.negatives.defined()) {
    const at::Tensor lowest = at::full({}, -std::numeric_limits<float>::infinity(), scores.options());
    return scores.index_put({own_posts, own_rows}, lowest);
  }
  const at::Tensor equal = at::eq(own_rows.unsqueeze(1), batch_.negatives.unsqueeze(0));
  const at::Tensor counts =
      at::zeros(scores.sizes(), scores.options()).index_add(0, own_posts, equal.to(at::kFloat));
  return scores.masked_fill(counts > 0, -std::numeric_limits<float>::infinity());
}

void ScoredLoss::score_posts(std::int64_t first, std::int64_t count) {
  const at::Tensor units = units_.narrow(0, first, count);
  const at::Tensor positive_units = positive_units_.narrow(0, first, count);
  const at::Tensor positive = at::sum(units * positive_units, {1}, true);
  at::Tensor scores = without_own(at::mm(units, table_units_.t()), first);
  at::Tensor of_positive;
  at::Tensor of_negatives;
  if (config_.loss == LossType::softmax) {
    if (batch_.negatives.defined()) {
      scores =
          scores + std::log(static_cast<double>(config_.hashtags - 1) / static_cast<double>(scores.size(1)));
    }
    const at::Tensor all = at::cat({positive, scores}, 1);
    const at::Tensor total = at::logsumexp(all, {1}, true);
    losses.narrow(0, first, count).copy_((total - positive).squeeze(1));
    violators.narrow(0, first, count).fill_(1);
    of_negatives = at::exp(scores - total);
    of_positive = at::exp(positive - total) - 1;
  } else {
    const at::Tensor excess = scores - positive + config_.margin;
    // Not "excess > 0", so that a score that is no number reaches the loss.
    const at::Tensor violating = at::logical_not(excess <= 0);
    const at::Tensor number = violating.sum(at::IntArrayRef{1}, true);
    violators.narrow(0, first, count).copy_(number.squeeze(1));
    of_negatives = violating.to(at::kFloat) / number.clamp_min(1);
    of_positive = -(number > 0).to(at::kFloat);
    const at::Tensor counted = at::where(violating, excess, at::zeros_like(excess));
    losses.narrow(0, first, count)
        .copy_((counted.sum(at::IntArrayRef{1}, true) / number.clamp_min(1)).squeeze(1));
  }
  of_negatives = of_negatives * scale_;
  of_positive = of_positive * scale_;
  coefficients_.narrow(0, first, count).copy_(of_negatives);
  const at::Tensor unit_gradient = at::mm(of_negatives, table_units_) + of_positive * positive_units;
  const auto inverses_at = [&](const at::Tensor& inverses) {
    return inverses.defined() ? inverses.narrow(0, first, count) : inverses;
  };
  post_gradient.narrow(0, first, count)
      .copy_(gradient_of_vectors(unit_gradient, units, inverses_at(inverses_), config_.score));
  row_gradients.narrow(0, first, count)
      .copy_(gradient_of_vectors(of_positive * units, positive_units, inverses_at(positive_inverses_),
                                 config_.score));
}

void ScoredLoss::add_up_negatives(std::int64_t first, std::int64_t count) {
  const at::Tensor of_units = at::mm(coefficients_.narrow(1, first, count).t(), units_);
  const at::Tensor inverses =
      table_inverses_.defined() ? table_inverses_.narrow(0, first, count) : table_inverses_;
  row_gradients.narrow(0, posts() + first, count)
      .copy_(gradient_of_vectors(of_units, table_units_.narrow(0, first, count), inverses, config_.score));
}

}  // namespace tagspace
