#include "app/reliability.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <numbers>
#include <utility>

#include "app/progress.h"

namespace tagspace {
namespace {

double weighted(std::span<const ReliabilityBin> bins, double (*error)(const ReliabilityBin&)) {
  double sum = 0;
  double answers = 0;
  for (const ReliabilityBin& bin : bins) {
    sum += static_cast<double>(bin.answers) * error(bin);
    answers += static_cast<double>(bin.answers);
  }
  return answers > 0 ? sum / answers : 0;
}

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '&') {
      result += "&amp;";
    } else if (c == '<') {
      result += "&lt;";
    } else if (c == '>') {
      result += "&gt;";
    } else {
      result += c;
    }
  }
  return result;
}

}  // namespace

std::vector<ReliabilityBin> Reliability::bins() const {
  std::vector<Answer> sorted = answers_;
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const Answer& a, const Answer& b) { return a.probability < b.probability; });
  std::vector<ReliabilityBin> bins;
  for (std::size_t i = 0; i < kBins; ++i) {
    const std::size_t begin = sorted.size() * i / kBins;
    const std::size_t end = sorted.size() * (i + 1) / kBins;
    if (begin == end) continue;
    ReliabilityBin bin;
    bin.answers = end - begin;
    const auto count = static_cast<double>(bin.answers);
    double used = 0;
    for (std::size_t j = begin; j < end; ++j) {
      bin.probability += sorted[j].probability / count;
      used += sorted[j].used ? 1 : 0;
    }
    bin.used = used / count;
    bins.push_back(bin);
  }
  return bins;
}

double Reliability::brier() const {
  double sum = 0;
  for (const Answer& answer : answers_) {
    const double error = answer.probability - (answer.used ? 1 : 0);
    sum += error * error;
  }
  return answers_.empty() ? 0 : sum / static_cast<double>(answers_.size());
}

nlohmann::ordered_json Reliability::to_json() const {
  const std::vector<ReliabilityBin> all = bins();
  nlohmann::ordered_json json = {
      {"answers", answers()},
      {"mean_probability", weighted(all, [](const ReliabilityBin& bin) { return bin.probability; })},
      {"used_share", weighted(all, [](const ReliabilityBin& bin) { return bin.used; })},
      {"expected_calibration_error", expected_calibration_error(all)},
      {"expected_calibration_error_by_chance", calibration_error_by_chance(all)},
      {"brier", brier()},
      {"bins", nlohmann::ordered_json::array()},
  };
  for (const ReliabilityBin& bin : all) {
    json["bins"].push_back(
        {{"answers", bin.answers}, {"mean_probability", bin.probability}, {"used_share", bin.used}});
  }
  return json;
}

double expected_calibration_error(std::span<const ReliabilityBin> bins) {
  return weighted(bins, [](const ReliabilityBin& bin) { return std::abs(bin.probability - bin.used); });
}

double calibration_error_by_chance(std::span<const ReliabilityBin> bins) {
  return weighted(bins, [](const ReliabilityBin& bin) {
    return std::sqrt(2 * bin.probability * (1 - bin.probability) /
                     (std::numbers::pi * static_cast<double>(bin.answers)));
  });
}

std::string reliability_plot(std::span<const ReliabilityBin> bins, const std::string& title) {
  constexpr double kSide = 360;
  constexpr double kLeft = 70;
  constexpr double kTop = 60;
  // Both axes end at the first tenth above all values: small probabilities are not to crowd in a corner.
  double largest = 0;
  for (const ReliabilityBin& bin : bins) largest = std::max({largest, bin.probability, bin.used});
  const int tenths = std::clamp(static_cast<int>(std::ceil(10 * largest)), 1, 10);
  const auto x = [&](double value) { return kLeft + value * 10 / tenths * kSide; };
  const auto y = [&](double value) { return kTop + kSide - value * 10 / tenths * kSide; };

  std::string svg =
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 460 500\" width=\"460\" height=\"500\" "
      "role=\"img\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n"
      "<style>\n"
      ".back { fill: #ffffff } .ink { fill: #1f2328 } .faint { fill: #59636e } .grid { stroke: #d1d9e0 }\n"
      ".axis { stroke: #59636e; fill: none } .mark { fill: #0969da } .line { stroke: #0969da; fill: none }\n"
      "@media (prefers-color-scheme: dark) {\n"
      ".back { fill: #0d1117 } .ink { fill: #f0f6fc } .faint { fill: #9198a1 } .grid { stroke: #3d444d }\n"
      ".axis { stroke: #9198a1 } .mark { fill: #4493f8 } .line { stroke: #4493f8 }\n"
      "}\n"
      "</style>\n"
      "<rect class=\"back\" width=\"460\" height=\"500\"/>\n";
  svg += fmt::format(
      "<title>Reliability: {}</title>\n<text class=\"ink\" x=\"{}\" y=\"24\" font-size=\"14\" "
      "font-weight=\"600\">Probabilities and what came true</text>\n",
      escaped(title), kLeft);
  std::uint64_t answers = 0;
  for (const ReliabilityBin& bin : bins) answers += bin.answers;
  svg += fmt::format(
      "<text class=\"faint\" x=\"{}\" y=\"44\">{} bins of {} answers; ECE {:.2f} %, by chance {:.2f} "
      "%</text>\n",
      kLeft, bins.size(), format_count(bins.empty() ? 0 : answers / bins.size()),
      100 * expected_calibration_error(bins), 100 * calibration_error_by_chance(bins));
  // A line at every tenth, or at every second where they would be many.
  const int step = tenths > 5 ? 2 : 1;
  for (int tenth = 0; tenth <= tenths; tenth += step) {
    const double value = tenth / 10.0;
    svg += fmt::format(
        "<path class=\"grid\" d=\"M{0:.1f} {1:.1f}V{2:.1f}M{3:.1f} {4:.1f}H{5:.1f}\"/>\n"
        "<text class=\"faint\" x=\"{0:.1f}\" y=\"{6:.1f}\" text-anchor=\"middle\">{7} %</text>\n"
        "<text class=\"faint\" x=\"{8:.1f}\" y=\"{9:.1f}\" text-anchor=\"end\">{7} %</text>\n",
        x(value), kTop, kTop + kSide, kLeft, y(value), kLeft + kSide, kTop + kSide + 18, 10 * tenth,
        kLeft - 8, y(value) + 4);
  }
  svg += fmt::format("<path class=\"axis\" d=\"M{0} {1}V{2}H{3}\"/>\n", kLeft, kTop, kTop + kSide,
                     kLeft + kSide);
  svg += fmt::format("<path class=\"axis\" stroke-dasharray=\"5 4\" d=\"M{} {}L{} {}\"/>\n", kLeft,
                     kTop + kSide, kLeft + kSide, kTop);
  std::string line;
  std::string marks;
  for (const ReliabilityBin& bin : bins) {
    line += fmt::format("{}{:.1f} {:.1f}", line.empty() ? "M" : "L", x(bin.probability), y(bin.used));
    marks += fmt::format(
        "<circle class=\"mark\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\"><title>{} answers: probability {:.2f} %, "
        "used {:.2f} %</title></circle>\n",
        x(bin.probability), y(bin.used), format_count(bin.answers), 100 * bin.probability, 100 * bin.used);
  }
  if (!line.empty()) svg += "<path class=\"line\" d=\"" + line + "\"/>\n";
  svg += marks;
  svg += fmt::format(
      "<text class=\"ink\" x=\"{0}\" y=\"{1}\" text-anchor=\"middle\">probability, mean of the bin</text>\n"
      "<text class=\"ink\" transform=\"translate(20 {2}) rotate(-90)\" text-anchor=\"middle\">share that the "
      "author used</text>\n",
      kLeft + kSide / 2, kTop + kSide + 42, kTop + kSide / 2);
  return svg + "</svg>\n";
}

}  // namespace tagspace
