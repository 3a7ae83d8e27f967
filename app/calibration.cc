#include "app/calibration.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <string>

#include "app/experiment.h"
#include "app/output.h"
#include "base/error.h"
#include "base/files.h"

namespace tagspace {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kPostsPerTask = 256;
constexpr std::size_t kCoefficients = 4;
using Coefficients = std::array<double, kCoefficients>;
using Features = std::array<float, kCoefficients>;  // of an answer

double logit(double p) { return std::log(p / (1 - p)); }
// Both without an overflow, whatever x.
double logistic(double x) {
  const double e = std::exp(-std::abs(x));
  return x >= 0 ? 1 / (1 + e) : e / (1 + e);
}
double log_one_plus_exp(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

// The logarithm of the sum of exp((score - first) / temperature) over the answers that count.
double log_sum(std::span<const float> scores, double temperature) {
  double sum = 0;
  for (const float score : scores.first(std::min(scores.size(), Calibration::kAnswers)))
    sum += std::exp((double{score} - scores[0]) / temperature);
  return std::log(sum);
}

// Loss, gradient and curvature of the log likelihood at some coefficients; sums over posts.
struct Sums {
  double loss = 0;
  Coefficients gradient{};
  std::array<Coefficients, kCoefficients> curvature{};

  Sums& operator+=(const Sums& other) {
    loss += other.loss;
    for (std::size_t i = 0; i < kCoefficients; ++i) {
      gradient[i] += other.gradient[i];
      for (std::size_t j = 0; j < kCoefficients; ++j) curvature[i][j] += other.curvature[i][j];
    }
    return *this;
  }
};

// Gaussian elimination of a positive definite system.
Coefficients solve(std::array<Coefficients, kCoefficients> a, Coefficients b) {
  for (std::size_t i = 0; i < kCoefficients; ++i) {
    for (std::size_t row = i + 1; row < kCoefficients; ++row) {
      const double factor = a[row][i] / a[i][i];
      for (std::size_t j = i; j < kCoefficients; ++j) a[row][j] -= factor * a[i][j];
      b[row] -= factor * b[i];
    }
  }
  for (std::size_t i = kCoefficients; i-- > 0;) {
    for (std::size_t j = i + 1; j < kCoefficients; ++j) b[i] -= a[i][j] * b[j];
    b[i] /= a[i][i];
  }
  return b;
}

struct Fitted {
  Coefficients coefficients{};
  double loss = 0;
};

// A logistic regression on some features of answers, by Newton's method.
class Regression {
 public:
  // `features`: of all answers, [posts, per_post]. `usual`: what the coefficients are where nothing speaks
  // for others: a weak pull towards it keeps them finite where answers tell all or nothing. `signs`: 1 and -1
  // for those that must not be negative and not be positive, 0 for the others.
  Regression(const JudgedAnswers& answers, std::span<const Features> features, const Coefficients& usual,
             const std::array<int, kCoefficients>& signs, kernels::CpuContext& context)
      : answers_(answers), features_(features), usual_(usual), signs_(signs), context_(context) {}

  [[nodiscard]] Fitted fit() const {
    std::array<bool, kCoefficients> free{true, true, true, true};
    for (;;) {
      const Fitted fitted = fit(free);
      // What has the wrong sign is left out.
      bool right = true;
      for (std::size_t i = 0; i < kCoefficients; ++i) {
        if (signs_[i] * fitted.coefficients[i] >= 0) continue;
        right = false;
        free[i] = false;
      }
      if (right) return fitted;
    }
  }

 private:
  [[nodiscard]] Fitted fit(const std::array<bool, kCoefficients>& free) const {
    constexpr int kSteps = 50;
    constexpr double kEnough = 1e-10;  // of the loss
    Fitted now;
    for (std::size_t i = 0; i < kCoefficients; ++i) now.coefficients[i] = free[i] ? usual_[i] : 0;
    Sums sums = sums_at(now.coefficients);
    for (int step = 0; step < kSteps; ++step) {
      for (std::size_t i = 0; i < kCoefficients; ++i) {
        if (free[i]) continue;
        sums.gradient[i] = 0;
        for (std::size_t j = 0; j < kCoefficients; ++j) sums.curvature[i][j] = sums.curvature[j][i] = 0;
        sums.curvature[i][i] = 1;
      }
      const Coefficients direction = solve(sums.curvature, sums.gradient);
      const double before = sums.loss;
      Coefficients next{};
      Sums at_next;
      double length = 1;
      // Halved until it helps, as a whole step may lead too far.
      do {
        for (std::size_t i = 0; i < kCoefficients; ++i) next[i] = now.coefficients[i] - length * direction[i];
        at_next = sums_at(next);
        length /= 2;
      } while (!(at_next.loss <= before) && length > 1e-6);
      if (!(at_next.loss <= before)) break;
      now.coefficients = next;
      sums = at_next;
      if (before - sums.loss <= kEnough * before) break;
    }
    now.loss = sums.loss;
    return now;
  }

  [[nodiscard]] Sums sums_at(const Coefficients& at) const {
    const std::size_t tasks = (answers_.posts() + kPostsPerTask - 1) / kPostsPerTask;
    std::vector<Sums> of_tasks(tasks);
    context_.pool.run(tasks, [&](std::size_t task, std::size_t) {
      const std::size_t end = std::min(answers_.posts(), (task + 1) * kPostsPerTask);
      // The logarithms of the losses of a rank are one logarithm of a product, of factors of at most 2.
      static_assert(kPostsPerTask < std::numeric_limits<double>::max_exponent);
      std::array<double, Calibration::kAnswers> products{};
      products.fill(1);
      for (std::size_t post = task * kPostsPerTask; post < end; ++post) {
        for (std::size_t i = 0; i < answers_.per_post; ++i) {
          const std::size_t answer = post * answers_.per_post + i;
          add(features_[answer], answers_.used[answer] != 0, weight_of(i), at, of_tasks[task], products[i]);
        }
      }
      for (std::size_t i = 0; i < answers_.per_post; ++i)
        of_tasks[task].loss += weight_of(i) * std::log(products[i]);
    });
    // In one order, so that the sums do not depend on the number of threads.
    Sums all;
    for (const Sums& of_task : of_tasks) all += of_task;
    for (std::size_t i = 0; i < kCoefficients; ++i) {
      const double off = at[i] - usual_[i];
      all.loss += off * off / 2;
      all.gradient[i] += off;
      all.curvature[i][i] += 1;
    }
    return all;
  }

  static double weight_of(std::size_t rank) { return 1 / static_cast<double>(rank + 1); }

  // Leaves out of the loss the logarithm of a factor that it gives `product`.
  static void add(const Features& features, bool used, double weight, const Coefficients& at, Sums& sums,
                  double& product) {
    const double x = std::inner_product(at.begin(), at.end(), features.begin(), 0.0);
    // As in logistic() and log_one_plus_exp(), with one exponential for both.
    const double e = std::exp(-std::abs(x));
    const double p = (x >= 0 ? 1 : e) / (1 + e);
    const double error = p - (used ? 1 : 0);
    sums.loss += weight * std::max(used ? -x : x, 0.0);
    product *= 1 + e;
    for (std::size_t i = 0; i < kCoefficients; ++i) {
      sums.gradient[i] += weight * error * features[i];
      for (std::size_t j = 0; j < kCoefficients; ++j)
        sums.curvature[i][j] += weight * p * (1 - p) * features[i] * features[j];
    }
  }

  const JudgedAnswers& answers_;
  std::span<const Features> features_;  // [posts, per_post]
  Coefficients usual_;
  std::array<int, kCoefficients> signs_;
  kernels::CpuContext& context_;
};

// The weighted share of answers that were used; never 0 or 1, as there may have been none.
double share_used(const JudgedAnswers& answers) {
  double used = 0.5;
  double all = 1;
  for (std::size_t i = 0; i < answers.used.size(); ++i) {
    const double weight = 1 / static_cast<double>(i % answers.per_post + 1);
    used += weight * answers.used[i];
    all += weight;
  }
  return used / all;
}

// The standard deviation of a post's scores, averaged over posts; 1 if there is none.
double mean_spread(const JudgedAnswers& answers) {
  double sum = 0;
  const auto count = static_cast<double>(answers.per_post);
  for (std::size_t post = 0; post < answers.posts(); ++post) {
    const auto scores = std::span(answers.scores).subspan(post * answers.per_post, answers.per_post);
    double mean = 0;
    for (const float score : scores) mean += score / count;
    double squares = 0;
    for (const float score : scores) squares += (score - mean) * (score - mean) / count;
    sum += std::sqrt(squares);
  }
  return sum > 0 ? sum / static_cast<double>(answers.posts()) : 1;
}

}  // namespace

Calibration Calibration::fit(const JudgedAnswers& answers, kernels::CpuContext& context) {
  if (!std::all_of(answers.scores.begin(), answers.scores.end(), [](float x) { return std::isfinite(x); })) {
    throw Error(
        "the scores of the validation posts are not all finite numbers, so they give no probabilities");
  }
  const auto scores_of = [&](std::size_t post) {
    return std::span(answers.scores).subspan(post * answers.per_post, answers.per_post);
  };
  // Scores are measured in it, so that coefficients are of the order of 1 whatever the loss was.
  const double spread = mean_spread(answers);
  const Coefficients usual = {logit(share_used(answers)), 0, 0, 0};
  Calibration calibration;
  std::optional<double> least_loss;
  std::vector<Features> features(answers.scores.size());
  std::vector<float> log_ranks(answers.per_post);
  for (std::size_t i = 0; i < log_ranks.size(); ++i)
    log_ranks[i] = static_cast<float>(std::log(static_cast<double>(i + 1)));
  for (const double in_spreads : {0.25, 0.5, 1.0, 2.0, 4.0}) {
    const double temperature = in_spreads * spread;
    for (std::size_t post = 0; post < answers.posts(); ++post) {
      const std::span<const float> scores = scores_of(post);
      const double all = log_sum(scores, temperature);
      for (std::size_t i = 0; i < scores.size(); ++i) {
        features[post * answers.per_post + i] = {
            1, static_cast<float>((double{scores[i]} - scores[0]) / temperature - all),
            static_cast<float>(scores[0] / spread), log_ranks[i]};
      }
    }
    const Fitted fitted = Regression(answers, features, usual, {0, 1, 0, -1}, context).fit();
    if (least_loss && fitted.loss >= *least_loss) continue;
    least_loss = fitted.loss;
    calibration.temperature_ = temperature;
    calibration.intercept_ = fitted.coefficients[0];
    calibration.share_ = fitted.coefficients[1];
    calibration.best_ = fitted.coefficients[2] / spread;
    calibration.log_rank_ = fitted.coefficients[3];
  }
  for (std::size_t post = 0; post < answers.posts(); ++post) {
    const std::vector<double> logits = calibration.straight_logits(scores_of(post));
    for (std::size_t i = 0; i < logits.size(); ++i) {
      features[post * answers.per_post + i] = {1, static_cast<float>(-log_one_plus_exp(-logits[i])),
                                               static_cast<float>(log_one_plus_exp(logits[i])), 0};
    }
  }
  const Fitted bent = Regression(answers, features, {0, 1, 1, 0}, {0, 1, 1, 0}, context).fit();
  calibration.shift_ = bent.coefficients[0];
  calibration.log_p_ = bent.coefficients[1];
  calibration.log_not_p_ = bent.coefficients[2];
  return calibration;
}

void Calibration::save(const RunFolder& run) const {
  const Json json = {{"format", RunFolder::kFormat},
                     {"temperature", temperature_},
                     {"intercept", intercept_},
                     {"share", share_},
                     {"best", best_},
                     {"log_rank", log_rank_},
                     {"shift", shift_},
                     {"log_p", log_p_},
                     {"log_not_p", log_not_p_}};
  write_file(run.calibration(), json.dump(2) + "\n");
}

Calibration Calibration::load(const RunFolder& run) {
  const std::filesystem::path path = run.calibration();
  if (!path_exists(path)) {
    throw Error(
        "the run '" + run.path().string() +
        "' has no calibration.json, so its scores cannot be turned into probabilities: it is written at "
        "the end of training; have it written with: tagspace train --resume --output " +
        shell_word(run.path().string()));
  }
  const Json json = parse_json(read_file(path), path.string());
  const auto number = [&](const char* key, double least, double most) {
    if (!json.is_object() || !json.contains(key) || !json[key].is_number() ||
        !(json[key].get<double>() >= least && json[key].get<double>() <= most)) {
      throw Error("'" + path.string() + "' is damaged: it has no \"" + key + "\" that is a number" +
                  (least == 0  ? " and not negative"
                   : most == 0 ? " and not positive"
                               : ""));
    }
    return json[key].get<double>();
  };
  constexpr double kAny = std::numeric_limits<double>::max();
  Calibration calibration;
  calibration.temperature_ = number("temperature", std::numeric_limits<double>::min(), kAny);
  calibration.intercept_ = number("intercept", -kAny, kAny);
  calibration.share_ = number("share", 0, kAny);
  calibration.best_ = number("best", -kAny, kAny);
  calibration.log_rank_ = number("log_rank", -kAny, 0);
  calibration.shift_ = number("shift", -kAny, kAny);
  calibration.log_p_ = number("log_p", 0, kAny);
  calibration.log_not_p_ = number("log_not_p", 0, kAny);
  return calibration;
}

std::vector<double> Calibration::straight_logits(std::span<const float> scores) const {
  const double all = log_sum(scores, temperature_);
  std::vector<double> logits;
  logits.reserve(scores.size());
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const double share = (double{scores[i]} - scores[0]) / temperature_ - all;
    logits.push_back(intercept_ + share_ * share + best_ * scores[0] +
                     log_rank_ * std::log(static_cast<double>(i + 1)));
  }
  return logits;
}

std::vector<double> Calibration::probabilities(std::span<const Ranked> answers) const {
  std::vector<float> scores;
  scores.reserve(answers.size());
  for (const Ranked& answer : answers) scores.push_back(answer.score);
  std::vector<double> result = straight_logits(scores);
  for (double& x : result)
    x = logistic(shift_ - log_p_ * log_one_plus_exp(-x) + log_not_p_ * log_one_plus_exp(x));
  return result;
}

}  // namespace tagspace
