#include <chrono>
#include <gtest/gtest.h>
#include <string>

#include "app/progress.h"

namespace tagspace {
namespace {

ProgressView example() {
  ProgressView view;
  view.phase = "cnn";
  view.epoch = 3;
  view.epochs = 20;
  view.posts_done = 420;
  view.posts_total = 1000;
  view.posts_per_second = 31200.4;
  view.loss = 0.51234;
  view.violator_share = 0.831;
  view.mean_tries = 12.34;
  view.seconds_left = 130;
  return view;
}

TEST(Progress, Numbers) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_count(1000), "1,000");
  EXPECT_EQ(format_count(12345678), "12,345,678");
  EXPECT_EQ(format_seconds(0), "0.0 s");
  EXPECT_EQ(format_seconds(0.72), "0.7 s");
  EXPECT_EQ(format_seconds(9.96), "10 s");
  EXPECT_EQ(format_seconds(59.4), "59 s");
  EXPECT_EQ(format_seconds(59.6), "1:00");
  EXPECT_EQ(format_seconds(185), "3:05");
  EXPECT_EQ(format_seconds(7385), "2:03:05");
  EXPECT_EQ(format_seconds(-1), "?");
  EXPECT_EQ(format_seconds(1e300), "?");
}

TEST(Progress, TextSaysEverything) {
  EXPECT_EQ(
      progress_text(example()),
      "cnn epoch 3/20: 42 %, 31,200 posts/s, loss 0.5123, violators 83.1 %, mean tries 12.3, 2:10 left");
}

TEST(Progress, BarFitsEveryWidth) {
  const ProgressView view = example();
  for (std::size_t width = 0; width <= 200; ++width) EXPECT_LE(progress_bar(view, width).size(), width);
  EXPECT_EQ(progress_bar(view, 200),
            "cnn epoch 3/20  [############..................]   42 %  2:10 left  31,200 posts/s  loss 0.5123 "
            " violators 83 %  "
            "tries 12.3");
  // The bar gives way before the facts do.
  EXPECT_EQ(progress_bar(view, 85),
            "cnn epoch 3/20   42 %  2:10 left  31,200 posts/s  loss 0.5123  violators 83 %");
  EXPECT_EQ(progress_bar(view, 14), "cnn epoch 3/20");
}

TEST(Progress, BarStandsWhatNeverHappens) {
  ProgressView view = example();
  view.posts_total = 0;
  EXPECT_NE(progress_bar(view, 120).find("  0 %"), std::string::npos);
  view.posts_total = 10;
  view.posts_done = 20;
  EXPECT_NE(progress_bar(view, 120).find("100 %"), std::string::npos);
  view.posts_per_second = -1;
  EXPECT_NE(progress_bar(view, 120).find(" 0 posts/s"), std::string::npos);
}

TEST(Progress, RecentStatisticsForgetThePast) {
  const auto start = RecentStatistics::Clock::time_point();
  const auto at = [&](int seconds) { return start + std::chrono::seconds(seconds); };
  RecentStatistics recent(start);
  ProgressView view;
  recent.describe(view, at(1));
  EXPECT_EQ(view.posts_per_second, 0);
  // For a minute ten posts a second with loss 1, then for a minute twenty with loss 3.
  for (int second = 1; second <= 60; ++second)
    recent.add({.posts = 10, .pairs = 10, .violators = 10, .tries = 20, .loss = 10}, at(second));
  recent.describe(view, at(60));
  EXPECT_NEAR(view.posts_per_second, 10, 1.5);
  EXPECT_EQ(view.loss, 1);
  EXPECT_EQ(view.violator_share, 1);
  EXPECT_EQ(view.mean_tries, 2);
  for (int second = 61; second <= 120; ++second)
    recent.add({.posts = 20, .pairs = 20, .violators = 5, .tries = 20, .loss = 60}, at(second));
  recent.describe(view, at(120));
  EXPECT_NEAR(view.posts_per_second, 20, 3);
  EXPECT_EQ(view.loss, 3);
  EXPECT_EQ(view.violator_share, 0.25);
  EXPECT_EQ(view.mean_tries, 1);
}

TEST(Progress, Metrics) {
  RankingMetrics averages;
  averages.precision_at_1 = 0.1335;
  averages.recall_at_10 = 0.24444;
  averages.mean_rank = 498.06;
  averages.mrr = 0.17128;
  EXPECT_EQ(format_metrics(averages), "P@1 13.35 %, R@10 24.44 %, mean rank 498.1, MRR 0.1713");
}

}  // namespace
}  // namespace tagspace
