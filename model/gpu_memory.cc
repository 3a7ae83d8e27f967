#include "model/gpu_memory.h"

#include <algorithm>
#include <cmath>

namespace tagspace {

std::uint64_t gpu_piece_tokens(const ModelConfig& config) {
  constexpr std::uint64_t kFloats = (std::uint64_t{32} << 20) / 4;
  const std::uint64_t of_a_token =
      std::max<std::uint64_t>(config.filters, std::uint64_t{config.window} * config.dim);
  return std::max<std::uint64_t>(1, kFloats / of_a_token);
}

GpuMemory estimate_gpu_memory(const ModelConfig& config, std::uint64_t posts, std::uint64_t tokens,
                              std::uint64_t longest_post) {
  constexpr std::uint64_t kFloat = 4;
  const std::uint64_t dim = config.dim;
  const std::uint64_t filters = config.encoder == EncoderType::cnn ? config.filters : 0;
  const std::uint64_t width = config.window * dim;
  const std::uint64_t sums = config.optimizer == OptimizerType::adagrad ? kFloat : 0;
  const std::uint64_t table = (config.table_format == TableFormat::bfloat16 ? 2 : kFloat) + sums;
  const std::uint64_t dense = filters * (width + 1) + (filters == 0 ? 0 : dim * (filters + 1));
  GpuMemory memory;
  memory.parameters = (std::uint64_t{config.vocab_size} + config.hashtags) * dim * table +
                      dense * (kFloat + sums) + config.max_tries * kFloat;

  const std::uint64_t contributions = std::max(2 * posts, tokens);
  std::uint64_t values =
      kGpuBatches * (tokens + 4 * posts);          // batches on their way, about two hashtags a post
  values += tokens + 6 * posts + 2 * posts * dim;  // words; positives to scales; vectors and gradients
  if (is_scored(config.loss)) {
    // Coefficients, scores and what comes of them; the negatives' rows, with gradients and places in the
    // table.
    const std::uint64_t negatives = scored_negatives(config);
    values += 4 * posts * negatives + (posts + negatives) * (3 * dim + 12);
  }
  values += 8 * contributions + 2 * posts;  // rows to order, selves; the sort's own memory
  if (filters > 0) {
    const std::uint64_t piece = std::min(tokens, std::max(gpu_piece_tokens(config), longest_post));
    values += 4 * posts * filters + piece * (width + filters) + tokens * dim + dense;
  }
  memory.workspace = values * kFloat;
  return memory;
}

std::uint64_t largest_batch(const ModelConfig& config, double tokens_per_post, std::uint64_t longest_post,
                            std::uint64_t bytes) {
  const auto fits = [&](std::uint64_t posts) {
    const auto tokens = static_cast<std::uint64_t>(std::ceil(tokens_per_post * static_cast<double>(posts)));
    const GpuMemory memory = estimate_gpu_memory(config, posts, tokens, longest_post);
    return memory.parameters + memory.workspace <= bytes;
  };
  std::uint64_t low = 0;
  std::uint64_t high = std::uint64_t{1} << 32;
  if (!fits(low)) return 0;
  while (high - low > 1) {
    const std::uint64_t middle = low + (high - low) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return low;
}

}  // namespace tagspace
