// A trained model, ready to answer: the checkpoint mapped into memory and the kernels, without LibTorch.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data_pipeline/packed_batch.h"
#include "model/checkpoint.h"
#include "model/inference/post_encoder.h"
#include "model/kernels/cpu_context.h"
#include "model/model.h"

namespace tagspace {

class InferenceModel {
 public:
  // Maps and verifies the checkpoint. Error, naming the file, if it is missing, truncated, damaged (it
  // carries a checksum) or of another shape than `config`, which gives shapes and score.
  InferenceModel(const std::filesystem::path& checkpoint, const ModelConfig& config);

  [[nodiscard]] std::size_t dim() const { return config_.dim; }
  // What the checkpoint says besides its arrays.
  [[nodiscard]] const std::string& state() const { return file_.text(); }

  // Post vectors, [posts, dim]; `as_bag` as in Model::train_step. With the cosine score they have length 1
  // (or 0), so that scores are inner products with hashtag_vectors(). The same numbers as Model::encode gives
  // on the CPU.
  void encode(const PackedBatch& batch, bool as_bag, float* post_vectors, kernels::CpuContext& context);

  // The vectors that are scored, [rows, dim]; of length 1 under the cosine score. Those of the hashtags are
  // the model's own, in the file or in memory.
  [[nodiscard]] std::span<const float> hashtag_vectors() const { return hashtags_; }
  [[nodiscard]] std::vector<float> word_vectors() const;

 private:
  ModelConfig config_;
  CheckpointFile file_;
  EncoderWeights weights_;  // in file_
  PostEncoder encoder_;
  std::vector<float> normalized_hashtags_;  // under the cosine score
  std::span<const float> hashtags_;         // these, or in file_
};

}  // namespace tagspace
