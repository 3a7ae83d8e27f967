#include <memory>
#include <string>

#include "app/commands/command.h"
#include "app/libtorch_program.h"

namespace tagspace {

Command add_train(CLI::App& program) {
  auto arguments = std::make_shared<TrainArguments>();
  CLI::App* app = program.add_subcommand("train", "Train a model from an experiment file");
  CLI::Option* config = app->add_option("CONFIG", arguments->config,
                                        "The experiment file (JSON); with --resume it may be left out");
  app->add_option("--set", arguments->settings,
                  "Change one setting of the experiment, as in --set loss.margin=0.2; null puts the default "
                  "back. May be repeated.")
      ->option_text("KEY=VALUE")
      ->allow_extra_args(false);
  CLI::Option* output = app->add_option("--output", arguments->output, "The run folder to make (runs/NAME)")
                            ->option_text("RUN");
  app->add_flag("--resume", arguments->resume,
                "Go on with the training of the run folder, where it was stopped");
  add_training_threads(*app, arguments->threads);
  app->footer(
      "Ctrl-C stops after the current step, keeps a checkpoint and prints the command that goes on from it; "
      "the exit status is "
      "then 130 (143 for SIGTERM). A resumed training ends with exactly the model that an uninterrupted one "
      "would have.");
  app->final_callback([=] {
    if (config->count() > 0 || (arguments->resume && output->count() > 0)) return;
    throw CLI::RequiredError(arguments->resume ? "CONFIG or --output" : "CONFIG");
  });
  return {app, [arguments] { return train(*arguments); }};
}

}  // namespace tagspace
