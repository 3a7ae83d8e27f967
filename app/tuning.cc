#include "app/tuning.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <utility>

#include "app/training.h"
#include "base/random.h"

namespace tagspace {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::uint64_t kTrialStream = 0x74756E65;  // the sequence has nothing to do with training's
constexpr double kReachAroundBest = 0.3;            // of the whole range
constexpr std::size_t kFewestEpochs = 4;            // before a trial may be clearly worse

// From 0 to below 1.
double uniform(Random& random) { return static_cast<double>(random.next() >> 11U) * 0x1p-53; }

// Three digits, so that people can read the file, and what is tried is what is written.
double rounded(double value) {
  std::array<char, 32> text{};
  (void)std::snprintf(text.data(), text.size(), "%.3g", value);
  return std::strtod(text.data(), nullptr);
}

double number(const Experiment& experiment, const std::string& path) {
  return experiment_option(path).get(experiment).get<double>();
}

// Numbers may come as 1 and 1.0.
bool same_value(const Json& one, const Json& other) {
  return one.is_number() && other.is_number() ? one.get<double>() == other.get<double>() : one == other;
}

// `random` is asked equally often whatever the values, so that a trial's numbers are always the same.
Json draw(const Searched& key, Random& random, const Experiment& given, const Experiment& around,
          double reach) {
  const double at = uniform(random);
  switch (key.kind) {
    case Searched::Kind::factor: {
      const double middle = number(given, key.path);
      const double value = number(around, key.path) * std::pow(key.most, reach * (2 * at - 1));
      const Option& option = experiment_option(key.path);
      return rounded(std::clamp(value, middle / key.most, std::min(middle * key.most, option.maximum)));
    }
    case Searched::Kind::share: {
      const double value =
          reach < 1 ? number(around, key.path) + key.most * reach * (at - 0.5) : key.most * at;
      return std::floor(100 * std::clamp(value, 0.0, key.most)) / 100;
    }
    case Searched::Kind::choice:
      break;
  }
  const auto count = static_cast<double>(key.choices.size());
  double index = std::floor(at * count);
  if (reach < 1) {  // the value itself or one of its neighbours
    const Json value = experiment_option(key.path).get(around);
    const auto found = std::find_if(key.choices.begin(), key.choices.end(),
                                    [&](const Json& other) { return same_value(other, value); });
    index = static_cast<double>(found - key.choices.begin()) + std::floor(3 * at) - 1;
  }
  return key.choices[static_cast<std::size_t>(std::clamp(index, 0.0, count - 1))];
}

}  // namespace

SearchSpace::SearchSpace(const Experiment& given, const std::vector<std::uint32_t>& dims) : given_(given) {
  const auto factor = [&](const char* path, double most) {
    // A value of 0 stands for something else than a small one.
    if (number(given, path) > 0) keys_.push_back({path, Searched::Kind::factor, most, {}});
  };
  const auto share = [&](const char* path, double most) {
    keys_.push_back({path, Searched::Kind::share, std::max(most, number(given, path)), {}});
  };
  const auto choice = [&](const char* path, std::vector<Json> choices) {
    const Json value = experiment_option(path).get(given);
    if (std::none_of(choices.begin(), choices.end(),
                     [&](const Json& other) { return same_value(other, value); })) {
      choices.insert(
          std::find_if(choices.begin(), choices.end(),
                       [&](const Json& other) { return other.get<double>() > value.get<double>(); }),
          value);
    }
    keys_.push_back({path, Searched::Kind::choice, 0, std::move(choices)});
  };
  const bool cnn = given.model.encoder == EncoderType::cnn;

  factor("optimizer.learning_rate", 4);
  if (cnn) factor("optimizer.encoder_learning_rate", 4);
  choice("optimizer.schedule", {"constant", "linear"});
  share("encoder.word_dropout", 0.7);
  share("encoder.dropout", 0.6);
  if (!cnn) {
    choice("encoder.pairs", {false, true});
    choice("encoder.beginnings", {false, true});
    choice("encoder.min_count", {1, 2, 5});
    choice("encoder.pooling", {"mean", "sqrtn"});
  }
  // The last is no limit at all.
  choice("optimizer.max_norm", {0.6, 0.8, 1.0, 1.2, 1.5, 2.0, 3.0, 0.0});
  if (given.model.loss == LossType::warp || given.model.loss == LossType::hinge ||
      given.model.loss == LossType::starspace) {
    factor("loss.margin", 4);
  }
  factor("encoder.initial_scale", 5);
  std::vector<Json> sizes;
  for (const double times : {0.25, 0.5, 1.0, 2.0, 4.0}) {
    const double size = std::floor(given.training.batch_size * times);
    if (size >= 1 && size <= experiment_option("training.batch_size").maximum)
      sizes.emplace_back(static_cast<std::uint32_t>(size));
  }
  choice("training.batch_size", std::move(sizes));
  if (given.tokenizer.type == TokenizerType::word) choice("tokenizer.min_count", {1, 2});
  switch (given.lexical.type) {
    case LexicalType::none:
      break;
    case LexicalType::linear: {
      // Its best epoch is taken: more of them cost time alone. Three rates, so that trials have models in
      // common.
      const double rate = number(given, "lexical.learning_rate");
      std::vector<Json> rates = {rounded(rate / 2), rate};
      if (2 * rate <= experiment_option("lexical.learning_rate").maximum)
        rates.emplace_back(rounded(2 * rate));
      choice("lexical.learning_rate", std::move(rates));
      break;
    }
    case LexicalType::naive_bayes:
      factor("lexical.smoothing", 4);
      break;
    case LexicalType::neighbors: {
      const std::uint32_t most = given.lexical.neighbors;
      choice("lexical.neighbors", {std::max(most / 3, 1U), most, most > 333333 ? most : 3 * most});
      break;
    }
  }
  if (!dims.empty()) {
    std::vector<Json> sorted(dims.begin(), dims.end());
    std::sort(sorted.begin(), sorted.end());
    choice("encoder.dim", std::move(sorted));
  }
}

Experiment SearchSpace::settings_of(std::uint32_t number, const Experiment& best_so_far) const {
  if (number <= 1) return given_;
  const bool around_best = number % 2 == 1;
  Random random(given_.model.seed, kTrialStream, number);
  Experiment settings = around_best ? best_so_far : given_;
  const double reach = around_best ? kReachAroundBest : 1;
  // Half of the keys, so that a trial is not lost by a single bad value among many; but never none.
  const std::uint64_t always = random.below(keys_.size());
  for (std::size_t i = 0; i < keys_.size(); ++i) {
    const bool changed = random.below(2) == 0 || i == always;
    const Json value = draw(keys_[i], random, given_, settings, reach);
    if (changed) experiment_option(keys_[i].path).set(settings, value);
  }
  if (!settings.features.any()) settings.features_min_count = given_.features_min_count;
  return settings;
}

std::string SearchSpace::describe(const Experiment& settings) const {
  std::string text;
  for (const Searched& key : keys_) {
    const Option& option = experiment_option(key.path);
    const Json value = option.get(settings);
    if (value == option.get(given_)) continue;
    text += (text.empty() ? "" : ", ") + key.path + " " + value.dump();
  }
  return text.empty() ? "as given" : text;
}

bool is_clearly_worse(const LearningCurve& trial, const LearningCurve& best, Metric metric) {
  if (trial.empty() || trial.size() > best.size()) return false;
  const std::vector<double>& ours = trial.back();
  const std::vector<double>& theirs = best[trial.size() - 1];
  if (ours.size() < kFewestEpochs || theirs.empty()) return false;
  return is_better(theirs[std::min(ours.size() / 2, theirs.size()) - 1], ours.back(), metric);
}

double Finalist::mean() const {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

std::size_t best_of(const std::vector<Finalist>& finalists, Metric metric) {
  std::size_t best = 0;
  for (std::size_t i = 1; i < finalists.size(); ++i) {
    if (finalists[i].values.size() < finalists[0].values.size()) continue;
    if (is_better(finalists[i].mean(), finalists[best].mean(), metric)) best = i;
  }
  return best;
}

}  // namespace tagspace
