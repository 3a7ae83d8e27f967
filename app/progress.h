// What training tells the person in front of it: lines, and on a terminal a progress bar below them.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "model/inference/ranking.h"
#include "model/model.h"

namespace spdlog {
class logger;
}

namespace tagspace {

// Where training stands.
struct ProgressView {
  std::string phase;              // "bag" or "cnn"
  std::uint32_t epoch = 0;        // from 1, within the phase
  std::uint32_t epochs = 0;       // of the phase
  std::uint64_t posts_done = 0;   // of the epoch
  std::uint64_t posts_total = 0;  // of the epoch
  double posts_per_second = 0;
  double loss = 0;            // a post, mean over the last seconds
  double violator_share = 0;  // of the posts
  double mean_tries = 0;      // a post
  double seconds_left = 0;    // of all epochs, if none is cut
};

// "0.7 s", "12 s", "3:05", "2:03:05".
[[nodiscard]] std::string format_seconds(double seconds);
// "12,345,678".
[[nodiscard]] std::string format_count(std::uint64_t count);

// One line of exactly the view's facts, for logs.
[[nodiscard]] std::string progress_text(const ProgressView& view);
// The same with a bar, at most `width` columns: the bar and then the least telling facts give way.
[[nodiscard]] std::string progress_bar(const ProgressView& view, std::size_t width);

// "P@1 13.35 %, R@10 24.44 %, mean rank 498.1, MRR 0.1713" of averages.
[[nodiscard]] std::string format_metrics(const RankingMetrics& averages);

// Speed and statistics of the last seconds, so that what is shown is not an average over the whole past.
class RecentStatistics {
 public:
  using Clock = std::chrono::steady_clock;
  explicit RecentStatistics(Clock::time_point now) : start_(now) {}
  void add(const StepStatistics& step, Clock::time_point now);
  // Writes speed, loss, violators and tries of the last ten seconds into the view.
  void describe(ProgressView& view, Clock::time_point now) const;

 private:
  struct Second {
    Clock::time_point begin;
    StepStatistics sums;
  };
  Clock::time_point start_;
  std::deque<Second> seconds_;
};

// Lines go to stderr and, once there is one, to the log file. The bar is drawn as soon as there is
// something to show, after each line again, and then at most ten times a second; without a terminal a line is
// written now and then instead.
class Reporter {
 public:
  Reporter();
  // One that draws the bar alone, on a terminal, with these words ahead, and writes no lines.
  explicit Reporter(std::string bar_title);
  ~Reporter();
  Reporter(const Reporter&) = delete;
  Reporter& operator=(const Reporter&) = delete;
  Reporter(Reporter&&) = delete;
  Reporter& operator=(Reporter&&) = delete;

  void line(const std::string& text);
  // From now on lines go to this file too, and those so far first. Error if it cannot be written, now or
  // later.
  void open_log(const std::filesystem::path& path);
  // A line for the log file alone, such as the error that the program is about to print; never throws.
  void log_only(const std::string& text) noexcept;

  // Whether it is time to draw again: ask before working out a view.
  [[nodiscard]] bool wants_progress() const;
  void progress(const ProgressView& view);
  void clear_bar();

 private:
  using Clock = std::chrono::steady_clock;
  bool terminal_ = false;
  bool bar_shown_ = false;
  bool bar_only_ = false;
  std::string bar_title_;
  Clock::time_point last_progress_;
  std::shared_ptr<spdlog::logger> screen_;
  std::shared_ptr<spdlog::logger> file_;
  std::vector<std::string> before_file_;
};

}  // namespace tagspace
