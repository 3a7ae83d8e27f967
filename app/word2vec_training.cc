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
                                          const RunFolder& run, bool resume, Reporter& reporter,
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
  const std::vector<std::uint64_t> shape = {std::uint64_t{config.vocab_size} + config.hashtags, config.dim};
  TrainingState state;
  state.data = fingerprint(data);
  std::string lines;
  if (resume) {
    run.remove_partial_files();
    if (path_exists(run.last())) {
      const CheckpointFile last(run.last());
      state = state_to_resume(last.text(), run, experiment, data);
      model.restore(last.get("inputs", shape), last.get("outputs", shape));
      reporter.line(fmt::format("resumed after {} epochs", state.epochs));
    } else {
      reporter.line("the run has no checkpoint yet: training starts from the beginning");
    }
    lines = metrics_to_resume(run, state.epochs);
  }
  const std::uint32_t patience = experiment.training.patience;
  while (state.epochs < epochs && (patience == 0 || state.stale_epochs < patience)) {
    const auto start = Clock::now();
    const auto seconds = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
    const double loss = model.train_epoch(state.epochs, rate_after(state.epochs),
                                          rate_after(state.epochs + 1), stop_asked, context);
    if (loss < 0) return std::nullopt;
    const double epoch_seconds = seconds();
    const RankingMetrics valid = validate(model, config, *data.valid, context);
    const double value = metric_of(valid, metric);
    if (!std::isfinite(loss) || !std::isfinite(value))
      throw Error("the loss is not a finite number any more: lower optimizer.learning_rate");
    ++state.epochs;
    state.seconds += seconds();
    const bool improved = !state.best || is_better(value, *state.best, metric);
    state.stale_epochs = improved ? 0 : state.stale_epochs + 1;
    if (improved) {
      state.best = value;
      state.best_epoch = state.epochs;
    }
    const Json line = {
        {"epoch", state.epochs},          {"phase", "skipgram"},      {"loss", loss},
        {"epoch_seconds", epoch_seconds}, {"seconds", state.seconds}, {"valid", to_json(valid)}};
    lines += line.dump() + '\n';
    write_file(run.metrics(), lines);
    reporter.line(fmt::format("skipgram epoch {}/{}: loss {:.4f}; valid {}{}", state.epochs, epochs, loss,
                              format_metrics(valid), improved ? " (best so far)" : ""));
    if (improved) {
      const Json of_best = {{"format", RunFolder::kFormat},
                            {"as_bag", true},
                            {"phase", "skipgram"},
                            {"epoch", state.epochs},
                            {"valid", to_json(valid)}};
      const std::vector<NamedArray> arrays = {
          {"words", {config.vocab_size, config.dim}, model.word_vectors().data()},
          {"hashtags", {config.hashtags, config.dim}, model.hashtag_vectors().data()}};
      write_checkpoint(run.best(), arrays, of_best.dump());
    }
    // Behind all others: what it does not know of yet is done again.
    const std::vector<NamedArray> arrays = {{"inputs", shape, model.inputs().data()},
                                            {"outputs", shape, model.outputs().data()}};
    write_checkpoint(run.last(), arrays, state.to_json());
  }
  return fmt::format("done: {} epochs in {}; the best was epoch {} with {} {:.4g}", state.epochs,
                     format_seconds(state.seconds), state.best_epoch, to_string(metric),
                     state.best.value_or(0));
}

}  // namespace tagspace
