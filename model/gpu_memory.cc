#include "model/gpu_memory.h"

#include <algorithm>

namespace tagspace {

std::uint64_t gpu_piece_tokens(const ModelConfig& config) {
  constexpr std::uint64_t kFloats = (std::uint64_t{32} << 20) / 4;
  const std::uint64_t of_a_token =
      std::max<std::uint64_t>(config.filters, std::uint64_t{config.window} * config.dim);
  return std::max<std::uint64_t>(1, kFloats / of_a_token);
}

GpuMemory estimate_gpu_memory(const ModelConfig& config, const BatchSize& batch, std::uint64_t longest_post) {
  const auto [posts, tokens, hashtags] = batch;
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

  const bool scored = is_scored(config.loss);
  const std::uint64_t pairs = config.all_positives ? hashtags : posts;
  const std::uint64_t contributions = std::max(2 * pairs, tokens);
  std::uint64_t values = kGpuBatches * (tokens + hashtags + 2 * posts);  // batches on their way
  values += tokens + 3 * posts + 2 * posts * dim;  // words; positives, scales; vectors and gradients
  values += 3 * pairs + 2 * pairs;                 // violators, tries, losses; selves
  values += 8 * contributions;                     // rows to order; the sort's own memory
  if (scored) {
    // What is as large as the scores at its most: either they and what comes of them, or, where negatives are
    // sampled, which of them are own hashtags (a number, and a byte, for each own hashtag and negative). The
    // negatives' rows, with gradients and places in the table; hashtags in 64 bits, and whose they are.
    const std::uint64_t negatives = scored_negatives(config);
    const std::uint64_t own = config.negative_samples > 0 ? hashtags * 5 / 4 : 0;
    values += std::max(6 * posts, 4 * posts + own) * negatives + (posts + negatives) * (3 * dim + 12) +
              4 * (hashtags + posts);
  }
  if (filters > 0) {
    const std::uint64_t piece = std::min(tokens, std::max(gpu_piece_tokens(config), longest_post));
    values += 4 * posts * filters + piece * (width + filters) + tokens * dim + dense;
  }
  memory.workspace = values * kFloat;
  return memory;
}

std::uint64_t largest_batch(const ModelConfig& config, const PostSize& post, std::uint64_t longest_post,
                            std::uint64_t bytes) {
  const auto fits = [&](std::uint64_t posts) {
    return estimate_gpu_memory(config, post.times(posts), longest_post).total() <= bytes;
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
