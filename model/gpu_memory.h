// How much memory training takes on a GPU, known before it begins. Free of LibTorch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "model/model.h"

namespace tagspace {

// Batches under way between host and device.
inline constexpr std::size_t kGpuBatches = 3;
// Tokens whose windows [tokens, window, dim] and products [tokens, filters] are alive at a time: 32 MiB of
// the larger of the two, enough to keep the tensor cores of a data centre's GPU busy, and about what its L2
// cache holds. A longer post is taken as a whole all the same.
[[nodiscard]] std::uint64_t gpu_piece_tokens(const ModelConfig& config);

// Bytes of device memory that training takes: what the model holds, and what each batch needs.
// `longest_post`: the most tokens that a post can have.
struct GpuMemory {
  std::uint64_t parameters = 0;  // tables, convolution, linear layer, and the optimiser's sums
  std::uint64_t workspace = 0;   // of a step
};
[[nodiscard]] GpuMemory estimate_gpu_memory(const ModelConfig& config, std::uint64_t posts,
                                            std::uint64_t tokens, std::uint64_t longest_post);

// The most posts of `tokens_per_post` tokens in a batch for which training fits into `bytes`; 0 if the model
// itself does not fit.
[[nodiscard]] std::uint64_t largest_batch(const ModelConfig& config, double tokens_per_post,
                                          std::uint64_t longest_post, std::uint64_t bytes);

}  // namespace tagspace
