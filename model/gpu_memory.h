// How much memory training takes on a GPU, known before it begins. Free of LibTorch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "model/model.h"

namespace tagspace {

// Batches under way between host and device.
inline constexpr std::size_t kGpuBatches = 3;
// Of the products of tokens and filters, that are alive at a time: enough to keep the tensor cores of a data
// centre's GPU busy, and about what its L2 cache holds.
inline constexpr std::size_t kGpuPieceBytes = std::size_t{32} << 20;

// Bytes of device memory that training takes: what the model holds, and what each batch needs.
struct GpuMemory {
  std::uint64_t parameters = 0;  // tables, convolution, linear layer, and the optimiser's sums
  std::uint64_t workspace = 0;   // of a step
};
[[nodiscard]] GpuMemory estimate_gpu_memory(const ModelConfig& config, std::uint64_t posts,
                                            std::uint64_t tokens);

// The most posts of `tokens_per_post` tokens in a batch for which training fits into `bytes`; 0 if the model
// itself does not fit.
[[nodiscard]] std::uint64_t largest_batch(const ModelConfig& config, double tokens_per_post,
                                          std::uint64_t bytes);

}  // namespace tagspace
