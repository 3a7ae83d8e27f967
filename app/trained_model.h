// A run folder opened for use: everything that predict, evaluate and the other commands need.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>

#include "app/experiment.h"
#include "app/libtorch_program.h"
#include "app/run_folder.h"
#include "data_pipeline/corpus.h"
#include "data_pipeline/packed_batch.h"
#include "data_pipeline/tokenizer.h"
#include "model/inference/inference_model.h"
#include "model/model.h"

namespace tagspace {

// Posts to read, encode and score at once.
inline constexpr std::size_t kPostsAtOnce = 512;

struct TrainedModel {
  RunFolder run;
  std::unique_ptr<Tokenizer> tokenizer;
  HashtagVocabulary hashtags;
  InferenceModel model;
  bool as_bag = false;  // the best checkpoint is of the bag epochs of a cnn
  std::uint32_t threads = 1;
  std::unique_ptr<kernels::CpuContext> context;
  EncodePosts on_device;  // if posts are encoded elsewhere than on the CPU

  // Post vectors, [posts, dim]; of length 1 under the cosine score.
  void encode(const PackedBatch& batch, float* post_vectors);
};

// Loads the best checkpoint of a run, whatever it was trained on; posts are encoded on `device`. Errors name
// the file that is missing or damaged, or say why the device cannot be used.
[[nodiscard]] TrainedModel load_trained_model(const std::filesystem::path& run, std::uint32_t threads,
                                              const std::string& device);

}  // namespace tagspace
