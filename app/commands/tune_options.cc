#include <cmath>
#include <memory>
#include <string>

#include "app/commands/command.h"
#include "app/libtorch_program.h"

namespace tagspace {

Command add_tune(CLI::App& program) {
  auto arguments = std::make_shared<TuneArguments>();
  CLI::App* app = program.add_subcommand("tune", "Search better settings for an experiment file");
  app->add_option("CONFIG", arguments->config, "The experiment file (JSON) to begin from")->required();
  app->add_option("--minutes", arguments->minutes, "The time to spend, as in 30 or 0.5")
      ->required()
      ->check([](const std::string& text) -> std::string {
        double minutes = 0;
        const bool is_number = CLI::detail::lexical_cast(text, minutes);
        if (is_number && minutes > 0 && std::isfinite(minutes)) return "";
        return "found " + text + ", allowed is a number above 0";
      })
      ->option_text("N");
  app->add_option("--set", arguments->settings,
                  "Change one setting of the experiment before the search, as in --set data.train=posts.txt. "
                  "May be repeated.")
      ->option_text("KEY=VALUE")
      ->allow_extra_args(false);
  app->add_option("--output", arguments->output, "The experiment file to write (NAME-tuned.json)")
      ->option_text("FILE");
  app->add_flag("--overwrite", arguments->overwrite, "Replace the output if there is such a file already");
  app->add_option("--trials", arguments->trials,
                  "Make at most so many trials, the one with the settings as given among them")
      ->check(CLI::Range(1, 1000000000))
      ->option_text("N");
  app->add_option("--dims", arguments->dims, "Search encoder.dim too, among these lengths, as in 64,128,256")
      ->delimiter(',')
      ->check(CLI::Range(1, 8192))
      ->option_text("N,...")
      ->allow_extra_args(false);
  add_training_threads(*app, arguments->threads);
  app->footer(
      "The first trial trains with the settings as given. Each of the others changes some of them at random: "
      "learning rates and their schedule, dropout, the longest vectors, the margin, the scale of the first "
      "vectors, the batch size, the rarest words, what the bag takes up and how, and of the model of words "
      "its rate, smoothing or neighbours; in turn around the settings as given and, less far, around the "
      "best so far. The experiment's seed decides which. A trial ends early, by training.early_stopping as "
      "always, or when it is clearly worse: from its fourth epoch on, when its vectors do not reach what "
      "those of the best trial had after half as many epochs. At the end, and for at most 40 % of the time, "
      "the best two and the settings as given are trained with two other seeds, and the best of them in the "
      "mean is kept, so that the winner is not luck. What decides is training.early_stopping.metric, of the "
      "validation posts, and the result is never worse by it than the settings as given. Where there is a "
      "model of words (lexical), that is the metric of the mixture; the other seeds are then those of the "
      "vectors.\n\n"
      "The output is a complete experiment file for `tagspace train`, and is written anew whenever a trial "
      "was better. Ctrl-C ends the search and keeps the best so far; the exit status is then 130 (143 for "
      "SIGTERM).");
  return {app, [arguments] { return tune(*arguments); }};
}

}  // namespace tagspace
