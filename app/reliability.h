// Whether probabilities are true: of the answers that were given 30 %, did 30 % come true?
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

namespace tagspace {

// Answers with the same rank among all when sorted by their probability.
struct ReliabilityBin {
  std::uint64_t answers = 0;
  double probability = 0;  // mean
  double used = 0;         // the share of answers that the author used
};

class Reliability {
 public:
  static constexpr std::size_t kBins = 15;

  void add(double probability, bool used) { answers_.push_back({probability, used}); }

  [[nodiscard]] std::uint64_t answers() const { return answers_.size(); }
  // kBins of equal numbers of answers, as near as can be, in the order of their probabilities; fewer if there
  // are fewer answers. Equal probabilities in the order in which they were added.
  [[nodiscard]] std::vector<ReliabilityBin> bins() const;
  // The mean of (probability - used)^2 (Brier 1950).
  [[nodiscard]] double brier() const;
  [[nodiscard]] nlohmann::ordered_json to_json() const;

 private:
  struct Answer {
    double probability;
    bool used;
  };
  std::vector<Answer> answers_;
};

// Expected calibration error (Naeini et al. 2015, Guo et al. 2017): |mean probability - share used| of the
// bins, averaged over answers.
[[nodiscard]] double expected_calibration_error(std::span<const ReliabilityBin> bins);
// What that comes to on average if all probabilities are true, for chance alone: a bin of n answers with
// probability p deviates by sqrt(2 p (1 - p) / (pi n)).
[[nodiscard]] double calibration_error_by_chance(std::span<const ReliabilityBin> bins);

// A plot of the bins as an SVG file's text: mean probability against share used, with the diagonal. `title`
// is the picture's for those who do not see it.
[[nodiscard]] std::string reliability_plot(std::span<const ReliabilityBin> bins, const std::string& title);

}  // namespace tagspace
