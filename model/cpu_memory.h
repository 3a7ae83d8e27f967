// How much memory training takes on the CPU, known before it begins. Free of LibTorch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "model/model.h"

namespace tagspace {

// What a step works on.
struct StepSize {
  std::uint64_t posts = 0;
  std::uint64_t tokens = 0;
  std::uint64_t distinct_words = 0;  // among the tokens
  std::uint64_t encoded = 0;         // posts that validation encodes at once
};

// Bytes that training adds to what the program holds before it begins. A step's memory grows to what the
// largest step needs and stays; the memory of validation comes on top while that goes on.
struct CpuMemory {
  std::uint64_t library = 0;     // what LibTorch takes for itself at its first use
  std::uint64_t parameters = 0;  // tables, convolution, linear layer
  std::uint64_t optimizer = 0;   // sums of squared gradients
  std::uint64_t step = 0;        // of a step, or of encoding as many posts
  std::uint64_t validation = 0;  // a copy of the hashtag table, and what encoding takes

  [[nodiscard]] std::uint64_t total() const { return library + parameters + optimizer + step + validation; }
};
[[nodiscard]] CpuMemory estimate_cpu_memory(const ModelConfig& config, const StepSize& size);

}  // namespace tagspace
