// How much memory training takes on a GPU, known before it begins. Free of LibTorch.
#pragma once

#include <cmath>
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

// Held back for what comes when LibTorch and cuBLAS are first used: the code of their kernels, cuBLAS's
// workspace, and what their allocator rounds up. Not measured.
inline constexpr std::uint64_t kGpuReserve = std::uint64_t{512} << 20;

// Of a batch; tokens and hashtags of all posts.
struct BatchSize {
  std::uint64_t posts = 0;
  std::uint64_t tokens = 0;
  std::uint64_t hashtags = 0;
};
// A post of the mean.
struct PostSize {
  double tokens = 0;
  double hashtags = 0;

  [[nodiscard]] BatchSize times(std::uint64_t posts) const {
    const auto count = static_cast<double>(posts);
    return {posts, static_cast<std::uint64_t>(std::ceil(tokens * count)),
            static_cast<std::uint64_t>(std::ceil(hashtags * count))};
  }
};

// Bytes of device memory that training takes: what the model holds, and what each batch needs.
// `longest_post`: the most tokens that a post can have.
struct GpuMemory {
  std::uint64_t parameters = 0;  // tables, convolution, linear layer, and the optimiser's sums
  std::uint64_t workspace = 0;   // of a step

  [[nodiscard]] std::uint64_t total() const { return parameters + workspace + kGpuReserve; }
};
[[nodiscard]] GpuMemory estimate_gpu_memory(const ModelConfig& config, const BatchSize& batch,
                                            std::uint64_t longest_post);

// The most posts in a batch for which training fits into `bytes`; 0 if the model itself does not fit.
[[nodiscard]] std::uint64_t largest_batch(const ModelConfig& config, const PostSize& post,
                                          std::uint64_t longest_post, std::uint64_t bytes);

}  // namespace tagspace
