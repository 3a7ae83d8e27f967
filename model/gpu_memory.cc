#include "model/gpu_memory.h"

#include <algorithm>
#include <cmath>

namespace tagspace {

GpuMemory estimate_gpu_memory(const ModelConfig& config, std::uint64_t posts, std::uint64_t tokens) {
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
  values += 8 * contributions + 2 * posts;         // rows to order, selves; the sort's own memory
  if (filters > 0) {
    const std::uint64_t piece = std::min<std::uint64_t>(tokens, kGpuPieceBytes / kFloat / filters);
    values += 4 * posts * filters + piece * (width + filters) + tokens * dim + dense;
  }
  memory.workspace = values * kFloat;
  return memory;
}

std::uint64_t largest_batch(const ModelConfig& config, double tokens_per_post, std::uint64_t bytes) {
  const auto fits = [&](std::uint64_t posts) {
    const auto tokens = static_cast<std::uint64_t>(std::ceil(tokens_per_post * static_cast<double>(posts)));
    const GpuMemory memory = estimate_gpu_memory(config, posts, tokens);
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
