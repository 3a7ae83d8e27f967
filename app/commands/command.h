// The commands of the program: each adds itself to the command line, and is run when it was the one given.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "app/trained_model.h"
#include "data_pipeline/posts.h"

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
  [[nodiscard]] TrainedModel load(TrainedModel::Parts parts) const;
};

// Where commands that measure write their figures.
struct FiguresOption {
  std::filesystem::path json;  // a file, too; or -: standard output, instead of the table

  void add_to(CLI::App& command);
  // `posts`: the file that was measured.
  void write(const nlohmann::ordered_json& figures, const std::string& table,
             const std::filesystem::path& posts) const;
};

// A line on standard error if lines of the file were repaired.
void note_repaired_lines(const PostReader& reader, const std::filesystem::path& posts);

// The option --threads of commands that train.
void add_training_threads(CLI::App& command, std::optional<std::uint32_t>& threads);

}  // namespace tagspace
