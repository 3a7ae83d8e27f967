// The table of differences that tagspace_kernel_check prints.
#pragma once

#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

namespace tagspace::kernels::check {

// Which differences are allowed: those that are within one of the two, and a few others.
struct Tolerance {
  double relative = 0;
  double absolute = 0;
  // For values that are rounded at random, where a difference of the last digit may tip the rounding: no more
  // than this many may differ at all.
  std::size_t most_different = ~std::size_t{0};
};

class Report {
 public:
  void section(const std::string& title);

  // One line: `actual`, which the kernel wrote, against `expected`. What is not a number differs from
  // everything. `width`: elements to a row, for the message that says where.
  template <typename T, typename U>
  void compare(const std::string& name, const std::vector<T>& actual, const std::vector<U>& expected,
               std::size_t width = 1, const Tolerance& tolerance = {}) {
    Line line;
    line.compared = expected.size();
    for (std::size_t i = 0; i < expected.size(); ++i) {
      if (i < actual.size()) {
        line.add(i, static_cast<double>(actual[i]), static_cast<double>(expected[i]), tolerance);
      }
    }
    print(name, line, actual.size(), width, tolerance);
  }

  [[nodiscard]] bool all_agree() const { return wrong_ == 0; }

 private:
  struct Line {
    std::size_t compared = 0;
    std::size_t different = 0;  // by anything
    std::size_t beyond = 0;     // by more than is allowed
    double absolute = 0;        // the largest
    double relative = 0;
    std::size_t first = 0;  // beyond, or else different
    double first_actual = 0;
    double first_expected = 0;

    void add(std::size_t i, double actual, double expected, const Tolerance& tolerance);
  };

  void print(const std::string& name, const Line& line, std::size_t actual_size, std::size_t width,
             const Tolerance& tolerance);

  std::size_t wrong_ = 0;
};

}  // namespace tagspace::kernels::check
