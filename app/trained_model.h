// A run folder opened for use: everything that predict, evaluate and the other commands need.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "app/experiment.h"
#include "app/run_folder.h"
#include "data_pipeline/corpus.h"
#include "data_pipeline/packed_batch.h"
#include "data_pipeline/tokenizer.h"
#include "model/model.h"

namespace tagspace {

// The experiment's model section, completed by what is known once the data has been read.
[[nodiscard]] ModelConfig model_config(const Experiment& experiment, const Tokenizer& tokenizer,
                                       const HashtagVocabulary& hashtags, std::uint32_t threads);

// Posts to read, encode and score at once.
inline constexpr std::size_t kPostsAtOnce = 512;

// The rows of the hashtags that a post of a batch carries.
[[nodiscard]] std::span<const std::uint32_t> own_hashtags(const PackedBatch& batch, std::size_t post);

// Scores every hashtag of the table for every post of a batch.
class HashtagScorer {
 public:
  // Takes a copy of the hashtag table; the model must outlive the scorer.
  HashtagScorer(const Model& model, bool as_bag, std::uint32_t threads);

  // Calls visit(post, scores) for each post, from several threads, one call a post.
  void score(const PackedBatch& batch, const std::function<void(std::size_t, std::span<const float>)>& visit);
  // Sums over the posts of a batch, each with a hashtag; in the order of the posts, so that the sum does not
  // depend on the number of threads.
  [[nodiscard]] RankingMetrics measure(const PackedBatch& batch);

  [[nodiscard]] std::span<const float> table() const { return table_; }  // [hashtags, dim]

 private:
  const Model* model_;
  bool as_bag_;
  std::uint32_t threads_;
  std::vector<float> table_;
  std::vector<float> post_vectors_;  // [posts, dim], of the last batch
};

struct TrainedModel {
  RunFolder run;
  std::unique_ptr<Tokenizer> tokenizer;
  HashtagVocabulary hashtags;
  Model model;
  bool as_bag = false;  // the best checkpoint is of the bag epochs of a cnn
  std::uint32_t threads = 1;
};

// Loads the best checkpoint of a run, whatever it was trained on, to be used on `device`. Errors name the
// file that is missing or damaged.
[[nodiscard]] TrainedModel load_trained_model(const std::filesystem::path& run, std::uint32_t threads,
                                              const Device& device);

}  // namespace tagspace
