// The commands of the program: each adds itself to the command line, and is run when it was the one given.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "app/trained_model.h"

namespace tagspace {

inline constexpr int kSuccess = 0;
inline constexpr int kFailure = 1;
inline constexpr int kWrongUsage = 2;

struct Command {
  CLI::App* app = nullptr;
  std::function<int()> run;  // returns the exit status; throws Error
};

[[nodiscard]] Command add_train(CLI::App& program);
[[nodiscard]] Command add_tune(CLI::App& program);
[[nodiscard]] Command add_predict(CLI::App& program);
[[nodiscard]] Command add_evaluate(CLI::App& program);
[[nodiscard]] Command add_recommend(CLI::App& program);
[[nodiscard]] Command add_embed(CLI::App& program);
[[nodiscard]] Command add_neighbors(CLI::App& program);
[[nodiscard]] Command add_export(CLI::App& program);
[[nodiscard]] Command add_schema(CLI::App& program);

// What all commands that use a run folder take.
struct RunOptions {
  std::filesystem::path run;
  std::uint32_t threads = 0;
  std::string device = "cpu";

  void add_to(CLI::App& command);
  // For commands that encode posts.
  void add_device_to(CLI::App& command);
  // See load_trained_model.
  [[nodiscard]] TrainedModel load() const;
};

}  // namespace tagspace
