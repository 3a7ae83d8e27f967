// The search of `tagspace tune`: which settings are tried, and which trials are not worth going on with. What
// runs them is in commands/tune.cc.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "app/experiment.h"

namespace tagspace {

// One key and where its values are looked for.
struct Searched {
  enum class Kind {
    factor,  // the logarithm is uniform, within a factor of `most` of the value that was given
    share,   // uniform from 0 to `most`
    choice   // one of `choices`, which hold the value that was given
  };

  std::string path;
  Kind kind = Kind::factor;
  double most = 0;
  std::vector<nlohmann::ordered_json> choices;  // in order: neighbours are alike
};

// Random search. Which keys a trial changes and which random numbers it draws is decided by the experiment's
// seed and the number of the trial alone. Every other trial starts from the best settings found so far rather
// than from those given, and goes less far: where a long search has found something it looks around there.
class SearchSpace {
 public:
  // The keys that have a meaning in this experiment; encoder.dim only if there are `dims` to try.
  SearchSpace(const Experiment& given, const std::vector<std::uint32_t>& dims);

  [[nodiscard]] const std::vector<Searched>& keys() const { return keys_; }

  // The settings of trial `number`, from 1; the first is what was given. No key differs from it that has no
  // meaning in them: encoder.min_count stays as given where the bag takes up words alone.
  [[nodiscard]] Experiment settings_of(std::uint32_t number, const Experiment& best_so_far) const;

  // "optimizer.learning_rate 0.031, encoder.word_dropout 0.45": what differs from what was given; "as given".
  [[nodiscard]] std::string describe(const Experiment& settings) const;

 private:
  Experiment given_;
  std::vector<Searched> keys_;
};

// What was asked for last, a few of it: trials are mostly like the one given and the best so far in what is
// dear to make.
template <typename Key, typename Value>
class Recent {
 public:
  explicit Recent(std::size_t most) : most_(most) {}

  // The value of the key, which `make`() makes if it is not there. Stays until `most` others were asked for.
  template <typename Make>
  const Value& get(const Key& key, const Make& make) {
    const auto found =
        std::find_if(kept_.begin(), kept_.end(), [&](const auto& entry) { return entry.first == key; });
    if (found != kept_.end()) {
      kept_.splice(kept_.begin(), kept_, found);
    } else {
      make_room();
      kept_.emplace_front(key, make());
    }
    return kept_.front().second;
  }

  // For one more: before it takes its memory, however it is made.
  void make_room() {
    if (kept_.size() >= most_) kept_.pop_back();
  }

  [[nodiscard]] bool has(const Key& key) const {
    return std::any_of(kept_.begin(), kept_.end(), [&](const auto& entry) { return entry.first == key; });
  }

 private:
  std::size_t most_;
  std::list<std::pair<Key, Value>> kept_;  // the last first
};

// The best value of the metric so far, after each epoch of each phase of a training.
using LearningCurve = std::vector<std::vector<double>>;  // [phases][epochs]

// Whether a trial that has come so far is clearly worse than the best: after four epochs of the phase or
// more, it still does not reach what the best had after half as many. One that only learns more slowly, as
// with a lower learning rate, gets twice the time.
[[nodiscard]] bool is_clearly_worse(const LearningCurve& trial, const LearningCurve& best, Metric metric);

// Trainings with other seeds are to tell whether the best trial was only lucky. How the finalists stand:
struct Finalist {
  std::uint32_t trial = 0;
  std::vector<double> values;  // one a seed, the experiment's own first

  [[nodiscard]] double mean() const;
};
// The index of the best by the mean, among those with as many values as the first; it is the first in doubt.
[[nodiscard]] std::size_t best_of(const std::vector<Finalist>& finalists, Metric metric);

}  // namespace tagspace
