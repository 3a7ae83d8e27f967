#include <algorithm>
#include <chrono>
#include <fmt/format.h>
#include <map>
#include <optional>
#include <string>
#include <system_error>
#include <tuple>
#include <unistd.h>
#include <utility>
#include <vector>

#include "app/commands/command.h"
#include "app/experiment.h"
#include "app/lexical_training.h"
#include "app/libtorch_program.h"
#include "app/output.h"
#include "app/progress.h"
#include "app/run_folder.h"
#include "app/stop_signal.h"
#include "app/training.h"
#include "app/training_device.h"
#include "app/tuning.h"
#include "app/version.h"
#include "base/error.h"
#include "base/files.h"
#include "data_pipeline/parallel.h"

namespace tagspace {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kOtherSeeds = 2;     // that finalists are trained with
constexpr double kMostForOtherSeeds = 0.4;   // of the time
constexpr double kSlackForOtherSeeds = 1.2;  // another seed may take some epochs more
constexpr std::size_t kKept = 3;             // models of words, and sets of features

double seconds_between(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

Clock::duration as_duration(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

// The folder of the trials' runs, which is removed again with all that is in it.
class TrialsFolder {
 public:
  explicit TrialsFolder(const std::filesystem::path& output)
      : path_(output.parent_path() /
              fmt::format(".{}.{}.trials", output.filename().string(), static_cast<long>(::getpid()))) {
    std::error_code error;
    if (!std::filesystem::create_directory(path_, error)) {
      throw Error("cannot make the folder '" + path_.string() + "' for the trials, beside the output: " +
                  (error ? error.message() : "it is there already"));
    }
  }
  ~TrialsFolder() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  TrialsFolder(const TrialsFolder&) = delete;
  TrialsFolder& operator=(const TrialsFolder&) = delete;
  TrialsFolder(TrialsFolder&&) = delete;
  TrialsFolder& operator=(TrialsFolder&&) = delete;

  // An empty place for the next run.
  [[nodiscard]] std::filesystem::path next() const {
    std::filesystem::path run = path_ / "run";
    std::error_code error;
    std::filesystem::remove_all(run, error);
    return run;
  }

 private:
  std::filesystem::path path_;
};

enum class End { finished, clearly_worse, out_of_time, interrupted, failed };

struct Trial {
  std::uint32_t number = 0;
  Experiment settings;
  End end = End::finished;
  LearningCurve curve;
  std::optional<double> value;  // the best of the last phase, if it came so far
  std::uint32_t epochs = 0;
  double seconds = 0;
  std::string failure;
};

// What the features of the bag depend on: tokenizer.min_count, encoder.pairs, beginnings, min_count.
using FeaturesKey = std::tuple<std::uint32_t, bool, bool, std::uint32_t>;

FeaturesKey features_key(const Experiment& settings) {
  return {settings.tokenizer.min_count, settings.features.pairs, settings.features.beginnings,
          settings.features_min_count};
}

// What the model of words depends on, of what trials differ in; all are trained with the experiment's own
// seed, as it decides no more than the order of the posts.
using WordsKey = std::tuple<std::uint32_t, float, float, std::uint32_t>;

WordsKey words_key(const Experiment& settings) {
  return {settings.tokenizer.min_count, settings.lexical.learning_rate, settings.lexical.smoothing,
          settings.lexical.neighbors};
}

class Tuning {
 public:
  Tuning(const TuneArguments& arguments, Experiment given, std::filesystem::path output)
      : start_(Clock::now()),
        budget_(60 * std::min(arguments.minutes, 1e6)),  // two years are enough for anyone
        most_trials_(arguments.trials),
        may_overwrite_(arguments.overwrite),
        given_(std::move(given)),
        space_(given_, arguments.dims),
        output_(std::move(output)),
        trials_folder_(output_),
        threads_(resolve_threads(given_.training.threads)) {}

  int run();

 private:
  [[nodiscard]] Metric metric() const { return given_.training.metric; }
  [[nodiscard]] double time_left() const { return budget_ - seconds_between(start_, Clock::now()); }
  [[nodiscard]] Clock::time_point time_left_after(double reserved) const {
    return start_ + as_duration(budget_ - reserved);
  }

  const PreparedData& data_of(const Experiment& settings);
  const std::optional<PostFeatures>& features_of(const Experiment& settings, const PreparedData& data);
  // None if stop_asked.
  template <typename StopAsked>
  const std::optional<WordsModel>& words_of(const Experiment& settings, const PreparedData& data,
                                            Reporter& bar, const StopAsked& stop_asked);
  const std::optional<WordVectors>& pretrained_of(const Experiment& settings, const PreparedData& data);
  Trial train(std::uint32_t number, const Experiment& settings, Clock::time_point deadline,
              const std::string& title, bool may_be_worse);
  void search();
  void try_other_seeds();
  [[nodiscard]] double reserved_seconds() const;
  void report(const Trial& trial, bool is_best);
  void add_to_best(Trial trial);
  void write_best();

  Clock::time_point start_;
  double budget_;  // seconds
  std::optional<std::uint32_t> most_trials_;
  bool may_overwrite_;
  Experiment given_;
  SearchSpace space_;
  std::filesystem::path output_;
  StopSignal stop_;  // from before there is anything to remove
  TrialsFolder trials_folder_;
  std::uint32_t threads_;
  Reporter reporter_;
  // By tokenizer.min_count, all else being the same.
  std::map<std::uint32_t, PreparedData> data_;
  std::map<std::uint32_t, std::optional<WordVectors>> pretrained_;
  Recent<FeaturesKey, std::optional<PostFeatures>> features_{kKept};
  Recent<WordsKey, std::optional<WordsModel>> words_{kKept};
  std::map<WordsKey, double> seconds_of_words_;  // that training them took, kept or not
  std::uint32_t made_ = 0;                       // trials
  std::optional<Trial> first_;                   // the settings as given
  std::vector<Trial> best_;                      // the best two, the better first
  std::optional<Experiment> written_;
};

// Made once for each setting of the tokenizer. Lines of the first alone are shown.
const PreparedData& Tuning::data_of(const Experiment& settings) {
  const auto found = data_.find(settings.tokenizer.min_count);
  if (found != data_.end()) return found->second;
  const bool first = data_.empty();
  PreparedData data = prepare_data(
      settings.data, settings.tokenizer, threads_,
      [&](const std::string& text) {
        if (first) reporter_.line(text);
      },
      [&] { return stop_.arrived(); });
  return data_.emplace(settings.tokenizer.min_count, std::move(data)).first->second;
}

const std::optional<PostFeatures>& Tuning::features_of(const Experiment& settings, const PreparedData& data) {
  return features_.get(features_key(settings), [&] { return count_features(settings, data); });
}

template <typename StopAsked>
const std::optional<WordsModel>& Tuning::words_of(const Experiment& settings, const PreparedData& data,
                                                  Reporter& bar, const StopAsked& stop_asked) {
  static const std::optional<WordsModel> kNone;
  const WordsKey key = words_key(settings);
  if (words_.has(key)) return words_.get(key, [] { return std::optional<WordsModel>(); });
  Experiment with_own_seed = settings;
  with_own_seed.model.seed = given_.model.seed;
  words_.make_room();
  const auto start = Clock::now();
  std::optional<WordsModel> trained = train_words(with_own_seed, data, bar, stop_asked);
  if (!trained) return kNone;
  seconds_of_words_[key] = seconds_between(start, Clock::now());
  return words_.get(key, [&] { return std::move(trained); });
}

const std::optional<WordVectors>& Tuning::pretrained_of(const Experiment& settings,
                                                        const PreparedData& data) {
  const auto found = pretrained_.find(settings.tokenizer.min_count);
  if (found != pretrained_.end()) return found->second;
  return pretrained_
      .emplace(settings.tokenizer.min_count,
               read_pretrained(settings, data, reporter_, [&] { return stop_.arrived(); }))
      .first->second;
}

Trial Tuning::train(std::uint32_t number, const Experiment& settings, Clock::time_point deadline,
                    const std::string& title, bool may_be_worse) {
  Trial trial;
  trial.number = number;
  trial.settings = settings;
  auto start = Clock::now();
  try {
    Experiment experiment = settings;
    make_paths_absolute(experiment);
    const PreparedData& data = data_of(experiment);
    const std::optional<PostFeatures>& features = features_of(experiment, data);
    const std::optional<WordVectors>& pretrained = pretrained_of(experiment, data);
    Reporter bar(title);
    // Whether to stop, and why.
    const auto stop_asked = [&] {
      if (stop_.arrived()) {
        trial.end = End::interrupted;
      } else if (Clock::now() >= deadline) {
        trial.end = End::out_of_time;
      }
      return trial.end != End::finished;
    };
    const WordsModel* words = nullptr;
    if (given_.lexical.type != LexicalType::none) {
      const std::optional<WordsModel>& trained = words_of(experiment, data, bar, stop_asked);
      if (!trained) {
        trial.seconds = seconds_between(start, Clock::now());
        return trial;
      }
      words = &*trained;
    }
    start = Clock::now();  // other trials need not make it again
    if (experiment.model.device.cuda) {
      const ModelConfig config = model_config(experiment, *data.tokenizer, features, data.hashtags, threads_);
      try {
        check_memory(config, data, features, experiment.training.batch_size, experiment.tokenizer.max_tokens,
                     bar);
      } catch (const Error& error) {
        throw Diverged(error.what());  // another trial may fit
      }
    }
    const RunFolder run =
        RunFolder::create(trials_folder_.next(), experiment, *data.tokenizer, features, data.hashtags);
    const Training* asked = nullptr;
    std::optional<double> of_vectors;
    // Asked between any two steps: after the last step of an epoch that is once more at the least.
    const auto note_epoch = [&] {
      const TrainingState& state = asked->state();
      if (trial.curve.size() <= state.phase) trial.curve.resize(state.phase + 1);
      std::vector<double>& values = trial.curve.back();
      if (values.size() >= state.phase_epochs) return false;
      values.push_back(*state.best);
      if (asked->in_last_phase()) of_vectors = state.best;
      return true;
    };
    Training training(
        experiment, data, features, pretrained, run, bar,
        [&] {
          if (note_epoch() && may_be_worse && !best_.empty() &&
              is_clearly_worse(trial.curve, best_.front().curve, metric())) {
            trial.end = End::clearly_worse;
            return true;
          }
          return stop_asked();
        },
        words != nullptr ? Checkpoints::best : Checkpoints::between_phases);
    asked = &training;
    (void)training.run();
    note_epoch();
    trial.epochs = training.state().epochs;
    if (words == nullptr) {
      trial.value = of_vectors;
    } else if (of_vectors && trial.end != End::clearly_worse) {
      // What counts is what will answer: the mixture.
      trial.value = metric_of(mix_scores(experiment, data, run, *words).valid, metric());
    }
  } catch (const Diverged& error) {
    // The settings as given must do; that others do not is what trials are for.
    if (number == 1) throw;
    trial.end = End::failed;
    trial.failure = error.what();
    trial.value.reset();
  } catch (const Interrupted&) {
    trial.end = End::interrupted;
  }
  trial.seconds = seconds_between(start, Clock::now());
  return trial;
}

void Tuning::report(const Trial& trial, bool is_best) {
  std::string text = fmt::format("trial {}: {}: ", trial.number, space_.describe(trial.settings));
  if (trial.end == End::failed) {
    text += trial.failure;
  } else {
    text += trial.value ? fmt::format("{} {:.4f}", to_string(metric()), *trial.value)
                        : std::string("no ") + to_string(metric()) + " yet";
    text += fmt::format(" after {} epochs", trial.epochs);
  }
  text += fmt::format(", {}", format_seconds(trial.seconds));
  if (is_best) text += " (best so far)";
  if (trial.end == End::clearly_worse) text += "; ended, as it is clearly worse";
  if (trial.end == End::out_of_time) text += "; the time was up";
  if (trial.end == End::interrupted) text += "; stopped";
  reporter_.line(text);
}

void Tuning::write_best() {
  const Experiment& best = best_.front().settings;
  Experiment tuned = best;
  constexpr std::size_t kLongestName = 100;
  const std::string suffix = "-tuned";
  tuned.name = given_.name.substr(0, kLongestName - suffix.size()) + suffix;
  if (written_ && !first_difference(*written_, tuned)) return;
  // Somebody may have made one since the search began.
  if (!written_ && !may_overwrite_ && path_exists(output_)) {
    throw Error("there is a file '" + output_.string() + "' by now; --overwrite replaces it");
  }
  write_file(output_, experiment_to_json(tuned).dump(2) + "\n");
  written_ = std::move(tuned);
}

// A trial that was cut counts with what it reached: a whole training with its settings reaches that, too.
void Tuning::add_to_best(Trial trial) {
  if (!trial.value) return;
  const auto place = std::find_if(best_.begin(), best_.end(), [&](const Trial& other) {
    return is_better(*trial.value, *other.value, metric());
  });
  best_.insert(place, std::move(trial));
  if (best_.size() > 2) best_.pop_back();
}

// What the trainings with other seeds will take. All seeds have one model of words, which is trained again if
// it was not kept.
double Tuning::reserved_seconds() const {
  if (!first_) return 0;
  double of_vectors = 0;
  std::map<WordsKey, double> of_words;
  const auto add = [&](const Trial& trial) {
    of_vectors += trial.seconds;
    const auto found = seconds_of_words_.find(words_key(trial.settings));
    if (found != seconds_of_words_.end() && !words_.has(found->first)) of_words.insert(*found);
  };
  add(*first_);
  for (const Trial& trial : best_) {
    if (trial.number != 1) add(trial);
  }
  double seconds = kOtherSeeds * of_vectors;
  for (const auto& [key, of_key] : of_words) seconds += of_key;
  return std::min(kSlackForOtherSeeds * seconds, kMostForOtherSeeds * budget_);
}

void Tuning::search() {
  for (std::uint32_t number = 1; !most_trials_ || number <= *most_trials_; ++number) {
    const double reserved = reserved_seconds();
    if (number > 1 && time_left() <= reserved) return;
    const Experiment settings = space_.settings_of(number, number > 1 ? best_.front().settings : given_);
    // Drawn: as given, or as the best.
    if (number > 1 &&
        (!first_difference(settings, given_) || !first_difference(settings, best_.front().settings))) {
      continue;
    }
    Trial trial = train(number, settings, time_left_after(reserved), fmt::format("trial {}", number), true);
    if (trial.end == End::interrupted && trial.epochs == 0) return;
    ++made_;
    const End end = trial.end;
    const bool is_best =
        trial.value && (best_.empty() || is_better(*trial.value, *best_.front().value, metric()));
    report(trial, is_best);
    if (number == 1) first_ = trial;
    add_to_best(std::move(trial));
    if (is_best) write_best();
    if (end == End::interrupted || end == End::out_of_time || best_.empty()) return;
  }
}

// The best two and the settings as given, with other seeds. The settings as given are kept if they were the
// best with their own seed, or are the best in the mean.
void Tuning::try_other_seeds() {
  if (best_.empty() || best_.front().number == 1) return;
  std::vector<Trial> trials = best_;
  if (trials.back().number != 1) trials.push_back(*first_);
  std::vector<Finalist> finalists;
  finalists.reserve(trials.size());
  for (const Trial& trial : trials) finalists.push_back({trial.number, {*trial.value}});
  for (std::uint64_t other = 1; other <= kOtherSeeds; ++other) {
    const std::vector<Finalist> before = finalists;
    for (std::size_t i = 0; i < trials.size(); ++i) {
      Experiment settings = trials[i].settings;
      const auto largest = static_cast<std::uint64_t>(experiment_option("seed").maximum);
      settings.model.seed = (settings.model.seed + other) % (largest + 1);
      Trial again = train(trials[i].number, settings, time_left_after(0),
                          fmt::format("trial {}, seed {}", trials[i].number, settings.model.seed), false);
      if (again.end != End::finished || !again.value) {
        // A seed that not all of them had says nothing.
        finalists = before;
        if (again.end == End::failed) {
          reporter_.line(
              fmt::format("trial {} with seed {}: {}", trials[i].number, settings.model.seed, again.failure));
        }
        other = kOtherSeeds;
        break;
      }
      finalists[i].values.push_back(*again.value);
      reporter_.line(fmt::format("trial {} with seed {}: {} {:.4f} after {} epochs, {}", trials[i].number,
                                 settings.model.seed, to_string(metric()), *again.value, again.epochs,
                                 format_seconds(again.seconds)));
    }
  }
  if (finalists.front().values.size() < 2) {
    reporter_.line("there was no time to train the best with another seed: the difference may be luck");
    return;
  }
  const std::size_t best = best_of(finalists, metric());
  std::string text;
  for (std::size_t i = 0; i < finalists.size(); ++i) {
    text += fmt::format("{}trial {} {:.4f}", i == 0 ? "" : ", ", finalists[i].trial, finalists[i].mean());
  }
  reporter_.line(
      fmt::format("mean {} of {} seeds: {}", to_string(metric()), finalists.front().values.size(), text));
  std::rotate(trials.begin(), trials.begin() + static_cast<std::ptrdiff_t>(best),
              trials.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  best_ = std::move(trials);
  write_best();
}

int Tuning::run() {
  reporter_.line(fmt::format("tagspace {}: searching settings for '{}' by {}, for {}, on {}, {} threads",
                             kVersion, given_.name, to_string(metric()), format_seconds(budget_),
                             describe_device(given_), threads_));
  search();
  if (!stop_.arrived()) try_other_seeds();
  const std::string shown_output = shell_word(output_.string());
  const std::string trials = fmt::format("{} trial{} in {}", made_, made_ == 1 ? "" : "s",
                                         format_seconds(seconds_between(start_, Clock::now())));
  if (best_.empty()) {
    if (stop_.arrived()) {
      reporter_.line("stopped before there was anything to keep; nothing was written");
      return 128 + stop_.number();
    }
    throw Error("the time was up before the first trial had anything to keep; give it more --minutes");
  }
  const Trial& best = best_.front();
  reporter_.line(fmt::format(
      "{}: {}; the best is trial {}, {}: {} {:.4f}{}", stop_.arrived() ? "stopped" : "done", trials,
      best.number, space_.describe(best.settings), to_string(metric()), *best.value,
      best.number == 1 ? "" : fmt::format(", against {:.4f} with the settings as given", *first_->value)));
  reporter_.line(fmt::format("it is in {}; train it with: tagspace train {}", shown_output, shown_output));
  return stop_.arrived() ? 128 + stop_.number() : kSuccess;
}

}  // namespace

int tune(const TuneArguments& arguments) {
  Experiment experiment = load_experiment(arguments.config, arguments.settings);
  if (arguments.threads) experiment.training.threads = *arguments.threads;
  if (!experiment.has_vectors()) {
    throw Error("'" + arguments.config.string() +
                "': lexical.mixture is \"alone\": tune searches settings of vectors; allowed is \"learnt\"");
  }
  if (experiment.model.loss == LossType::skipgram) {
    throw Error("'" + arguments.config.string() +
                "': loss.type is \"skipgram\", which tune has nothing to search for; allowed are all others");
  }
  if (!experiment.pretrained.empty() && !arguments.dims.empty()) {
    throw Error("--dims searches encoder.dim, which the vectors of encoder.pretrained '" +
                experiment.pretrained.string() + "' decide; allowed is the one or the other");
  }
  experiment.model.device = choose_device(experiment);
  std::filesystem::path output = arguments.output;
  if (output.empty()) output = experiment.name + "-tuned.json";
  if (path_exists(output)) {
    std::error_code error;
    if (std::filesystem::is_directory(output, error))
      throw Error("the output '" + output.string() + "' is a folder, but must be a file");
    if (!arguments.overwrite) {
      throw Error("there is a file '" + output.string() +
                  "' already; choose another --output, or replace it with --overwrite");
    }
  }
  return Tuning(arguments, std::move(experiment), std::move(output)).run();
}

}  // namespace tagspace
