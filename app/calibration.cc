#include "app/calibration.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
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
constexpr std::size_t kCoefficients = 4;  // intercept, share, best, log_rank
using Coefficients = std::array<double, kCoefficients>;
enum Index : std::size_t { kIntercept, kShare, kBest, kLogRank };

double logit(double p) { return std::log(p / (1 - p)); }
// Both without an overflow, whatever x.
double logistic(double x) {
  const double e = std::exp(-std::abs(x));
  return x >= 0 ? 1 / (1 + e) : e / (1 + e);
}
double log_one_plus_exp(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

// The logarithm of the sum of exp((score - first) / temperature). `score_at(i)`: of the answers, best first.
template <typename ScoreAt>
double log_sum(const ScoreAt& score_at, std::size_t count, double temperature) {
  double sum = 0;
  for (std::size_t i = 0; i < count; ++i) sum += std::exp((score_at(i) - score_at(0)) / temperature);
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

// The logistic regression at one temperature, by Newton's method.
class Regression {
 public:
  // `unit`: scores are measured in it, so that coefficients are of the order of 1 whatever the loss was.
  Regression(const JudgedAnswers& answers, double temperature, double unit, kernels::CpuContext& context)
      : answers_(answers), temperature_(temperature), unit_(unit), context_(context) {
    for (std::size_t r = 0; r < answers.per_post; ++r) log_ranks_[r] = std::log(static_cast<double>(r + 1));
    double used = 0;
    double all = 0;
    for (std::size_t i = 0; i < answers.used.size(); ++i) {
      const double weight = 1 / static_cast<double>(i % answers.per_post + 1);
      used += weight * answers.used[i];
      all += weight;
    }
    // Never 0 or 1: there may have been none.
    offset_ = logit((used + 0.5) / (all + 1));
  }

  [[nodiscard]] Fitted fit() const {
    std::array<bool, kCoefficients> free{true, true, true, true};
    for (;;) {
      const Fitted fitted = fit(free);
      // What would make a better answer less probable is left out.
      const bool share_is_wrong = fitted.coefficients[kShare] < 0;
      const bool rank_is_wrong = fitted.coefficients[kLogRank] > 0;
      if (!share_is_wrong && !rank_is_wrong) {
        Fitted result = fitted;
        result.coefficients[kIntercept] += offset_;
        result.coefficients[kBest] /= unit_;
        return result;
      }
      if (share_is_wrong) free[kShare] = false;
      if (rank_is_wrong) free[kLogRank] = false;
    }
  }

 private:
  [[nodiscard]] Fitted fit(const std::array<bool, kCoefficients>& free) const {
    constexpr int kSteps = 50;
    constexpr double kEnough = 1e-10;  // of the loss
    Fitted now;
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
        for (std::size_t i = 0; i < kCoefficients; ++i)
          next[i] = now.coefficients[i] - length * direction[i];
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
      for (std::size_t post = task * kPostsPerTask; post < end; ++post) add_post(post, at, of_tasks[task]);
    });
    // In one order, so that the sums do not depend on the number of threads.
    Sums all;
    for (const Sums& of_task : of_tasks) all += of_task;
    // A weak pull towards zero, which keeps the coefficients finite where answers tell all or nothing.
    for (std::size_t i = 0; i < kCoefficients; ++i) {
      all.loss += at[i] * at[i] / 2;
      all.gradient[i] += at[i];
      all.curvature[i][i] += 1;
    }
    return all;
  }

  void add_post(std::size_t post, const Coefficients& at, Sums& sums) const {
    const float* scores = answers_.scores.data() + post * answers_.per_post;
    const std::uint8_t* used = answers_.used.data() + post * answers_.per_post;
    const auto score_at = [&](std::size_t i) { return double{scores[i]}; };
    const double all = log_sum(score_at, answers_.per_post, temperature_);
    for (std::size_t i = 0; i < answers_.per_post; ++i) {
      const Coefficients features = {1, (score_at(i) - score_at(0)) / temperature_ - all, score_at(0) / unit_,
                                     log_ranks_[i]};
      double x = offset_;
      for (std::size_t j = 0; j < kCoefficients; ++j) x += at[j] * features[j];
      const double p = logistic(x);
      const double weight = 1 / static_cast<double>(i + 1);
      sums.loss += weight * (log_one_plus_exp(x) - used[i] * x);
      for (std::size_t j = 0; j < kCoefficients; ++j) {
        sums.gradient[j] += weight * (p - used[i]) * features[j];
        for (std::size_t k = 0; k < kCoefficients; ++k)
          sums.curvature[j][k] += weight * p * (1 - p) * features[j] * features[k];
      }
    }
  }

  const JudgedAnswers& answers_;
  double temperature_;
  double unit_;
  kernels::CpuContext& context_;
  std::array<double, Calibration::kAnswers> log_ranks_{};
  double offset_ = 0;
};

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
    throw Error("the scores of the validation posts are not all finite numbers, so they give no probabilities");
  }
  const double spread = mean_spread(answers);
  std::optional<Fitted> best;
  Calibration calibration;
  for (const double in_spreads : {0.25, 0.5, 1.0, 2.0, 4.0}) {
    const double temperature = in_spreads * spread;
    const Fitted fitted = Regression(answers, temperature, spread, context).fit();
    if (best && fitted.loss >= best->loss) continue;
    best = fitted;
    calibration.temperature_ = temperature;
  }
  calibration.intercept_ = best->coefficients[kIntercept];
  calibration.share_ = best->coefficients[kShare];
  calibration.best_ = best->coefficients[kBest];
  calibration.log_rank_ = best->coefficients[kLogRank];
  return calibration;
}

void Calibration::save(const RunFolder& run) const {
  const Json json = {{"format", RunFolder::kFormat}, {"temperature", temperature_}, {"intercept", intercept_},
                     {"share", share_},              {"best", best_},               {"log_rank", log_rank_}};
  write_file(run.calibration(), json.dump(2) + "\n");
}

Calibration Calibration::load(const RunFolder& run) {
  const std::filesystem::path path = run.calibration();
  if (!path_exists(path)) {
    throw Error("the run '" + run.path().string() +
                "' has no calibration.json, so its scores cannot be turned into probabilities: it is written at "
                "the end of training; have it written with: tagspace train --resume --output " +
                shell_word(run.path().string()));
  }
  const Json json = parse_json(read_file(path), path.string());
  const auto number = [&](const char* key, double least, double most) {
    if (!json.is_object() || !json.contains(key) || !json[key].is_number() ||
        !(json[key].get<double>() >= least && json[key].get<double>() <= most)) {
      throw Error("'" + path.string() + "' is damaged: it has no \"" + key + "\" that is a number" +
                  (least == 0 ? " and not negative" : most == 0 ? " and not positive" : ""));
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
  return calibration;
}

std::vector<double> Calibration::probabilities(std::span<const Ranked> answers) const {
  const auto score_at = [&](std::size_t i) { return double{answers[i].score}; };
  const double all = log_sum(score_at, std::min(answers.size(), kAnswers), temperature_);
  std::vector<double> result;
  result.reserve(answers.size());
  for (std::size_t i = 0; i < answers.size(); ++i) {
    const double share = (score_at(i) - score_at(0)) / temperature_ - all;
    result.push_back(logistic(intercept_ + share_ * share + best_ * score_at(0) +
                              log_rank_ * std::log(static_cast<double>(i + 1))));
  }
  return result;
}

}  // namespace tagspace
