// Of the program `tagspace`: what it leaves to tagspace-libtorch.
#include "app/experiment.h"
#include "app/libtorch_program.h"

namespace tagspace {

int train(const TrainArguments& arguments) {
  // A mistake in the experiment file is told at once.
  if (!arguments.resume) (void)load_experiment(arguments.config, arguments.settings);
  throw NeedsLibTorch{};
}

int tune(const TuneArguments& arguments) {
  (void)load_experiment(arguments.config, arguments.settings);
  throw NeedsLibTorch{};
}

EncodePosts encoder_on_device(const std::string& /*device*/, const std::filesystem::path& /*checkpoint*/,
                              ModelConfig /*config*/, bool /*as_bag*/) {
  throw NeedsLibTorch{};
}

}  // namespace tagspace
