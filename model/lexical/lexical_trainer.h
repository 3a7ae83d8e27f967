// Trains the sparse linear model of hashtags: one against the rest, with the squared hinge loss.
//
//   loss(post) = sum over its hashtags max(0, 1 - s)^2 + sum over all others max(0, 1 + s)^2
//
// as LIBLINEAR's L2-loss support vector machines and their kin for large label sets have it (Fan, Chang,
// Hsieh, Wang, Lin, JMLR 2008; Prabhu, Varma, KDD 2014), by plain stochastic gradient descent: a few posts
// are scored with the weights as they stand, and then all their gradients applied. s is the model's score
// less 1, so that of a hashtag of which nothing is known it is -1. Weights begin at 0, but for features that
// are a hashtag's name. What is computed does not depend on the number of threads.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "model/kernels/cpu_context.h"
#include "model/lexical/lexical_model.h"
#include "model/lexical/training_posts.h"

namespace tagspace {

class LexicalTrainer {
 public:
  struct Options {
    std::uint64_t seed = 1;  // of the posts' order
    float learning_rate = 0.05F;
  };

  // Counts features. `keys` and `posts` must outlive the trainer. `hashtag_names` by row. Error if there are
  // more than 2^32 - 1 weights.
  LexicalTrainer(const LexicalKeys& keys, TrainingPosts posts, std::span<const std::string> hashtag_names,
                 const Options& options, kernels::CpuContext& context);

  // One pass over the posts, epochs counted from 0; the mean loss, or a negative number if `stop_asked`.
  double train_epoch(std::uint64_t epoch, const std::function<bool()>& stop_asked);

  [[nodiscard]] const LexicalArrays& arrays() const { return arrays_; }

  static constexpr std::size_t kPostsAtOnce = 32;

 private:
  struct Contribution {  // to the weights of a feature
    std::uint32_t feature;
    std::uint32_t post;  // of the step
    float value;
  };

  void count_features();
  void find_weights(std::span<const std::string> hashtag_names);
  double step(std::span<const std::uint64_t> posts);
  void score(std::uint64_t post, std::size_t place);
  void update_features(std::size_t begin, std::size_t end);

  const LexicalKeys& keys_;
  std::size_t hashtags_;
  TrainingPosts posts_;
  Options options_;
  kernels::CpuContext& context_;
  LexicalArrays arrays_;
  // Of a step.
  std::vector<std::vector<LexicalFeature>> vectors_;  // [posts]
  std::vector<float> slopes_;                // [posts, hashtags] derivatives of the loss by the score
  std::vector<double> losses_;               // [posts]
  std::vector<Contribution> contributions_;  // by feature, then by post
  std::vector<std::size_t> groups_;          // where a feature's begin
};

}  // namespace tagspace
