// Losses that compare a post's hashtag with many negatives at once, the same for all posts of a step:
//
//   softmax    ln sum_n exp s(n) - s(y), over y and the negatives n that the post does not carry. Negatives
//   are
//              all hashtags, or a uniform sample, each of which then stands for V / samples hashtags
//              (Jean, Cho, Memisevic, Bengio, "On using very large target vocabulary for neural machine
//              translation", ACL 2015);
//   starspace  the mean of margin - s(y) + s(n) over those sampled negatives for which it is positive (Wu,
//              Fisch, Chopra, Adams, Bordes, Weston, "StarSpace: Embed all the things!", AAAI 2018).
//
// s is the inner product, or the cosine. Works on any device of LibTorch.
#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>

#include "model/model.h"

namespace tagspace {

// The hashtags of the posts, in 64 bits.
struct ScoredBatch {
  at::Tensor positives;  // [posts]
  at::Tensor own_posts;  // [hashtags of all posts] the post,
  at::Tensor own_rows;   // and the row of the table
  at::Tensor negatives;  // [negatives] rows; undefined: all
};

// A step's loss. First the posts, in any ranges, then the negatives, in any ranges: what belongs to a post or
// a negative does not depend on the ranges.
class ScoredLoss {
 public:
  // `post_vectors` [posts, dim] and `table` [hashtags, dim]; the first float32. The gradients are multiplied
  // by `scale`.
  ScoredLoss(const ModelConfig& config, const ScoredBatch& batch, const at::Tensor& post_vectors,
             const at::Tensor& table, float scale);

  [[nodiscard]] std::int64_t posts() const { return losses.size(0); }
  [[nodiscard]] std::int64_t negatives() const { return coefficients_.size(1); }

  void score_posts(std::int64_t first, std::int64_t count);
  void add_up_negatives(std::int64_t first, std::int64_t count);

  // Results.
  at::Tensor losses;         // [posts]
  at::Tensor violators;      // [posts] of the negatives, those that have a part in the loss
  at::Tensor post_gradient;  // [posts, dim]
  // [posts + negatives, dim]: what the rows of the positives, and then of the negatives, receive.
  at::Tensor row_gradients;
  at::Tensor rows;  // [posts + negatives]

 private:
  [[nodiscard]] at::Tensor without_own(const at::Tensor& scores, std::int64_t first) const;

  const ModelConfig& config_;
  const ScoredBatch& batch_;
  float scale_;
  at::Tensor units_;              // [posts, dim] post vectors; of length 1 under the cosine
  at::Tensor inverses_;           // [posts, 1], under the cosine
  at::Tensor table_units_;        // [negatives, dim]
  at::Tensor table_inverses_;     // [negatives, 1]
  at::Tensor positive_units_;     // [posts, dim]
  at::Tensor positive_inverses_;  // [posts, 1]
  at::Tensor coefficients_;       // [posts, negatives]: of a negative's unit in the gradient of a post's
};

}  // namespace tagspace
