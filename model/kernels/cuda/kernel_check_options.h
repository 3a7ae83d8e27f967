// The command line of tagspace_kernel_check.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "model/kernels/row_update.h"
#include "model/kernels/warp.h"

namespace tagspace::kernels::check {

enum class Mode { deterministic, hogwild };
enum class TableType { float32, bfloat16 };

struct Options {
  std::uint32_t posts = 256;
  std::uint32_t hashtags = 1000;
  std::uint32_t dim = 64;
  std::uint32_t tries = 100;  // at most, for a pair
  Score score = Score::dot;
  RankWeight rank_weight = RankWeight::harmonic;
  Mode mode = Mode::deterministic;
  TableType table = TableType::float32;
  OptimizerKind optimizer = OptimizerKind::adagrad;
  float max_norm = 0;
  std::uint64_t seed = 1;
  bool fill = true;  // device memory, before anything is written to it
  bool help = false;
};

// Wrong usage: what was found, and what is allowed.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

[[nodiscard]] Options parse_options(const std::vector<std::string>& arguments);
// What --help prints.
[[nodiscard]] std::string help_text();
// The options on one line, in words.
[[nodiscard]] std::string summary(const Options& options);

}  // namespace tagspace::kernels::check
