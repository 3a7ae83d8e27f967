// The model's learnt arrays and their optimiser's state, as tensors on one device.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "model/model.h"

namespace tagspace {

struct Parameter {
  const char* name;
  at::Tensor value;  // float32, but for tables kept in bfloat16
  at::Tensor sums;   // float32: Adagrad's sums of squared gradients, undefined under sgd
};

struct Parameters {
  // Fresh values, drawn from config.seed on the CPU and then moved: the same on every device.
  Parameters(const ModelConfig& config, at::Device device);

  // Sets the optimiser's sums to zero.
  void reset_optimizer();

  // As Model::set_word_vectors().
  void set_words(std::span<const std::uint32_t> rows, std::span<const float> vectors);

  // Those that the encoder has.
  [[nodiscard]] std::vector<Parameter*> all();

  // As Model's. A checkpoint is in float32, and does not tell on which device it was written.
  void save(const std::filesystem::path& path, const std::string& state, bool optimizer);
  std::string load(const std::filesystem::path& path, bool optimizer);

  Parameter words{"words", {}, {}};                     // [vocab_size, dim]
  Parameter hashtags{"hashtags", {}, {}};               // [hashtags, dim]
  Parameter convolution{"convolution.weight", {}, {}};  // [filters, window, dim]
  Parameter bias{"convolution.bias", {}, {}};           // [filters]
  Parameter linear{"linear.weight", {}, {}};            // [dim, filters]
  Parameter linear_bias{"linear.bias", {}, {}};         // [dim]

 private:
  bool is_cnn_;
  bool has_sums_;
};

}  // namespace tagspace
