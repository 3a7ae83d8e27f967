#include "app/progress.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fmt/format.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <string_view>
#include <sys/ioctl.h>
#include <unistd.h>
#include <utility>

#include "base/error.h"

namespace tagspace {
namespace {

constexpr std::chrono::milliseconds kBarInterval{100};
constexpr std::chrono::seconds kLineInterval{10};
constexpr std::chrono::seconds kRecent{10};

std::size_t terminal_width() {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

bool is_terminal() {
  const char* kind = std::getenv("TERM");  // NOLINT(concurrency-mt-unsafe): before there are threads
  return ::isatty(STDERR_FILENO) == 1 && kind != nullptr && std::string_view(kind) != "dumb";
}

std::string epoch_name(const ProgressView& view) {
  return fmt::format("{} epoch {}/{}", view.phase, view.epoch, view.epochs);
}

double share_done(const ProgressView& view) {
  if (view.posts_total == 0) return 0;
  return std::min(1.0, static_cast<double>(view.posts_done) / static_cast<double>(view.posts_total));
}

std::string format_speed(double posts_per_second) {
  return format_count(static_cast<std::uint64_t>(std::max(0.0, posts_per_second))) + " posts/s";
}

}  // namespace

std::string format_seconds(double seconds) {
  if (!(seconds >= 0) || seconds > 1e9) return "?";
  const auto whole = static_cast<std::uint64_t>(std::llround(seconds));
  if (seconds < 9.95) return fmt::format("{:.1f} s", seconds);
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{}:{:02}", whole / 60, whole % 60);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

std::string format_count(std::uint64_t count) {
  std::string text = std::to_string(count);
  for (std::size_t at = text.size(); at > 3; at -= 3) text.insert(at - 3, 1, ',');
  return text;
}

std::string progress_text(const ProgressView& view) {
  return fmt::format("{}: {:.0f} %, {}, loss {:.4f}, violators {:.1f} %, mean tries {:.1f}, {} left",
                     epoch_name(view), 100 * share_done(view), format_speed(view.posts_per_second), view.loss,
                     100 * view.violator_share, view.mean_tries, format_seconds(view.seconds_left));
}

std::string progress_bar(const ProgressView& view, std::size_t width) {
  const std::string percent = fmt::format("{:3.0f} %", 100 * share_done(view));
  // The first are the last to go.
  const std::vector<std::string> facts = {
      epoch_name(view),
      percent,
      format_seconds(view.seconds_left) + " left",
      format_speed(view.posts_per_second),
      fmt::format("loss {:.4f}", view.loss),
      fmt::format("violators {:.0f} %", 100 * view.violator_share),
      fmt::format("tries {:.1f}", view.mean_tries),
  };
  constexpr std::size_t kGap = 2;
  constexpr std::size_t kShortestBar = 5;
  constexpr std::size_t kLongestBar = 30;
  std::size_t used = 0;
  std::size_t shown = 0;
  while (shown < facts.size()) {
    const std::size_t more = facts[shown].size() + (shown > 0 ? kGap : 0);
    if (used + more > width) break;
    used += more;
    ++shown;
  }
  if (shown == 0) return facts[0].substr(0, width);

  std::string bar;
  const std::size_t frame = kGap + 2;  // "  [" and "]"
  if (used + frame + kShortestBar <= width) {
    const std::size_t length = std::min(kLongestBar, width - used - frame);
    const auto full = static_cast<std::size_t>(share_done(view) * static_cast<double>(length));
    bar = fmt::format("  [{}{}]", std::string(full, '#'), std::string(length - full, '.'));
  }
  std::string line = facts[0] + bar;
  for (std::size_t i = 1; i < shown; ++i) line += "  " + facts[i];
  return line;
}

std::string format_metrics(const RankingMetrics& averages) {
  return fmt::format("P@1 {:.2f} %, R@10 {:.2f} %, mean rank {:.1f}, MRR {:.4f}",
                     100 * averages.precision_at_1, 100 * averages.recall_at_10, averages.mean_rank,
                     averages.mrr);
}

void RecentStatistics::add(const StepStatistics& step, Clock::time_point now) {
  if (seconds_.empty() || now - seconds_.back().begin >= std::chrono::seconds(1)) {
    seconds_.push_back({seconds_.empty() ? start_ : now, {}});
  }
  seconds_.back().sums += step;
  while (seconds_.size() > 1 && now - seconds_.front().begin > kRecent) seconds_.pop_front();
}

void RecentStatistics::describe(ProgressView& view, Clock::time_point now) const {
  if (seconds_.empty()) return;
  StepStatistics sums;
  for (const Second& second : seconds_) sums += second.sums;
  const double elapsed = std::chrono::duration<double>(now - seconds_.front().begin).count();
  const auto pairs = static_cast<double>(std::max<std::uint64_t>(sums.pairs, 1));
  view.posts_per_second = elapsed > 0 ? static_cast<double>(sums.posts) / elapsed : 0;
  view.loss = sums.loss / pairs;
  view.violator_share = static_cast<double>(sums.violators) / pairs;
  view.mean_tries = static_cast<double>(sums.tries) / pairs;
}

Reporter::Reporter()
    : terminal_(is_terminal()),
      last_progress_(Clock::now()),
      screen_(std::make_shared<spdlog::logger>("screen", std::make_shared<spdlog::sinks::stderr_sink_st>())) {
  screen_->set_pattern("%H:%M:%S %v");
  screen_->flush_on(spdlog::level::trace);
  // A screen that cannot be written to (closed by its reader) is no reason to stop training.
  screen_->set_error_handler([](const std::string&) {});
}

Reporter::Reporter(std::string bar_title) : Reporter() {
  bar_only_ = true;
  bar_title_ = std::move(bar_title);
}

Reporter::~Reporter() {
  if (bar_shown_) std::fputs("\r\x1b[K", stderr);
}

void Reporter::line(const std::string& text) {
  if (bar_only_) return;
  clear_bar();
  screen_->info("{}", text);
  if (file_) {
    file_->info("{}", text);
  } else {
    before_file_.push_back(text);
  }
}

void Reporter::open_log(const std::filesystem::path& path) {
  try {
    auto sink = std::make_shared<spdlog::sinks::basic_file_sink_st>(path.string());
    file_ = std::make_shared<spdlog::logger>("file", std::move(sink));
  } catch (const spdlog::spdlog_ex& error) {
    throw Error("cannot write '" + path.string() + "': " + error.what());
  }
  file_->set_pattern("%Y-%m-%d %H:%M:%S %v");
  file_->flush_on(spdlog::level::trace);
  file_->set_error_handler(
      [](const std::string& message) { throw Error("cannot write the log: " + message); });
  for (const std::string& text : before_file_) file_->info("{}", text);
  before_file_.clear();
}

void Reporter::log_only(const std::string& text) noexcept {
  try {
    clear_bar();
    if (file_) file_->info("{}", text);
  } catch (const std::exception&) {
    // The person reads the error on the screen; that it is missing from a log on a full disk is bearable.
    return;
  }
}

bool Reporter::wants_progress() const {
  const Clock::duration waited = Clock::now() - last_progress_;
  return terminal_ ? !bar_shown_ || waited >= kBarInterval : waited >= kLineInterval;
}

void Reporter::progress(const ProgressView& view) {
  last_progress_ = Clock::now();
  if (!terminal_) {
    line(progress_text(view));
    return;
  }
  ProgressView titled = view;
  if (!bar_title_.empty()) titled.phase = bar_title_ + " " + view.phase;
  // One column less than there are: a full line would wrap.
  std::fprintf(stderr, "\r%s\x1b[K", progress_bar(titled, terminal_width() - 1).c_str());
  std::fflush(stderr);
  bar_shown_ = true;
}

void Reporter::clear_bar() {
  if (!bar_shown_) return;
  std::fputs("\r\x1b[K", stderr);
  std::fflush(stderr);
  bar_shown_ = false;
}

}  // namespace tagspace
