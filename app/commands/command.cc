#include "app/commands/command.h"

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

TrainedModel RunOptions::load() const { return load_trained_model(run, threads, device); }

}  // namespace tagspace
