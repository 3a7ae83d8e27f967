#include <fmt/format.h>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "app/calibration_training.h"
#include "app/commands/command.h"
#include "app/experiment.h"
#include "app/lexical_training.h"
#include "app/libtorch_program.h"
#include "app/memory.h"
#include "app/output.h"
#include "app/progress.h"
#include "app/run_folder.h"
#include "app/stop_signal.h"
#include "app/trained_model.h"
#include "app/training.h"
#include "app/training_device.h"
#include "app/version.h"
#include "app/word2vec_training.h"
#include "base/error.h"
#include "base/files.h"
#include "data_pipeline/parallel.h"

namespace tagspace {
namespace {

// The prepared data must be what the run's tokenizer and hashtag table came from.
void check_same_tables(const RunFolder& run, const PreparedData& data) {
  const HashtagVocabulary hashtags = run.load_hashtags();
  bool same = hashtags.size() == data.hashtags.size();
  for (std::uint32_t id = 0; same && id < hashtags.size(); ++id) {
    same = hashtags[id].name == data.hashtags[id].name && hashtags[id].count == data.hashtags[id].count;
  }
  if (!same)
    throw Error(
        "cannot resume: the training posts give another hashtag table than the run's; have they changed?");
  const auto tokenizer = run.load_tokenizer();
  same = tokenizer->vocab_size() == data.tokenizer->vocab_size();
  for (std::uint32_t id = 0; same && id < tokenizer->vocab_size(); ++id) {
    same = tokenizer->token(id) == data.tokenizer->token(id);
  }
  if (!same)
    throw Error(
        "cannot resume: the training posts give another vocabulary than the run's; have they changed?");
}

// The experiment to resume: the run's own with the settings, or the file that was given, if it asks for the
// same model.
Experiment experiment_to_resume(const RunFolder& run, const TrainArguments& arguments) {
  Experiment experiment;
  std::error_code error;
  if (arguments.config.empty() || std::filesystem::is_directory(arguments.config, error)) {
    nlohmann::ordered_json document = experiment_to_json(run.experiment());
    ValueOrigins origins;
    for (const std::string& setting : arguments.settings) apply_setting(document, setting, origins);
    experiment = experiment_from_json(document, (run.path() / "config.json").string(), origins);
  } else {
    experiment = load_experiment(arguments.config, arguments.settings);
  }
  make_paths_absolute(experiment);
  if (const auto difference = first_difference(run.experiment(), experiment)) {
    throw Error("cannot resume the run '" + run.path().string() + "' with other settings: " + *difference);
  }
  return experiment;
}

}  // namespace

int train(const TrainArguments& arguments) {
  std::optional<RunFolder> run;
  std::optional<FolderLock> lock;
  Experiment experiment;
  std::filesystem::path output = arguments.output;
  std::error_code ignored;
  if (arguments.resume) {
    const bool config_is_run =
        !arguments.config.empty() && std::filesystem::is_directory(arguments.config, ignored);
    if (output.empty()) {
      output = config_is_run ? arguments.config
                             : std::filesystem::path("runs") /
                                   load_experiment(arguments.config, arguments.settings).name;
    }
    run.emplace(output);
    lock.emplace(output);
    experiment = experiment_to_resume(*run, arguments);
  } else {
    experiment = load_experiment(arguments.config, arguments.settings);
    make_paths_absolute(experiment);
    if (output.empty()) output = std::filesystem::path("runs") / experiment.name;
    RunFolder::check_free(output);
  }
  if (arguments.threads) experiment.training.threads = *arguments.threads;
  // Models of words are trained by the CPU.
  if (experiment.has_vectors()) experiment.model.device = choose_device(experiment);

  const StopSignal stop;
  Reporter reporter;
  const std::uint32_t threads = resolve_threads(experiment.training.threads);
  reporter.line(fmt::format("tagspace {}: experiment '{}', on {}, {} threads", kVersion, experiment.name,
                            describe_device(experiment), threads));
  PreparedData data;
  std::optional<WordVectors> pretrained;
  try {
    data = prepare_data(
        experiment.data, experiment.tokenizer, threads, [&](const std::string& text) { reporter.line(text); },
        [&] { return stop.arrived(); });
    // A checkpoint has the words' vectors as they have become.
    if (!run || !path_exists(run->last()))
      pretrained = read_pretrained(experiment, data, reporter, [&] { return stop.arrived(); });
  } catch (const Interrupted&) {
    reporter.line("stopped while reading; nothing was written. The same command starts again.");
    return 128 + stop.number();
  }

  std::optional<PostFeatures> features;
  if (run) {
    check_same_tables(*run, data);
    if (experiment.has_vectors()) features = run->load_features(*data.tokenizer);
  } else {
    features = count_features(experiment, data);
  }
  if (features) {
    reporter.line(fmt::format("{} pairs and beginnings of words have vectors too",
                              format_count(features->rows() - data.tokenizer->vocab_size())));
  }
  if (run) {
    reporter.open_log(run->log());
    run->replace_experiment(experiment);
    // It belongs to a model that may become another one now.
    std::filesystem::remove(run->calibration(), ignored);
  } else {
    run.emplace(RunFolder::create(output, experiment, *data.tokenizer, features, data.hashtags));
    lock.emplace(output);
    reporter.open_log(run->log());
  }
  const std::string shown_output = shell_word(output.string());
  try {
    const auto stop_asked = [&] { return stop.arrived(); };
    std::string done = "done";
    if (experiment.has_vectors() && experiment.model.loss == LossType::skipgram) {
      const auto outcome = train_word2vec(experiment, data, *run, arguments.resume, reporter, stop_asked);
      if (!outcome) {
        reporter.line(fmt::format("stopped; go on with: tagspace train --resume --output {}", shown_output));
        return 128 + stop.number();
      }
      done = *outcome;
    } else if (experiment.has_vectors()) {
      const ModelConfig config = model_config(experiment, *data.tokenizer, features, data.hashtags, threads);
      if (config.device.cuda) {
        check_memory(config, data, features, experiment.training.batch_size, experiment.tokenizer.max_tokens,
                     reporter);
      } else {
        report_memory(config, experiment, data, features, reporter);
      }
      Training training(experiment, data, features, pretrained, *run, reporter, stop_asked);
      pretrained.reset();  // the model has them
      if (arguments.resume) training.resume();
      const bool ended = training.run();
      const TrainingState& state = training.state();
      if (!ended) {
        reporter.line(fmt::format(
            "stopped after {} epochs and {} steps; go on with: tagspace train --resume --output {}",
            state.epochs, format_count(state.step), shown_output));
        return 128 + stop.number();
      }
      done = fmt::format("done: {} epochs in {}; the best was epoch {} with {} {:.4g}", state.epochs,
                         format_seconds(state.seconds), state.best_epoch,
                         to_string(experiment.training.metric), state.best.value_or(0));
    }
    if (experiment.lexical.type != LexicalType::none &&
        !train_lexical(experiment, data, *run, reporter, stop_asked)) {
      reporter.line(
          fmt::format("stopped while the lexical model was trained; begin it again with: tagspace train "
                      "--resume --output {}",
                      shown_output));
      return 128 + stop.number();
    }
    if (!train_calibration(experiment, *run, reporter, stop_asked)) {
      reporter.line(fmt::format(
          "stopped while probabilities were fitted; go on with: tagspace train --resume --output {}",
          shown_output));
      return 128 + stop.number();
    }
    reporter.line(done);
  } catch (const Error& error) {
    reporter.log_only(std::string("error: ") + error.what());
    throw;
  }
  reporter.line(fmt::format("the run is in {}; try:", shown_output));
  reporter.line(fmt::format("  tagspace evaluate {}", shown_output));
  reporter.line(fmt::format("  echo 'some text' | tagspace predict {}", shown_output));
  return kSuccess;
}

}  // namespace tagspace
