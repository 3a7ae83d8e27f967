#include "model/cpu_memory.h"

#include <algorithm>

#include "model/kernels/warp.h"

namespace tagspace {

CpuMemory estimate_cpu_memory(const ModelConfig& config, const StepSize& size) {
  constexpr std::uint64_t kFloat = 4;
  constexpr std::uint64_t kFilterBlock = 16;  // filters that a thread multiplies with all words at a time
  constexpr std::uint64_t kSlice = 16;        // dims of the slices that the backward pass cuts vectors into
  const std::uint64_t dim = config.dim;
  const std::uint64_t filters = config.encoder == EncoderType::cnn ? config.filters : 0;
  const std::uint64_t width = config.window * dim;
  const std::uint64_t dense = filters == 0 ? 0 : filters * (width + 1) + dim * (filters + 1);
  const std::uint64_t threads = std::max<std::uint64_t>(1, config.threads);
  const std::uint64_t posts = size.posts;
  const std::uint64_t tokens = size.tokens;
  const std::uint64_t distinct = size.distinct_words;

  // What LibTorch and its matrix products take once they have been used, as measured.
  constexpr std::uint64_t kLibrary = std::uint64_t{12} << 20U;

  CpuMemory memory;
  memory.library = kLibrary;
  memory.parameters =
      ((std::uint64_t{config.vocab_size} + config.hashtags) * dim + dense + config.max_tries) * kFloat;
  if (config.optimizer == OptimizerType::adagrad)
    memory.optimizer = memory.parameters - config.max_tries * kFloat;

  const std::uint64_t contributions = std::max(2 * posts, tokens);
  std::uint64_t values =
      9 * posts + 2 * posts * dim;  // positives to gradients' scalars; vectors and gradients
  if (config.negatives == NegativesType::shared || config.negatives == NegativesType::automatic) {
    // The pool of draws, with their rows.
    values += std::uint64_t{kernels::pool_size(posts, config.max_tries)} * (dim + 2);
  }
  if (is_scored(config.loss)) {
    // Coefficients and scores of all negatives, and their rows with gradients and places in the table.
    const std::uint64_t negatives = scored_negatives(config);
    values += posts * negatives + (posts + negatives) * (2 * dim + 11);
  }
  values += 11 * contributions;  // rows to selves, grouped rows, the sort's own memory
  if (config.word_dropout > 0) values += (filters > 0 ? 1 : 2) * tokens;
  if (filters > 0) {
    values += 4 * posts * filters + posts * filters / 32;  // maxima, places, features, gradient; kept bits
    values += 2 * tokens + 2 * distinct;                   // tokens as distinct words, and grouped
    values += distinct * dim + tokens * dim + dense;       // vectors of distinct words, gradients
    const std::uint64_t blocks = (filters + kFilterBlock - 1) / kFilterBlock;
    values += std::min(threads, blocks) * kFilterBlock * (width + (distinct + 1) * config.window);
    // Of the backward pass: padded vectors and weights in slices, and a factor and a place for each maximum.
    const std::uint64_t sliced = (dim + kSlice - 1) / kSlice * kSlice;
    values += sliced * (tokens + posts * (config.window - 1) + filters * config.window);
    values += 2 * posts * filters;
  }
  memory.step = values * kFloat;
  // The encoder of validation has memory of its own.
  memory.validation =
      (dim * config.hashtags + (filters > 0 ? size.encoded * filters + distinct * dim : 0)) * kFloat;
  return memory;
}

}  // namespace tagspace
