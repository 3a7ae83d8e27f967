// The model: a text encoder and one hashtag table in one vector space, trained together under the WARP loss.
//
// This header is free of LibTorch, so that the program can include it cheaply.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data_pipeline/packed_batch.h"
#include "model/device.h"

namespace tagspace {

enum class EncoderType { cnn, bag };
enum class PoolingType { mean, sqrtn };  // see model/kernels/encoder.h
// skipgram is word2vec's, trained by word2vec.h and not by Model.
enum class LossType { warp, hinge, bpr, starspace, softmax, skipgram };
enum class ScoreType { dot, cosine };
enum class RankWeightType { harmonic, log, linear };
enum class NegativesType { sampled, shared, exact, automatic };
constexpr std::uint32_t kMostSharedTries = 65'536;  // the most max_tries of shared
enum class OptimizerType { adagrad, sgd };
enum class RowUpdateMode { deterministic, hogwild };
enum class TableFormat { float32, bfloat16 };

// Everything that decides the shape of the model and the arithmetic of a step. The ranges are checked by the
// experiment file's reader; the model only asserts them.
struct ModelConfig {
  std::uint64_t seed = 1;
  std::uint32_t vocab_size =
      0;                       // rows of the word table: words, and features of model/lexical/post_features.h
  std::uint32_t hashtags = 0;  // rows of the hashtag table, at least 2

  EncoderType encoder = EncoderType::cnn;
  PoolingType pooling = PoolingType::mean;  // bag only
  std::uint32_t dim = 64;
  std::uint32_t window = 5;      // cnn only
  std::uint32_t filters = 1000;  // cnn only
  float initial_scale = 0.01F;   // standard deviation of the first word and hashtag vectors
  float word_dropout = 0;        // share of the tokens left out of a training step
  float dropout = 0;  // cnn: share of the features before the linear layer; bag: of the post vector

  // warp, hinge and bpr: see model/kernels/warp.h; starspace and softmax: see model/scored_loss.h.
  LossType loss = LossType::warp;
  ScoreType score = ScoreType::dot;
  RankWeightType rank_weight = RankWeightType::harmonic;  // warp only
  float margin = 0.1F;                                    // warp, hinge, starspace
  std::uint32_t max_tries = 1000;                         // warp only
  bool all_positives = false;  // of a post's hashtags, all in each step, not one at random
  // starspace and softmax: negatives that all posts of a step share; 0, with softmax: all hashtags.
  std::uint32_t negative_samples = 0;
  // See model/kernels/warp.h; exact on the CPU only. automatic: what choose_negatives() picked last.
  NegativesType negatives = NegativesType::automatic;

  OptimizerType optimizer = OptimizerType::adagrad;
  float learning_rate = 0.05F;          // of the word and hashtag tables
  float encoder_learning_rate = 0.05F;  // of the convolution and the linear layer
  float max_norm = 0;                   // longest word or hashtag vector; 0: any length

  Device device;
  // On a GPU only. hogwild: hashtag vectors change as soon as a violator is found, while others read them:
  // fewer launches, a result that depends on the schedule.
  RowUpdateMode row_updates = RowUpdateMode::deterministic;
  TableFormat table_format = TableFormat::float32;  // of the word and hashtag vectors while training

  std::uint32_t threads = 1;  // of the CPU; changes the speed of a step, never its result
};

// Whether the loss is of scored_loss.h, not of kernels/warp.h; and how many negatives such a loss has in a
// step.
[[nodiscard]] inline bool is_scored(LossType loss) {
  return loss == LossType::softmax || loss == LossType::starspace;
}
[[nodiscard]] inline std::uint32_t scored_negatives(const ModelConfig& config) {
  return config.negative_samples > 0 ? config.negative_samples : config.hashtags;
}

// Sums over the posts of one step or of many.
struct StepStatistics {
  std::uint64_t posts = 0;
  std::uint64_t pairs = 0;      // of a post and one of its hashtags; the posts, but for all_positives
  std::uint64_t violators = 0;  // pairs for which a violator was found
  std::uint64_t tries = 0;      // negatives drawn for all pairs
  double loss = 0;              // sum of the pairs' losses

  StepStatistics& operator+=(const StepStatistics& other) {
    posts += other.posts;
    pairs += other.pairs;
    violators += other.violators;
    tries += other.tries;
    loss += other.loss;
    return *this;
  }
};

class Model {
 public:
  // Fresh vectors, drawn from config.seed.
  explicit Model(const ModelConfig& config);
  ~Model();
  Model(Model&&) noexcept;
  Model& operator=(Model&&) noexcept;
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  [[nodiscard]] const ModelConfig& config() const;

  // One step on a batch in which every post has a hashtag: one positive per post, drawn at random, or all,
  // against sampled negatives. `step` counts the steps of the whole training from 0 and, with the seed,
  // decides every random choice. `learning_rate_factor` scales both learning rates (linear decay). `as_bag`
  // takes the mean of the word vectors as the post vector also under a cnn, and leaves convolution and linear
  // layer as they are. Throws Error if the loss is not finite; the model is then of no more use.
  //
  // A GPU works on the step after the call has returned. The statistics are those of the steps that have
  // become known since the last call: on the CPU this one's, on a GPU those of some steps before, and
  // finish_steps() waits for the rest. Loss errors come with the statistics.
  //
  // `meanwhile` is called once, by any of the step's threads: other work that takes its share of the cores
  // beside the step's. It must not throw.
  StepStatistics train_step(const PackedBatch& batch, std::uint64_t step, float learning_rate_factor,
                            bool as_bag, const std::function<void()>& meanwhile = {});
  [[nodiscard]] StepStatistics finish_steps();

  // The way to have negatives from the next step on: config().negatives, or where that is automatic, the one
  // that costs least if posts need `mean_tries` tries. Returns it.
  NegativesType choose_negatives(double mean_tries);

  // Gives these rows of the word table, ascending, other vectors, [rows, dim]: to begin with.
  void set_word_vectors(std::span<const std::uint32_t> rows, std::span<const float> vectors);

  // Forgets the optimiser's sums of squared gradients, as at the start.
  void reset_optimizer();

  // Post vectors, [posts, dim], without dropout. `as_bag` as above. With the cosine score they have length 1
  // (or 0), so that scores are inner products with hashtag_vectors().
  void encode(const PackedBatch& batch, bool as_bag, float* post_vectors) const;

  // Word and hashtag vectors as used for scoring, [rows, dim]; of length 1 under the cosine score.
  [[nodiscard]] std::vector<float> hashtag_vectors() const;
  [[nodiscard]] std::vector<float> word_vectors() const;

  // Checkpoints are safetensors files; `state` is any JSON text and comes back from load(). With `optimizer`,
  // the optimiser's accumulators are kept too, and training goes on from the file as if never interrupted.
  // Written whole or not at all.
  void save(const std::filesystem::path& path, const std::string& state, bool optimizer) const;

  // Reads a checkpoint into this model. Error, naming the file, if it is missing, truncated, damaged (it
  // carries a checksum) or of another shape than config(), or if `optimizer` is asked for and not in the
  // file. Returns the state given to save().
  std::string load(const std::filesystem::path& path, bool optimizer);

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace tagspace
