#include "app/commands/command.h"

#include <cstdio>
#include <fmt/format.h>

#include "app/output.h"
#include "base/files.h"

namespace tagspace {

void RunOptions::add_to(CLI::App& command) {
  command.add_option("RUN", run, "The run folder that train made")->required();
  command.add_option("--threads", threads, "Threads to use; 0: one a core. Results do not depend on it.")
      ->check(CLI::Range(0, 1024))
      ->option_text("N (0)");
}

void RunOptions::add_device_to(CLI::App& command) {
  command.add_option("--device", device, "Where to encode posts: cpu, cuda, cuda:N, or auto")
      ->option_text("NAME (cpu)");
}

TrainedModel RunOptions::load(TrainedModel::Parts parts) const {
  return load_trained_model(run, threads, device, parts);
}

void FiguresOption::add_to(CLI::App& command) {
  command
      .add_option("--json", json,
                  "Write the figures to this file, too; -: to standard output, instead of the table")
      ->option_text("FILE");
}

void FiguresOption::write(const nlohmann::ordered_json& figures, const std::string& table,
                          const std::filesystem::path& posts) const {
  const std::string text = figures.dump(2) + "\n";
  Output output;
  if (json == "-") {
    output.write(text);
  } else {
    if (!json.empty()) write_file(json, text);
    output.write(fmt::format("'{}': ", posts.string()));
    output.write(table);
  }
  output.flush();
}

void note_repaired_lines(const PostReader& reader, const std::filesystem::path& posts) {
  const std::uint64_t repaired = reader.report().repaired_lines;
  if (repaired == 0) return;
  std::fprintf(stderr, "tagspace: note: %s lines of '%s' were not valid UTF-8 and were repaired\n",
               std::to_string(repaired).c_str(), posts.c_str());
}

void add_training_threads(CLI::App& command, std::optional<std::uint32_t>& threads) {
  command.add_option("--threads", threads, "Short for --set training.threads=N")
      ->check(CLI::Range(0, 1024))
      ->option_text("N");
}

}  // namespace tagspace
