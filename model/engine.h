// What trains and encodes on one kind of device: the CPU, or a GPU.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "model/kernels/warp.h"
#include "model/parameters.h"

namespace tagspace {

class Engine {
 public:
  Engine() = default;
  virtual ~Engine() = default;
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  Engine(Engine&&) = delete;
  Engine& operator=(Engine&&) = delete;

  // See Model, which has checked its arguments.
  virtual StepStatistics train_step(const PackedBatch& batch, std::uint64_t step, float learning_rate_factor,
                                    bool as_bag, const std::function<void()>& meanwhile) = 0;
  virtual StepStatistics finish_steps() = 0;
  // From the next step on.
  void use_negatives(kernels::Negatives negatives, bool pool_in_parts) {
    negatives_ = negatives;
    pool_in_parts_ = pool_in_parts;
  }
  // Vectors of any length: the score is not taken into account.
  virtual void encode(const PackedBatch& batch, bool as_bag, float* post_vectors) = 0;

 protected:
  // The search for violators that config's loss asks for. `weights`, loss_weights() on the engine's device;
  // `pairs` of the step.
  [[nodiscard]] kernels::WarpConfig search_config(const ModelConfig& config, const float* weights,
                                                  std::size_t pairs) const;

 private:
  kernels::Negatives negatives_ = kernels::Negatives::sampled;
  bool pool_in_parts_ = false;
};

// `parameters`, on the CPU, must outlive the engine.
[[nodiscard]] std::unique_ptr<Engine> make_cpu_engine(const ModelConfig& config, Parameters& parameters);

// What both kinds of engine share.

// The weights that the search for violators reads: w(N) for N = 1 .. the most tries.
[[nodiscard]] std::vector<float> loss_weights(const ModelConfig& config);

// The rows that a scored loss takes for negatives in a step; none: all.
[[nodiscard]] std::vector<std::int64_t> sampled_negatives(const ModelConfig& config, std::uint64_t step);

// A number below this out of 65536 is dropped.
[[nodiscard]] std::uint32_t drop_limit(float rate);

// Called where a c10::Error was caught: throws it again as an Error, the GPU's memory being used up among
// them.
[[noreturn]] void throw_as_error();

// Error for a sum of losses that is not finite; `when`: the words before the step's number, as in "step" 17.
[[noreturn]] void fail_of_divergence(const char* when, std::uint64_t step);

}  // namespace tagspace
