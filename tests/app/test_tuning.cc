#include <algorithm>
#include <gtest/gtest.h>
#include <set>
#include <string>
#include <vector>

#include "app/tuning.h"

namespace tagspace {
namespace {

using Json = nlohmann::ordered_json;

Experiment experiment(const Json& sections = Json::object()) {
  Json document = {
      {"name", "x"}, {"data", {{"train", "a"}, {"valid", "b"}}}, {"tokenizer", {{"type", "word"}}}};
  document.merge_patch(sections);
  return experiment_from_json(document, "x.json");
}

std::vector<std::string> paths(const SearchSpace& space) {
  std::vector<std::string> all;
  for (const Searched& key : space.keys()) all.push_back(key.path);
  return all;
}

bool has(const SearchSpace& space, const std::string& path) {
  const auto all = paths(space);
  return std::find(all.begin(), all.end(), path) != all.end();
}

// The keys in which the two differ.
std::set<std::string> differences(const Experiment& one, const Experiment& other) {
  std::set<std::string> all;
  for (const Option& option : experiment_options()) {
    if (option.get(one) != option.get(other)) all.insert(option.path);
  }
  return all;
}

TEST(Tuning, OnlyKeysThatMeanSomething) {
  const SearchSpace cnn(experiment(), {});
  EXPECT_TRUE(has(cnn, "encoder.dropout"));
  EXPECT_TRUE(has(cnn, "optimizer.encoder_learning_rate"));
  EXPECT_TRUE(has(cnn, "loss.margin"));
  EXPECT_TRUE(has(cnn, "tokenizer.min_count"));
  EXPECT_TRUE(has(cnn, "optimizer.schedule"));
  EXPECT_FALSE(has(cnn, "encoder.dim"));
  for (const char* of_bag : {"encoder.pairs", "encoder.beginnings", "encoder.min_count", "encoder.pooling"})
    EXPECT_FALSE(has(cnn, of_bag)) << of_bag;
  const SearchSpace bag(experiment({{"encoder", {{"type", "bag"}}}}), {16, 32});
  EXPECT_TRUE(has(bag, "encoder.dropout"));
  for (const char* of_bag : {"encoder.pairs", "encoder.beginnings", "encoder.min_count", "encoder.pooling"})
    EXPECT_TRUE(has(bag, of_bag)) << of_bag;
  EXPECT_FALSE(has(bag, "optimizer.encoder_learning_rate"));
  EXPECT_TRUE(has(bag, "encoder.dim"));
  EXPECT_FALSE(has(SearchSpace(experiment({{"loss", {{"type", "bpr"}}}}), {}), "loss.margin"));
  const std::vector<std::string> of_words = {"lexical.learning_rate", "lexical.smoothing",
                                             "lexical.neighbors"};
  const std::vector<std::string> types = {"linear", "naive_bayes", "neighbors"};
  for (std::size_t i = 0; i < types.size(); ++i) {
    const SearchSpace space(experiment({{"lexical", {{"type", types[i]}}}}), {});
    for (std::size_t j = 0; j < of_words.size(); ++j) EXPECT_EQ(has(space, of_words[j]), i == j) << types[i];
    EXPECT_FALSE(has(bag, of_words[i]));
  }
  EXPECT_FALSE(
      has(SearchSpace(experiment({{"tokenizer", {{"type", "sentencepiece"}}}}), {}), "tokenizer.min_count"));
}

// Whatever the experiment, also at the ends of its ranges: the first trial is what was given, the others
// change something of what is searched and nothing else, are valid, and come back from their file as they
// are.
TEST(Tuning, TrialsAreValidExperiments) {
  const std::vector<Json> all = {
      Json::object(),
      {{"encoder", {{"type", "bag"}, {"word_dropout", 0.999}, {"initial_scale", 100}}},
       {"optimizer", {{"learning_rate", 1000}, {"max_norm", 1.1}}},
       {"loss", {{"margin", 1000}}},
       {"training", {{"batch_size", 65536U}}},
       {"tokenizer", {{"min_count", 7U}}},
       {"lexical", {{"type", "neighbors"}, {"neighbors", 1000000U}}}},
      {{"encoder", {{"type", "bag"}, {"pairs", true}, {"pooling", "sqrtn"}, {"min_count", 3U}}},
       {"optimizer", {{"schedule", "linear"}}},
       {"lexical", {{"type", "linear"}, {"learning_rate", 1000}}}},
      {{"encoder", {{"type", "bag"}}}, {"lexical", {{"type", "naive_bayes"}, {"smoothing", 1e9}}}},
      {{"encoder", {{"initial_scale", 1e-30}, {"dropout", 0.99}}},
       {"optimizer", {{"learning_rate", 1e-30}, {"max_norm", 1000000}}},
       {"loss", {{"margin", 0}}},
       {"training", {{"batch_size", 1U}}}}};
  for (const Json& sections : all) {
    const Experiment given = experiment(sections);
    const SearchSpace space(given, {8, 16});
    EXPECT_EQ(differences(space.settings_of(1, given), given), std::set<std::string>{});
    EXPECT_EQ(space.describe(given), "as given");
    const auto searched = paths(space);
    std::set<std::string> changed;
    Experiment best = given;
    for (std::uint32_t trial = 2; trial < 400; ++trial) {
      const Experiment settings = space.settings_of(trial, best);
      const Json document = experiment_to_json(settings);
      EXPECT_EQ(experiment_to_json(experiment_from_json(document, "x.json")), document);
      for (const std::string& path : differences(settings, given)) {
        EXPECT_NE(std::find(searched.begin(), searched.end(), path), searched.end()) << path;
        EXPECT_NE(space.describe(settings).find(path), std::string::npos);
        changed.insert(path);
      }
      best = settings;
    }
    EXPECT_EQ(changed.size(), searched.size()) << Json(changed).dump();
  }
}

// A trial that differs in a key without a meaning would train what another has trained already.
TEST(Tuning, FeaturesOfNoKindAreNotCounted) {
  const Experiment given = experiment({{"encoder", {{"type", "bag"}, {"min_count", 2U}}}});
  const SearchSpace space(given, {});
  Experiment best = given;
  std::set<std::uint32_t> counts;
  int without = 0;
  for (std::uint32_t trial = 2; trial < 400; ++trial) {
    const Experiment settings = space.settings_of(trial, best);
    if (settings.features.any()) {
      counts.insert(settings.features_min_count);
      best = settings;
    } else {
      EXPECT_EQ(settings.features_min_count, 2U);
      ++without;
    }
  }
  EXPECT_EQ(counts, (std::set<std::uint32_t>{1, 2, 5}));
  EXPECT_GT(without, 50);
}

TEST(Tuning, RecentKeepsWhatWasAskedForLast) {
  Recent<int, std::string> recent(2);
  std::vector<int> made;
  const auto get = [&](int key) {
    return recent.get(key, [&] {
      made.push_back(key);
      return std::to_string(key);
    });
  };
  for (const int key : {1, 2, 1, 3, 1, 2}) EXPECT_EQ(get(key), std::to_string(key));
  EXPECT_EQ(made, (std::vector<int>{1, 2, 3, 2}));  // 3 took the place of 2, not of 1
  EXPECT_TRUE(recent.has(1));
  EXPECT_FALSE(recent.has(3));
}

TEST(Tuning, TheSeedAndTheNumberDecide) {
  const Experiment given = experiment();
  const SearchSpace space(given, {});
  const SearchSpace same(experiment(), {});
  const SearchSpace other(experiment({{"seed", 2U}}), {});
  std::set<std::string> seen;
  int equal_to_other = 0;
  for (std::uint32_t trial = 2; trial < 30; ++trial) {
    const std::string text = space.describe(space.settings_of(trial, given));
    EXPECT_EQ(same.describe(same.settings_of(trial, given)), text);
    equal_to_other += text == other.describe(other.settings_of(trial, given));
    seen.insert(text);
  }
  EXPECT_EQ(seen.size(), 28U);
  EXPECT_LT(equal_to_other, 3);
}

// Even trials start from what was given whatever was best, and odd ones stay near the best.
TEST(Tuning, EveryOtherTrialLooksAroundTheBest) {
  const Experiment given = experiment();
  const Experiment best = experiment(
      {{"optimizer", {{"learning_rate", 0.1}, {"max_norm", 1.2}}}, {"encoder", {{"word_dropout", 0.5}}}});
  const SearchSpace space(given, {});
  for (std::uint32_t trial = 2; trial < 200; trial += 2) {
    EXPECT_EQ(differences(space.settings_of(trial, best), space.settings_of(trial, given)),
              std::set<std::string>{});
  }
  for (std::uint32_t trial = 3; trial < 200; trial += 2) {
    const Experiment settings = space.settings_of(trial, best);
    EXPECT_GT(settings.model.learning_rate, 0.05);
    EXPECT_LT(settings.model.learning_rate, 0.2);
    EXPECT_GT(settings.model.word_dropout, 0.35);
    EXPECT_LT(settings.model.word_dropout, 0.65);
    EXPECT_GE(settings.model.max_norm, 1.0F);
    EXPECT_LE(settings.model.max_norm, 1.5F);
  }
}

TEST(Tuning, ClearlyWorse) {
  const auto metric = Metric::mrr;
  const LearningCurve best = {{0.1, 0.2, 0.3, 0.4, 0.5, 0.6}};
  EXPECT_FALSE(is_clearly_worse({}, best, metric));
  EXPECT_FALSE(is_clearly_worse({{0.0, 0.0, 0.0}}, best, metric));       // too early to tell
  EXPECT_FALSE(is_clearly_worse({{0.0, 0.0, 0.1, 0.2}}, best, metric));  // half as fast
  EXPECT_TRUE(is_clearly_worse({{0.0, 0.0, 0.1, 0.19}}, best, metric));  // slower than that
  EXPECT_FALSE(is_clearly_worse({{0.1, 0.2, 0.3, 0.4}}, {}, metric));    // nothing to compare with
  EXPECT_TRUE(is_clearly_worse({std::vector<double>(20, 0.59)}, best, metric));
  EXPECT_FALSE(is_clearly_worse({std::vector<double>(20, 0.61)}, best, metric));
  // Phase by phase.
  const LearningCurve two = {{0.5, 0.6}, {0.6, 0.7, 0.8, 0.9}};
  EXPECT_FALSE(is_clearly_worse({{0.1, 0.1}, {0.5, 0.6, 0.7, 0.7}}, two, metric));
  EXPECT_TRUE(is_clearly_worse({{0.5, 0.6}, {0.5, 0.6, 0.6, 0.6}}, two, metric));
  // Of the mean rank, less is better.
  EXPECT_TRUE(is_clearly_worse({{90, 80, 70, 60}}, {{50, 40, 30, 20}}, Metric::mean_rank));
  EXPECT_FALSE(is_clearly_worse({{90, 80, 50, 39}}, {{50, 40, 30, 20}}, Metric::mean_rank));
}

TEST(Tuning, TheBestInTheMean) {
  const std::vector<Finalist> lucky = {{7, {0.9, 0.1}}, {4, {0.8, 0.6}}, {1, {0.5, 0.5}}};
  EXPECT_EQ(best_of(lucky, Metric::mrr), 1U);
  EXPECT_EQ(best_of(lucky, Metric::mean_rank), 0U);
  EXPECT_EQ(best_of({{7, {0.5}}, {4, {0.5}}}, Metric::mrr), 0U);
  EXPECT_EQ(best_of({{7, {0.5, 0.5}}, {4, {0.9}}}, Metric::mrr), 0U);  // has not the same seeds
}

}  // namespace
}  // namespace tagspace
