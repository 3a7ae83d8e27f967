// word2vec: skip-gram with negative sampling (Mikolov, Sutskever, Chen, Corrado, Dean, NIPS 2013) over posts
// in which hashtags stand among the words. A hashtag's vector is a word's like any other, and a post's the
// mean of its words'.
//
// A corpus does not keep where in a post its hashtags stood. So each is put between two words drawn anew in
// every epoch, and comes to be a neighbour of all of them.
//
// Every token has an input vector, which is the result, and an output vector. In turn each token of a post is
// the centre, of as many tokens before and after it as a number drawn from 1 to `window` says; each of these
// neighbours is a step of kernels/skipgram.h, with negatives drawn as often as their count in the posts to
// the power 0.75. Plain gradient descent, one neighbour after the other on one thread: each step sees what
// all before it have changed, so that threads would have to race. Another thread draws the next posts' steps
// meanwhile. Free of LibTorch.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/random.h"
#include "model/kernels/cpu_context.h"
#include "model/kernels/skipgram.h"
#include "model/lexical/training_posts.h"

namespace tagspace {

class Word2Vec {
 public:
  struct Options {
    std::uint64_t seed = 1;
    std::uint32_t dim = 64;
    std::uint32_t window = 5;
    std::uint32_t negatives = 5;
    float initial_scale = 0.01F;  // standard deviation of the first input vectors; those of output are 0
  };

  // `posts` must outlive it. Tokens are below `words`, hashtags below `hashtags`.
  Word2Vec(TrainingPosts posts, std::uint32_t words, std::uint32_t hashtags, const Options& options);

  // One pass over the posts, whose learning rate goes from one value to the other in equal steps, one for
  // each kPostsAtOnce posts. The mean loss of a neighbour, or a negative number if `stop_asked`.
  static constexpr std::size_t kPostsAtOnce = 64;
  double train_epoch(std::uint64_t epoch, float first_rate, float last_rate,
                     const std::function<bool()>& stop_asked, kernels::CpuContext& context);

  // Input vectors, [words, dim] and [hashtags, dim].
  [[nodiscard]] std::span<const float> word_vectors() const {
    return std::span(inputs_).first(words_ * dim());
  }
  [[nodiscard]] std::span<const float> hashtag_vectors() const {
    return std::span(inputs_).subspan(words_ * dim());
  }

  // All input and all output vectors, [words + hashtags, dim]: with the epoch's number, all that decides how
  // training goes on; and back to such a state.
  [[nodiscard]] std::span<const float> inputs() const { return inputs_; }
  [[nodiscard]] std::span<const float> outputs() const { return outputs_; }
  void restore(std::span<const float> inputs, std::span<const float> outputs) {
    inputs_.assign(inputs.begin(), inputs.end());
    outputs_.assign(outputs.begin(), outputs.end());
  }

  // A post's tokens with its hashtags put among them, as numbers above the words'.
  void mix(std::uint64_t post, Random& random, std::vector<std::uint32_t>& tokens) const;
  // A token, with the probability of its share of all counts ^ 0.75.
  std::uint32_t draw_token(Random& random) const;
  // Appends the steps of a post in an epoch.
  void append_steps(std::uint64_t epoch, std::uint64_t post, kernels::SkipgramSteps& steps) const;

 private:
  // Walker's alias method: all columns are drawn alike, and give their own token with a probability in parts
  // of 2^32, or else another.
  struct Column {
    std::uint32_t own;
    std::uint32_t other;
  };
  void make_columns();
  [[nodiscard]] std::size_t dim() const { return options_.dim; }

  TrainingPosts posts_;
  std::size_t words_;
  Options options_;
  std::vector<float> inputs_;    // [words + hashtags, dim]
  std::vector<float> outputs_;   // the same
  std::vector<Column> columns_;  // [words + hashtags]
};

}  // namespace tagspace
