// A run folder opened for use: everything that predict, evaluate and the other commands need.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "app/experiment.h"
#include "app/libtorch_program.h"
#include "app/run_folder.h"
#include "data_pipeline/corpus.h"
#include "data_pipeline/packed_batch.h"
#include "data_pipeline/tokenizer.h"
#include "model/inference/inference_model.h"
#include "model/inference/ranking.h"
#include "model/lexical/lexical_model.h"
#include "model/model.h"

namespace tagspace {

// Posts to read, encode and score at once.
inline constexpr std::size_t kPostsAtOnce = 512;

struct TrainedModel {
  enum class Parts { all, vectors };

  RunFolder run;
  std::unique_ptr<Tokenizer> tokenizer;
  std::optional<PostFeatures> features;  // that the encoder takes in beside words
  HashtagVocabulary hashtags;
  std::unique_ptr<InferenceModel> model;  // none where the model of words stands alone
  bool as_bag = false;                    // the best checkpoint is of the bag epochs of a cnn
  std::uint32_t threads = 1;
  std::unique_ptr<kernels::CpuContext> context;
  EncodePosts on_device;                  // if posts are encoded elsewhere than on the CPU
  std::unique_ptr<LexicalModel> lexical;  // if the run has one: scores are then mixed

  // Post vectors, [posts, dim]; of length 1 under the cosine score.
  void encode(const PackedBatch& batch, float* post_vectors);
  // The vectors of posts of one word each, [words, dim].
  [[nodiscard]] std::vector<float> words_as_posts();
  // The vectors of words, [words, dim]: what the table has, or, where a word has features too, that of a post
  // of this word.
  [[nodiscard]] std::vector<float> word_vectors();

  // The min(k, hashtags) best hashtags of each post, best first: [posts, min(k, hashtags)].
  [[nodiscard]] std::vector<Ranked> best_hashtags(const PackedBatch& batch, std::size_t k);
  // Where the posts' own hashtags stand among all. `best`, if given, gets what best_hashtags(batch, k)
  // returns, for less work than asking twice.
  [[nodiscard]] BatchRanks rank(const PackedBatch& batch, std::vector<Ranked>* best = nullptr,
                                std::size_t k = 0);
  // By the vectors, whether there is a model of words or not.
  [[nodiscard]] BatchRanks rank_by_vectors(const PackedBatch& batch);

 private:
  // Calls body(post, scores), with the scores of all hashtags by the model of words, or mixed, on any thread.
  template <typename Body>
  void for_scores(const PackedBatch& batch, const Body& body);
};

// Loads the best checkpoint of a run, whatever it was trained on, and its lexical model if it is to have one
// and that is asked for; posts are encoded on `device`. Errors name the file that is missing or damaged, say
// why the device cannot be used, or that the run has no vectors if they are asked for.
[[nodiscard]] TrainedModel load_trained_model(const std::filesystem::path& run, std::uint32_t threads,
                                              const std::string& device, TrainedModel::Parts parts);

}  // namespace tagspace
