#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <random>
#include <vector>

#include "app/calibration.h"
#include "app/reliability.h"
#include "base/error.h"

namespace tagspace {
namespace {

constexpr std::size_t kAnswers = 20;

std::vector<Ranked> random_answers(std::mt19937& random, double scale) {
  std::vector<double> scores;
  double score = scale * std::uniform_real_distribution(0.0, 8.0)(random);
  for (std::size_t i = 0; i < kAnswers; ++i) {
    scores.push_back(score);
    score -= scale * std::exponential_distribution(1.0)(random);
  }
  std::vector<Ranked> answers;
  for (std::size_t i = 0; i < kAnswers; ++i)
    answers.push_back({static_cast<std::uint32_t>(i), static_cast<float>(scores[i])});
  return answers;
}

// What an author does, by a formula of the test's own.
double truth(const std::vector<Ranked>& answers, std::size_t place, double scale) {
  double sum = 0;
  for (const Ranked& answer : answers) sum += std::exp(double{answer.score} / (2 * scale));
  const double share = std::exp(double{answers[place].score} / (2 * scale)) / sum;
  const double x = -1 + 0.8 * std::log(share) + 0.4 * answers[0].score / scale -
                   0.5 * std::log(static_cast<double>(place) + 1);
  return 1 / (1 + std::exp(-x));
}

JudgedAnswers judged_by_truth(std::mt19937& random, std::size_t posts, double scale) {
  JudgedAnswers judged;
  judged.per_post = kAnswers;
  for (std::size_t post = 0; post < posts; ++post) {
    const auto answers = random_answers(random, scale);
    for (std::size_t i = 0; i < kAnswers; ++i) {
      judged.scores.push_back(answers[i].score);
      judged.used.push_back(std::bernoulli_distribution(truth(answers, i, scale))(random) ? 1 : 0);
    }
  }
  return judged;
}

TEST(Calibration, KnownProbabilitiesAreFound) {
  // Whatever the scale of the scores: cosines are below 1, a mixture's may be tens.
  for (const double scale : {0.05, 1.0, 20.0}) {
    std::mt19937 random(1);
    kernels::CpuContext context(2);
    const Calibration calibration = Calibration::fit(judged_by_truth(random, 10000, scale), context);
    Reliability right;
    Reliability wrong;
    double difference = 0;
    constexpr std::size_t kPosts = 10000;
    for (std::size_t post = 0; post < kPosts; ++post) {
      const auto answers = random_answers(random, scale);
      const double p = truth(answers, 0, scale);
      const bool used = std::bernoulli_distribution(p)(random);
      const auto found = calibration.probabilities(answers);
      difference += std::abs(found[0] - p) / kPosts;
      right.add(found[0], used);
      wrong.add(std::sqrt(found[0]), used);
    }
    EXPECT_LT(difference, 0.015);
    const auto bins = right.bins();
    EXPECT_LT(expected_calibration_error(bins), 1.7 * calibration_error_by_chance(bins));
    EXPECT_GT(expected_calibration_error(wrong.bins()), 5 * expected_calibration_error(bins));
    EXPECT_GT(wrong.brier(), right.brier());
  }
}

TEST(Calibration, WhatIsNotLogisticIsFoundToo) {
  std::mt19937 random(7);
  const auto used = [&](const std::vector<Ranked>& answers, std::size_t place) {
    const double q = truth(answers, place, 1);
    const double x = 0.5 * std::log(q) - 2.5 * std::log(1 - q);
    return std::bernoulli_distribution(1 / (1 + std::exp(-x)))(random);
  };
  JudgedAnswers judged;
  judged.per_post = kAnswers;
  for (int post = 0; post < 10000; ++post) {
    const auto answers = random_answers(random, 1);
    for (std::size_t i = 0; i < kAnswers; ++i) {
      judged.scores.push_back(answers[i].score);
      judged.used.push_back(used(answers, i) ? 1 : 0);
    }
  }
  kernels::CpuContext context(1);
  const Calibration calibration = Calibration::fit(judged, context);
  Reliability reliability;
  for (int post = 0; post < 20000; ++post) {
    const auto answers = random_answers(random, 1);
    reliability.add(calibration.probabilities(answers)[0], used(answers, 0));
  }
  EXPECT_LT(expected_calibration_error(reliability.bins()), 0.012);
}

TEST(Calibration, FirstAnswersWeighMostAndAreRightOnAverage) {
  // Authors whom no map of the kind describes: at the likeliest one, weighted sums of what is foretold and of
  // what came true are equal all the same.
  std::mt19937 random(6);
  JudgedAnswers judged = judged_by_truth(random, 2000, 1);
  for (std::size_t i = 0; i < judged.used.size(); ++i) {
    const std::size_t place = i % kAnswers;
    judged.used[i] = place == 0 ? random() % 5 == 0 : place % 7 == 0 && random() % 2 == 0;
  }
  kernels::CpuContext context(1);
  const Calibration calibration = Calibration::fit(judged, context);
  double foretold = 0;
  double used = 0;
  for (std::size_t post = 0; post < judged.posts(); ++post) {
    std::vector<Ranked> answers;
    for (std::size_t i = 0; i < kAnswers; ++i)
      answers.push_back({static_cast<std::uint32_t>(i), judged.scores[post * kAnswers + i]});
    const auto probabilities = calibration.probabilities(answers);
    for (std::size_t i = 0; i < kAnswers; ++i) {
      foretold += probabilities[i] / static_cast<double>(i + 1);
      used += judged.used[post * kAnswers + i] / static_cast<double>(i + 1);
    }
  }
  EXPECT_NEAR(foretold / used, 1, 0.003);
}

TEST(Calibration, ThreadsChangeNothing) {
  std::mt19937 random(2);
  const JudgedAnswers judged = judged_by_truth(random, 3000, 1);
  const auto answers = random_answers(random, 1);
  kernels::CpuContext one(1);
  kernels::CpuContext many(5);
  EXPECT_EQ(Calibration::fit(judged, one).probabilities(answers),
            Calibration::fit(judged, many).probabilities(answers));
}

TEST(Calibration, ABetterAnswerIsNeverLessProbable) {
  // Even when fitted on authors who prefer the worse ones, or do as they please.
  for (const int kind : {0, 1, 2}) {
    std::mt19937 random(3);
    JudgedAnswers judged = judged_by_truth(random, 500, 1);
    for (std::size_t i = 0; i < judged.used.size(); ++i) {
      if (kind == 1) judged.used[i] = i % kAnswers > 12;
      if (kind == 2) judged.used[i] = random() % 2 == 0;
    }
    kernels::CpuContext context(1);
    const Calibration calibration = Calibration::fit(judged, context);
    for (int post = 0; post < 100; ++post) {
      const auto probabilities = calibration.probabilities(random_answers(random, 1));
      for (std::size_t i = 1; i < probabilities.size(); ++i)
        EXPECT_LE(probabilities[i], probabilities[i - 1]);
    }
  }
}

TEST(Calibration, AnswersThatTellAllOrNothing) {
  std::mt19937 random(4);
  for (const bool used : {false, true}) {
    JudgedAnswers judged = judged_by_truth(random, 100, 1);
    judged.used.assign(judged.used.size(), used ? 1 : 0);
    kernels::CpuContext context(1);
    for (const double p : Calibration::fit(judged, context).probabilities(random_answers(random, 1))) {
      EXPECT_GT(p, 0);
      EXPECT_LT(p, 1);
      EXPECT_LT(std::abs(p - (used ? 1 : 0)), 0.1);
    }
  }
  // Nothing but ties, which has no spread to measure scores in.
  JudgedAnswers ties = judged_by_truth(random, 100, 1);
  ties.scores.assign(ties.scores.size(), 0);
  kernels::CpuContext context(1);
  for (const double p : Calibration::fit(ties, context).probabilities(random_answers(random, 1)))
    EXPECT_TRUE(p > 0 && p < 1);
  ties.scores[7] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW((void)Calibration::fit(ties, context), Error);
}

TEST(Reliability, WorkedByHand) {
  Reliability four;  // a bin each
  four.add(0.9, true);
  four.add(0.1, false);
  four.add(0.6, false);
  four.add(0.4, true);
  const auto bins = four.bins();
  ASSERT_EQ(bins.size(), 4U);
  EXPECT_DOUBLE_EQ(bins[1].probability, 0.4);
  EXPECT_DOUBLE_EQ(bins[1].used, 1);
  EXPECT_DOUBLE_EQ(expected_calibration_error(bins), (0.1 + 0.6 + 0.6 + 0.1) / 4);
  EXPECT_DOUBLE_EQ(four.brier(), (0.01 + 0.36 + 0.36 + 0.01) / 4);

  Reliability pairs;  // two a bin, of which one came true; means 0.01, 0.06, ... 0.71
  for (int i = 14; i >= 0; --i) {
    pairs.add(i / 20.0 + 0.02, true);
    pairs.add(i / 20.0, false);
  }
  ASSERT_EQ(pairs.bins().size(), 15U);
  for (const ReliabilityBin& bin : pairs.bins()) {
    EXPECT_EQ(bin.answers, 2U);
    EXPECT_DOUBLE_EQ(bin.used, 0.5);
  }
  EXPECT_NEAR(expected_calibration_error(pairs.bins()), 3.20 / 15, 1e-12);

  EXPECT_EQ(expected_calibration_error(Reliability().bins()), 0);
}

TEST(Reliability, ChanceIsWhatTrueProbabilitiesShow) {
  std::mt19937 random(5);
  constexpr int kRepeats = 200;
  double error = 0;
  double chance = 0;
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    Reliability reliability;
    for (int i = 0; i < 1500; ++i) {
      const double p = std::uniform_real_distribution(0.02, 0.7)(random);
      reliability.add(p, std::bernoulli_distribution(p)(random));
    }
    error += expected_calibration_error(reliability.bins()) / kRepeats;
    chance += calibration_error_by_chance(reliability.bins()) / kRepeats;
  }
  EXPECT_NEAR(error, chance, 0.04 * chance);
}

}  // namespace
}  // namespace tagspace
