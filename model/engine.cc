#include "model/engine.h"

#include <c10/util/Exception.h>
#include <cmath>
#include <string>

#include "base/error.h"
#include "model/kernels/warp_draws.h"

namespace tagspace {

std::uint32_t drop_limit(float rate) { return static_cast<std::uint32_t>(std::lround(rate * 65536)); }

std::vector<float> loss_weights(const ModelConfig& config) {
  if (config.loss != LossType::warp) return {1};
  return kernels::rank_weights(static_cast<kernels::RankWeight>(config.rank_weight), config.hashtags,
                               config.max_tries);
}

kernels::WarpConfig Engine::search_config(const ModelConfig& config, const float* weights,
                                          std::size_t pairs) const {
  kernels::WarpConfig search;
  search.score = static_cast<kernels::Score>(config.score);
  search.margin = config.margin;
  search.max_tries = config.loss == LossType::warp ? config.max_tries : 1;
  search.seed = config.seed;
  search.weight_of_tries = weights;
  search.negatives = negatives_;
  search.pool = kernels::pool_size(pairs, search.max_tries);
  search.pool_in_parts = pool_in_parts_;
  search.loss = config.loss == LossType::bpr ? kernels::PairLoss::logistic : kernels::PairLoss::margin;
  return search;
}

std::vector<std::int64_t> sampled_negatives(const ModelConfig& config, std::uint64_t step) {
  kernels::WarpConfig draws;
  draws.seed = config.seed;
  std::vector<std::int64_t> rows(config.negative_samples);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    rows[i] = kernels::proposed_row(draws, step, 0, static_cast<std::uint32_t>(i), config.hashtags);
  }
  return rows;
}

void throw_as_error() {
  try {
    throw;
  } catch (const c10::OutOfMemoryError&) {
    throw Error(
        "the GPU's memory is used up: training takes less of it with a lower training.batch_size or "
        "encoder.dim, or with the tables in half of it (training.table_format); other commands can do "
        "without "
        "it (--device cpu)");
  } catch (const c10::Error& error) {
    throw Error(std::string("LibTorch reports: ") + error.what_without_backtrace());
  }
}

void fail_of_divergence(const char* when, std::uint64_t step) {
  throw Diverged(std::string("the loss is not a finite number any more (") + when + " " +
                 std::to_string(step) +
                 "): training has diverged; lower optimizer.learning_rate or set optimizer.max_norm");
}

}  // namespace tagspace
