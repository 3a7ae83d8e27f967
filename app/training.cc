#include "app/training.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fmt/format.h>
#include <span>
#include <utility>

#include "app/trained_model.h"
#include "base/error.h"
#include "base/files.h"
#include "data_pipeline/parallel.h"
#include "model/inference/ranking.h"

namespace tagspace {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

// In a long epoch, a checkpoint this often, so that a power cut costs no more.
constexpr std::chrono::minutes kCheckpointInterval{10};

// Pretrained vectors to begin with: their mean length, and the share of the words of all posts from which on
// a word's vector is made shorter than half.
constexpr double kPretrainedLength = 0.6;
constexpr double kHalvedShare = 1e-4;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The first `epochs` lines: later ones are of an epoch whose checkpoint was not written any more.
std::string first_lines(const std::string& text, std::uint32_t epochs) {
  std::size_t end = 0;
  for (std::uint32_t line = 0; line < epochs; ++line) {
    const std::size_t newline = text.find('\n', end);
    if (newline == std::string::npos) break;
    end = newline + 1;
  }
  return text.substr(0, end);
}

}  // namespace

double metric_of(const RankingMetrics& averages, Metric metric) {
  switch (metric) {
    case Metric::precision_at_1:
      return averages.precision_at_1;
    case Metric::recall_at_10:
      return averages.recall_at_10;
    case Metric::mrr:
      return averages.mrr;
    case Metric::mean_rank:
      return averages.mean_rank;
  }
  throw std::logic_error("an unknown metric");
}

bool is_better(double value, double than, Metric metric) {
  return metric == Metric::mean_rank ? value < than : value > than;
}

Json to_json(const RankingMetrics& averages) {
  return {{"posts", averages.posts},
          {"precision_at_1", averages.precision_at_1},
          {"recall_at_10", averages.recall_at_10},
          {"mean_rank", averages.mean_rank},
          {"mrr", averages.mrr}};
}

std::string TrainingState::to_json() const {
  const Json json = {
      {"format", RunFolder::kFormat},
      {"phase", phase},
      {"phase_epochs", phase_epochs},
      {"epochs", epochs},
      {"batch", batch},
      {"step", step},
      {"phase_step", phase_step},
      {"statistics",
       {{"posts", statistics.posts},
        {"pairs", statistics.pairs},
        {"violators", statistics.violators},
        {"tries", statistics.tries},
        {"loss", statistics.loss}}},
      {"mean_tries", mean_tries},
      {"best", best ? Json(*best) : Json()},
      {"best_epoch", best_epoch},
      {"stale_epochs", stale_epochs},
      {"on_gpu", on_gpu.value_or(false)},
      {"epoch_seconds", epoch_seconds},
      {"waiting_seconds", waiting_seconds},
      {"seconds", seconds},
      {"data", data},
  };
  return json.dump();
}

TrainingState TrainingState::from_json(const std::string& text, const std::string& file) {
  try {
    const Json json = Json::parse(text);
    TrainingState state;
    json.at("phase").get_to(state.phase);
    json.at("phase_epochs").get_to(state.phase_epochs);
    json.at("epochs").get_to(state.epochs);
    json.at("batch").get_to(state.batch);
    json.at("step").get_to(state.step);
    json.at("phase_step").get_to(state.phase_step);
    const Json& statistics = json.at("statistics");
    statistics.at("posts").get_to(state.statistics.posts);
    state.statistics.pairs = statistics.value("pairs", state.statistics.posts);  // older files have none
    statistics.at("violators").get_to(state.statistics.violators);
    statistics.at("tries").get_to(state.statistics.tries);
    statistics.at("loss").get_to(state.statistics.loss);
    json.at("mean_tries").get_to(state.mean_tries);
    if (!json.at("best").is_null()) state.best = json.at("best").get<double>();
    json.at("best_epoch").get_to(state.best_epoch);
    json.at("stale_epochs").get_to(state.stale_epochs);
    if (json.contains("on_gpu")) state.on_gpu = json.at("on_gpu").get<bool>();
    json.at("epoch_seconds").get_to(state.epoch_seconds);
    state.waiting_seconds = json.value("waiting_seconds", 0.0);  // older files have none
    json.at("seconds").get_to(state.seconds);
    json.at("data").get_to(state.data);
    return state;
  } catch (const Json::exception& error) {
    throw Error("'" + file + "' holds no state of a training: " + error.what());
  }
}

std::optional<PostFeatures> count_features(const Experiment& experiment, const PreparedData& data) {
  if (!experiment.features.any() || !experiment.has_vectors()) return std::nullopt;
  return PostFeatures::count(
      token_texts(*data.tokenizer), experiment.features,
      {data.train->posts(), [&](std::uint64_t post) { return data.train->tokens(post); }},
      experiment.features_min_count);
}

BatchLoader::Options loader_options(const Experiment& experiment, std::uint32_t threads,
                                    const std::optional<PostFeatures>& features) {
  return {.batch_size = experiment.training.batch_size,
          .seed = experiment.model.seed,
          .shuffle = true,
          // On the CPU the step's own threads make the next batch meanwhile, as long as they are few: one
          // thread more would interrupt them.
          .workers = experiment.model.device.cuda ? 1 + threads / 8 : threads / 16,
          .prefetch = 8,
          // Who asks for one thread of the CPU is not given two.
          .read_ahead = threads > 1 || experiment.model.device.cuda,
          .transform = features ? [&features](PackedBatch& batch) { features->expand(batch); }
                                : std::function<void(PackedBatch&)>()};
}

std::optional<WordVectors> read_pretrained(const Experiment& experiment, const PreparedData& data,
                                           Reporter& reporter, const std::function<bool()>& interrupted) {
  if (experiment.pretrained.empty() || !experiment.has_vectors()) return std::nullopt;
  WordVectors found = read_word_vectors(experiment.pretrained, *data.tokenizer, experiment.model.dim, [&] {
    if (interrupted()) throw Interrupted{};
  });
  // How often the training posts have each word.
  std::vector<std::uint64_t> counts(data.tokenizer->vocab_size());
  for (std::uint64_t post = 0; post < data.train->posts(); ++post) {
    for (const std::uint32_t token : data.train->tokens(post)) ++counts[token];
  }
  const auto total = static_cast<double>(data.train->tokens());
  const std::size_t dim = experiment.model.dim;
  std::uint64_t seen = 0;
  double lengths = 0;
  for (std::size_t row = 0; row < found.tokens.size(); ++row) {
    const std::uint64_t count = counts[found.tokens[row]];
    seen += count;
    // As in the weighted means of Arora, Liang, Ma (ICLR 2017): "the" says little, and has a long vector.
    const double weight = kHalvedShare / (kHalvedShare + static_cast<double>(count) / total);
    double squares = 0;
    for (float& value : std::span(found.vectors).subspan(row * dim, dim)) {
      value *= static_cast<float>(weight);
      squares += static_cast<double>(value) * value;
    }
    lengths += std::sqrt(squares);
  }
  if (lengths == 0) {
    throw Error("'" + experiment.pretrained.string() +
                "' has only zeros for the words of the vocabulary; allowed are vectors with a length");
  }
  const double factor = kPretrainedLength * static_cast<double>(found.tokens.size()) / lengths;
  for (float& value : found.vectors) value = static_cast<float>(value * factor);
  reporter.line(fmt::format(
      "{} of the {} words of the vocabulary begin with vectors of '{}' ({}, {} words): {:.1f} % of the words "
      "of the training posts",
      format_count(found.tokens.size()), format_count(data.tokenizer->vocab_size()),
      experiment.pretrained.string(), found.format, format_count(found.words_in_file),
      100 * static_cast<double>(seen) / total));
  return found;
}

Training::Training(const Experiment& experiment, const PreparedData& data,
                   const std::optional<PostFeatures>& features, const std::optional<WordVectors>& pretrained,
                   const RunFolder& run, Reporter& reporter, std::function<bool()> stop_asked,
                   Checkpoints checkpoints)
    : experiment_(experiment),
      data_(data),
      features_(features),
      run_(run),
      reporter_(reporter),
      stop_asked_(std::move(stop_asked)),
      checkpoints_(checkpoints),
      threads_(resolve_threads(experiment.training.threads)),
      model_(model_config(experiment, *data.tokenizer, features, data.hashtags, threads_)),
      loader_(*data.train, loader_options(experiment, threads_, features)) {
  if (pretrained) model_.set_word_vectors(pretrained->tokens, pretrained->vectors);
  const bool bag = experiment.model.encoder == EncoderType::bag;
  if (!bag && experiment.training.bag_epochs > 0)
    phases_.push_back({"bag", true, experiment.training.bag_epochs});
  phases_.push_back({to_string(experiment.model.encoder), bag, experiment.training.epochs});
  state_.data = fingerprint(data);
  state_.on_gpu = experiment.model.device.cuda;
}

std::string fingerprint(const PreparedData& data) {
  const std::uint64_t checksums[] = {data.train->checksum(), data.valid->checksum()};
  Checksum checksum;
  checksum.update(std::as_bytes(std::span(checksums)));
  return checksum.hex();
}

TrainingState state_to_resume(const std::string& text, const RunFolder& run, const Experiment& experiment,
                              const PreparedData& data) {
  TrainingState state = TrainingState::from_json(text, run.last().string());
  if (state.data != fingerprint(data)) {
    throw Error("cannot resume: the posts of '" + experiment.data.train.string() + "' and '" +
                experiment.data.valid.string() + "' are not those that the run was trained on");
  }
  return state;
}

std::string metrics_to_resume(const RunFolder& run, std::uint32_t epochs) {
  if (!path_exists(run.metrics())) return {};
  const std::string found = read_file(run.metrics());
  std::string lines = first_lines(found, epochs);
  if (lines != found) write_file(run.metrics(), lines);
  return lines;
}

void Training::resume() {
  run_.remove_partial_files();
  if (!path_exists(run_.last())) {
    if (path_exists(run_.best())) {
      throw Error("cannot resume: '" + run_.last().string() + "' is missing");
    }
    reporter_.line("the run has no checkpoint yet: training starts from the beginning");
    return;
  }
  TrainingState state = state_to_resume(model_.load(run_.last(), true), run_, experiment_, data_);
  if (state.phase >= phases_.size()) {
    throw Error("'" + run_.last().string() + "' holds a state that this experiment cannot have come to");
  }
  const bool on_gpu = experiment_.model.device.cuda;
  if (state.on_gpu.value_or(on_gpu) != on_gpu) {
    const auto name = [](bool gpu) { return gpu ? "a GPU" : "the CPU"; };
    reporter_.line(
        fmt::format("warning: the run was trained on {} until now, and the rest will be on {}: its model "
                    "will differ from "
                    "the one that it would have become there",
                    name(!on_gpu), name(on_gpu)));
  }
  state.on_gpu = on_gpu;
  state_ = std::move(state);
  metrics_ = metrics_to_resume(run_, state_.epochs);
  reporter_.line(
      fmt::format("resumed after {} epochs and {} steps", state_.epochs, format_count(state_.step)));
}

bool Training::phase_is_over() const {
  const std::uint32_t patience = experiment_.training.patience;
  return state_.phase_epochs >= phase().epochs || (patience > 0 && state_.stale_epochs >= patience);
}

bool Training::run() {
  for (;;) {
    while (!phase_is_over()) {
      if (!train_epoch()) {
        save_last();
        return false;
      }
    }
    if (state_.phase + 1 == phases_.size()) return true;
    enter_next_phase();
  }
}

void Training::enter_next_phase() {
  // The best tables of the phase, and accumulators that know nothing of it.
  if (state_.best_epoch != state_.epochs) (void)model_.load(run_.best(), false);
  model_.reset_optimizer();
  ++state_.phase;
  state_.phase_epochs = 0;
  state_.phase_step = 0;
  state_.mean_tries = 1;
  state_.best.reset();
  state_.stale_epochs = 0;
  // Before this phase's first epoch replaces best.safetensors, so that no resumed training needs the old one.
  save_last();
  reporter_.line("the tables are trained; now the convolution");
}

bool Training::train_epoch() {
  const std::uint64_t batches = loader_.batches_per_epoch();
  const auto phase_steps = static_cast<double>(batches) * static_cast<double>(phase().epochs);
  const auto start = Clock::now();
  const double epoch_seconds_before = state_.epoch_seconds;
  const double waiting_seconds_before = state_.waiting_seconds;
  const double seconds_before = state_.seconds;
  auto last_checkpoint = start;
  RecentStatistics recent(start);
  PackedBatch batch;
  const auto measure_time = [&] {
    state_.epoch_seconds = epoch_seconds_before + seconds_since(start);
    state_.waiting_seconds = waiting_seconds_before + loader_.seconds_waited();
    state_.seconds = seconds_before + seconds_since(start);
  };

  choose_negatives();
  if (state_.batch < batches) loader_.start(state_.epochs, state_.batch);
  while (state_.batch < batches) {
    if (stop_asked_()) {
      state_.statistics += model_.finish_steps();
      measure_time();
      return false;
    }
    if (!loader_.next(batch)) throw std::logic_error("the batches of an epoch ended early");
    float factor = 1;
    if (experiment_.schedule == Schedule::linear) {
      factor = static_cast<float>(std::max(0.0, 1 - static_cast<double>(state_.phase_step) / phase_steps));
    }
    const StepStatistics step =
        model_.train_step(batch, state_.step, factor, phase().as_bag, [this] { loader_.prepare(); });
    state_.statistics += step;
    ++state_.step;
    ++state_.phase_step;
    ++state_.batch;
    const auto now = Clock::now();
    recent.add(step, now);
    if (reporter_.wants_progress()) report_progress(recent);
    if (now - last_checkpoint >= kCheckpointInterval) {
      state_.statistics += model_.finish_steps();
      measure_time();
      save_last();
      last_checkpoint = Clock::now();
    }
  }
  state_.statistics += model_.finish_steps();
  measure_time();                    // here, as validation is no part of the training speed
  loader_.start(state_.epochs + 1);  // while validation goes on
  const std::optional<RankingMetrics> validation = validate();
  state_.seconds = seconds_before + seconds_since(start);
  if (!validation) return false;
  finish_epoch(*validation);
  return true;
}

void Training::choose_negatives() {
  const NegativesType chosen = model_.choose_negatives(state_.mean_tries);
  if (chosen == negatives_) return;
  negatives_ = chosen;
  if (experiment_.model.negatives != NegativesType::automatic) return;
  reporter_.line(fmt::format("negatives: {}, for a table of {} hashtags and {:.1f} tries a post",
                             to_string(chosen), format_count(data_.hashtags.size()), state_.mean_tries));
}

void Training::report_progress(const RecentStatistics& recent) {
  ProgressView view;
  view.phase = phase().name;
  view.epoch = state_.phase_epochs + 1;
  view.epochs = phase().epochs;
  view.posts_done = state_.statistics.posts;
  view.posts_total = data_.train->posts();
  recent.describe(view, Clock::now());
  std::uint64_t epochs_left = phase().epochs - state_.phase_epochs;
  for (std::size_t later = state_.phase + 1; later < phases_.size(); ++later)
    epochs_left += phases_[later].epochs;
  const auto posts_left = static_cast<double>(epochs_left * view.posts_total - view.posts_done);
  view.seconds_left = view.posts_per_second > 0 ? posts_left / view.posts_per_second : -1;
  reporter_.progress(view);
}

std::optional<RankingMetrics> Training::validate() {
  const std::vector<float> table = model_.hashtag_vectors();
  const std::size_t dim = model_.config().dim;
  kernels::CpuContext context(threads_);
  std::vector<float> vectors;  // [posts, dim]
  RankingMetrics sum;
  PackedBatch batch;
  const std::uint64_t posts = data_.valid->posts();
  for (std::uint64_t first = 0; first < posts; first += kPostsAtOnce) {
    data_.valid->append_to(batch, first, std::min<std::uint64_t>(posts, first + kPostsAtOnce));
    if (stop_asked_()) return std::nullopt;
    vectors.resize(batch.posts() * dim);
    if (features_) features_->expand(batch);
    model_.encode(batch, phase().as_bag, vectors.data());
    const BatchRanks ranks = rank_hashtags(batch, vectors, table, dim, context);
    for (std::size_t i = 0; i < batch.posts(); ++i) sum.add(of_post(batch, ranks.ranks, i));
    batch.clear();
  }
  return sum.averages();
}

void Training::finish_epoch(const RankingMetrics& validation) {
  const Metric metric = experiment_.training.metric;
  const double value = metric_of(validation, metric);
  if (!std::isfinite(value))
    throw Diverged(std::string("the validation's ") + to_string(metric) + " is not finite");
  const StepStatistics& sums = state_.statistics;
  const auto pairs = static_cast<double>(std::max<std::uint64_t>(sums.pairs, 1));
  const double speed = state_.epoch_seconds > 0 ? static_cast<double>(sums.posts) / state_.epoch_seconds : 0;
  const double waiting = state_.epoch_seconds > 0 ? state_.waiting_seconds / state_.epoch_seconds : 0;
  const bool improved = !state_.best || is_better(value, *state_.best, metric);
  const std::string as_phase = phase().name;

  ++state_.epochs;
  ++state_.phase_epochs;
  const Json line = {{"epoch", state_.epochs},
                     {"phase", as_phase},
                     {"step", state_.step},
                     {"loss", sums.loss / pairs},
                     {"violator_share", static_cast<double>(sums.violators) / pairs},
                     {"mean_tries", static_cast<double>(sums.tries) / pairs},
                     {"posts_per_second", speed},
                     {"waiting_share", waiting},
                     {"epoch_seconds", state_.epoch_seconds},
                     {"seconds", state_.seconds},
                     {"valid", to_json(validation)}};
  reporter_.line(
      fmt::format("{} epoch {}/{} in {}: {} posts/s, waited {:.1f} % for batches, loss {:.4f}, violators "
                  "{:.1f} %, mean tries {:.1f}; valid {}{}",
                  as_phase, state_.phase_epochs, phase().epochs, format_seconds(state_.epoch_seconds),
                  format_count(static_cast<std::uint64_t>(speed)), 100 * waiting, sums.loss / pairs,
                  100 * static_cast<double>(sums.violators) / pairs, static_cast<double>(sums.tries) / pairs,
                  format_metrics(validation), improved ? " (best so far)" : ""));
  metrics_ += line.dump() + '\n';
  if (checkpoints_ == Checkpoints::all) write_file(run_.metrics(), metrics_);
  if (improved) {
    state_.best = value;
    state_.best_epoch = state_.epochs;
    state_.stale_epochs = 0;
    const Json state = {
        {"format", RunFolder::kFormat}, {"as_bag", phase().as_bag}, {"phase", as_phase},
        {"epoch", state_.epochs},       {"step", state_.step},      {"valid", to_json(validation)}};
    if (checkpoints_ != Checkpoints::between_phases || state_.phase + 1 < phases_.size())
      model_.save(run_.best(), state.dump(), false);
  } else {
    ++state_.stale_epochs;
  }
  state_.batch = 0;
  state_.mean_tries = static_cast<double>(sums.tries) / pairs;
  state_.statistics = {};
  state_.epoch_seconds = 0;
  state_.waiting_seconds = 0;
  save_last();
}

void Training::save_last() {
  if (checkpoints_ == Checkpoints::all) model_.save(run_.last(), state_.to_json(), true);
}

}  // namespace tagspace
