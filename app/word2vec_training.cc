#include "app/word2vec_training.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "app/trained_model.h"
#include "app/training.h"
#include "base/error.h"
#include "base/files.h"
#include "data_pipeline/parallel.h"
#include "model/checkpoint.h"
#include "model/inference/post_encoder.h"
#include "model/word2vec.h"

namespace tagspace {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

RankingMetrics validate(const Word2Vec& model, const ModelConfig& config, const Corpus& valid,
                        kernels::CpuContext& context) {
  PostEncoder encoder(config);
  EncoderWeights weights;
  weights.words = model.word_vectors().data();
  std::vector<float> table(model.hashtag_vectors().begin(), model.hashtag_vectors().end());
  normalize_rows(table, config.dim);
  RankingMetrics sum;
  PackedBatch batch;
  std::vector<float> vectors;
  for (std::uint64_t first = 0; first < valid.posts(); first += kPostsAtOnce) {
    valid.append_to(batch, first, std::min<std::uint64_t>(valid.posts(), first + kPostsAtOnce));
    vectors.resize(batch.posts() * config.dim);
    encoder.encode(weights, batch, true, vectors.data(), context);
    normalize_rows(vectors, config.dim);
    const BatchRanks ranks = rank_hashtags(batch, vectors, table, config.dim, context);
    for (std::size_t i = 0; i < batch.posts(); ++i) sum.add(of_post(batch, ranks.ranks, i));
    batch.clear();
  }
  return sum.averages();
}

}  // namespace

std::optional<std::string> train_word2vec(const Experiment& experiment, const PreparedData& data,
                                          const RunFolder& run, Reporter& reporter,
                                          const std::function<bool()>& stop_asked) {
  const std::uint32_t threads = resolve_threads(experiment.training.threads);
  const ModelConfig config = model_config(experiment, *data.tokenizer, std::nullopt, data.hashtags, threads);
  kernels::CpuContext context(threads);
  Word2Vec model(
      {data.train->posts(), [&](std::uint64_t post) { return data.train->tokens(post); },
       [&](std::uint64_t post) { return data.train->hashtags(post); }},
      config.vocab_size, config.hashtags,
      {config.seed, config.dim, experiment.skipgram_window, config.negative_samples, config.initial_scale});
  const Metric metric = experiment.training.metric;
  const std::uint32_t epochs = experiment.training.epochs;
  const auto rate_after = [&](std::uint32_t done) {
    const float left = static_cast<float>(epochs - done) / static_cast<float>(epochs);
    return config.learning_rate * (experiment.schedule == Schedule::linear ? left : 1);
  };
  std::optional<double> best;
  std::uint32_t best_epoch = 0;
  std::uint32_t epoch = 0;
  std::string lines;
  const auto start = Clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  const std::uint32_t patience = experiment.training.patience;
  while (epoch < epochs && (patience == 0 || epoch < best_epoch + patience)) {
    const double before = seconds();
    const double loss =
        model.train_epoch(epoch, rate_after(epoch), rate_after(epoch + 1), stop_asked, context);
    if (loss < 0) return std::nullopt;
    const double epoch_seconds = seconds() - before;
    const RankingMetrics valid = validate(model, config, *data.valid, context);
    const double value = metric_of(valid, metric);
    if (!std::isfinite(loss) || !std::isfinite(value))
      throw Error("the loss is not a finite number any more: lower optimizer.learning_rate");
    ++epoch;
    const bool improved = !best || is_better(value, *best, metric);
    const Json line = {{"epoch", epoch},       {"phase", "skipgram"},
                       {"loss", loss},         {"epoch_seconds", epoch_seconds},
                       {"seconds", seconds()}, {"valid", to_json(valid)}};
    lines += line.dump() + '\n';
    write_file(run.metrics(), lines);
    reporter.line(fmt::format("skipgram epoch {}/{}: loss {:.4f}; valid {}{}", epoch, epochs, loss,
                              format_metrics(valid), improved ? " (best so far)" : ""));
    if (!improved) continue;
    best = value;
    best_epoch = epoch;
    const Json state = {{"format", RunFolder::kFormat},
                        {"as_bag", true},
                        {"phase", "skipgram"},
                        {"epoch", epoch},
                        {"valid", to_json(valid)}};
    const std::vector<NamedArray> arrays = {
        {"words", {config.vocab_size, config.dim}, model.word_vectors().data()},
        {"hashtags", {config.hashtags, config.dim}, model.hashtag_vectors().data()}};
    write_checkpoint(run.best(), arrays, state.dump());
  }
  return fmt::format("done: {} epochs in {}; the best was epoch {} with {} {:.4g}", epoch,
                     format_seconds(seconds()), best_epoch, to_string(metric), best.value_or(0));
}

}  // namespace tagspace
