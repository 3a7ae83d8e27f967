// The two programs. LibTorch takes long to load and much memory, and only training and GPUs need it:
// `tagspace` does without, and where it is needed goes on as tagspace-libtorch, in the same process.
//
// Both are made of the same sources, but for the functions here: tagspace-libtorch has them
// (commands/train.cc, commands/tune.cc, device_encoder.cc), and in `tagspace` each throws NeedsLibTorch
// (needs_libtorch.cc), which main() answers.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "data_pipeline/packed_batch.h"
#include "model/model.h"

namespace tagspace {

struct NeedsLibTorch {};

// Goes on as tagspace-libtorch with these arguments, ended by a null: the same process, so that signals,
// pipes and the exit status are its own. Returns only by an Error, if there is no such program or it cannot
// be run. It is looked for beside this program, and then where an installation has it.
[[noreturn]] void become_libtorch_program(char** arguments);

struct TrainArguments {
  std::filesystem::path config;
  std::vector<std::string> settings;
  std::filesystem::path output;
  bool resume = false;
  std::optional<std::uint32_t> threads;
};
// Returns the exit status.
[[nodiscard]] int train(const TrainArguments& arguments);

struct TuneArguments {
  std::filesystem::path config;
  std::vector<std::string> settings;
  std::filesystem::path output;
  bool overwrite = false;
  double minutes = 0;
  std::optional<std::uint32_t> trials;
  std::vector<std::uint32_t> dims;
  std::optional<std::uint32_t> threads;
};
// Returns the exit status.
[[nodiscard]] int tune(const TuneArguments& arguments);

// Post vectors, [posts, dim], as Model::encode gives them.
using EncodePosts = std::function<void(const PackedBatch& batch, float* post_vectors)>;
// The checkpoint's model on the GPU that `device` names (see find_device); none if "auto" finds no GPU. Error
// if the device cannot be used.
[[nodiscard]] EncodePosts encoder_on_device(const std::string& device,
                                            const std::filesystem::path& checkpoint, ModelConfig config,
                                            bool as_bag);

}  // namespace tagspace
