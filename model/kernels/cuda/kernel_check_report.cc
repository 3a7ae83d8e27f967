#include "model/kernels/cuda/kernel_check_report.h"

#include <cstdio>

namespace tagspace::kernels::check {
namespace {

// The larger of the two; not a number if one of them is not.
double larger(double a, double b) { return std::isnan(a) || a >= b ? a : b; }

std::string text_of(const Tolerance& tolerance) {
  char text[64];
  std::string result;
  if (tolerance.relative > 0) {
    std::snprintf(text, sizeof text, "%.2g relative", tolerance.relative);
    result += text;
  }
  if (tolerance.absolute > 0) {
    std::snprintf(text, sizeof text, "%s%.2g absolute", result.empty() ? "" : " or ", tolerance.absolute);
    result += text;
  }
  if (tolerance.most_different != Tolerance{}.most_different) {
    result += ", of " + std::to_string(tolerance.most_different);
  }
  return result.empty() ? "0" : result;
}

}  // namespace

void Report::section(const std::string& title) {
  std::printf("\n%s\n  %-22s %11s %11s %13s %13s   %s\n", title.c_str(), "", "compared", "different",
              "largest abs.", "largest rel.", "allowed");
}

void Report::Line::add(std::size_t i, double actual, double expected, const Tolerance& tolerance) {
  if (actual == expected) return;
  const double difference = std::abs(actual - expected);
  const double share = difference / std::abs(expected);
  const bool allowed = difference <= tolerance.absolute || share <= tolerance.relative;
  if (allowed ? different == 0 : beyond == 0) {
    first = i;
    first_actual = actual;
    first_expected = expected;
  }
  ++different;
  if (!allowed) ++beyond;
  absolute = larger(absolute, difference);
  relative = larger(relative, share);
}

void Report::print(const std::string& name, const Line& line, std::size_t actual_size, std::size_t width,
                   const Tolerance& tolerance) {
  const bool wrong =
      line.beyond > 0 || line.different > tolerance.most_different || actual_size != line.compared;
  std::printf("  %-22s %11zu %11zu %13.3g %13.3g   %s%s\n", name.c_str(), line.compared, line.different,
              line.absolute, line.relative, text_of(tolerance).c_str(), wrong ? "   WRONG" : "");
  std::fflush(stdout);  // it stands there whatever becomes of the next kernel
  if (!wrong) return;
  ++wrong_;
  if (actual_size != line.compared) {
    std::printf("    there are %zu of them\n", actual_size);
    return;
  }
  const std::string place = width == 1 ? std::to_string(line.first)
                                       : "row " + std::to_string(line.first / width) + ", element " +
                                             std::to_string(line.first % width);
  std::printf("    the first at %s: %.9g, where the reference has %.9g\n", place.c_str(), line.first_actual,
              line.first_expected);
}

}  // namespace tagspace::kernels::check
