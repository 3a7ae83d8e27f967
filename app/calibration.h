// From scores to probabilities: how likely it is that a post's author used the hashtag that a model answers.
//
//   logit q = intercept + share * log softmax share + best * best score + log_rank * ln rank
//   logit p = shift + log_p * ln q - log_not_p * ln (1 - q)
//
// The softmax share is that of the answer's score, at a temperature, among the post's first kAnswers answers;
// the rank counts from 1. The second line bends what the first cannot (beta calibration, Kull et al. 2017).
// `share`, `log_p` and `log_not_p` are never negative and `log_rank` is never positive, so that of a post's
// answers a better one is never less probable.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "app/run_folder.h"
#include "model/inference/ranking.h"

namespace tagspace {

// Answers to posts of which it is known what their authors used: what a calibration is fitted on.
struct JudgedAnswers {
  std::size_t per_post = 0;        // answers of a post, the best ones, at most Calibration::kAnswers
  std::vector<float> scores;       // [posts, per_post] best first
  std::vector<std::uint8_t> used;  // [posts, per_post] 1: the author used it

  [[nodiscard]] std::size_t posts() const { return per_post == 0 ? 0 : scores.size() / per_post; }
};

class Calibration {
 public:
  // Of each post's answers so many are fitted on, and must be there to tell probabilities.
  static constexpr std::size_t kAnswers = 50;

  // The most likely first line, then the most likely second, an answer of rank r having the weight 1 / r:
  // else the first answers, which matter, would hardly count among the many after them. Does not depend on
  // the number of threads. Error if scores are not finite.
  [[nodiscard]] static Calibration fit(const JudgedAnswers& answers, kernels::CpuContext& context);

  // The run's calibration.json, written whole or not at all.
  void save(const RunFolder& run) const;
  // Error if the run has none yet, or, naming file and key, if it is damaged.
  [[nodiscard]] static Calibration load(const RunFolder& run);

  // Of a post's answers, best first, all or the first kAnswers at least: the probability of each.
  [[nodiscard]] std::vector<double> probabilities(std::span<const Ranked> answers) const;

 private:
  // logit q of each answer.
  [[nodiscard]] std::vector<double> straight_logits(std::span<const float> scores) const;

  double temperature_ = 1;
  double intercept_ = 0;
  double share_ = 0;
  double best_ = 0;
  double log_rank_ = 0;
  double shift_ = 0;
  double log_p_ = 1;
  double log_not_p_ = 1;
};

}  // namespace tagspace
