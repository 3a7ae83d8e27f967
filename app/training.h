// The training loop: epochs of steps, validation, checkpoints, early stopping, and going on where it was
// stopped.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "app/experiment.h"
#include "app/progress.h"
#include "app/run_folder.h"
#include "data_pipeline/corpus.h"
#include "data_pipeline/word_vectors.h"
#include "model/inference/ranking.h"
#include "model/model.h"

namespace tagspace {

// The metric that decides which epoch is the best, and whether one value of it is better than another.
[[nodiscard]] double metric_of(const RankingMetrics& averages, Metric metric);
[[nodiscard]] bool is_better(double value, double than, Metric metric);
[[nodiscard]] nlohmann::ordered_json to_json(const RankingMetrics& averages);

// Where training stands: with the tensors and the optimiser, all that decides how it goes on. Kept in
// last.safetensors.
struct TrainingState {
  std::uint32_t phase = 0;         // 0, or 1 after the bag epochs of a cnn
  std::uint32_t phase_epochs = 0;  // finished in this phase
  std::uint32_t epochs = 0;        // finished in all
  std::uint64_t batch = 0;         // the next of the epoch
  std::uint64_t step = 0;          // steps in all
  std::uint64_t phase_step = 0;    // steps in this phase
  StepStatistics statistics;       // of the epoch so far
  double mean_tries = 1;           // of a post, in the phase's last epoch; 1 before that

  std::optional<double> best;      // the metric's best value in this phase
  std::uint32_t best_epoch = 0;    // the epoch (of all) that reached it
  std::uint32_t stale_epochs = 0;  // epochs since then

  std::optional<bool> on_gpu;  // the device that it was written on; older states do not say
  double epoch_seconds = 0;    // steps of this epoch took
  double waiting_seconds = 0;  // of those, in which the next batch was waited for
  double seconds = 0;          // training in all
  std::string data;            // fingerprint of the posts trained and validated on

  [[nodiscard]] std::string to_json() const;
  // Error, naming `file`, if it is no state.
  [[nodiscard]] static TrainingState from_json(const std::string& text, const std::string& file);
};

// What TrainingState::data is.
[[nodiscard]] std::string fingerprint(const PreparedData& data);
// The state in the run's last.safetensors, whose text is given. Error if it belongs to other posts.
[[nodiscard]] TrainingState state_to_resume(const std::string& text, const RunFolder& run,
                                            const Experiment& experiment, const PreparedData& data);
// The lines of the run's metrics.jsonl for so many epochs; what a training that was killed has written behind
// them is taken out of the file at once, as there may be no epoch left that would write it anew.
[[nodiscard]] std::string metrics_to_resume(const RunFolder& run, std::uint32_t epochs);

// How the batches of a training are made.
[[nodiscard]] BatchLoader::Options loader_options(const Experiment& experiment, std::uint32_t threads,
                                                  const std::optional<PostFeatures>& features);

// The features of the training posts that the encoder is to take in; none if the experiment wants none.
[[nodiscard]] std::optional<PostFeatures> count_features(const Experiment& experiment,
                                                         const PreparedData& data);

// What a training leaves in its run folder.
enum class Checkpoints {
  all,
  // Only the best epoch's model, nothing to go on from.
  best,
  // Only the tables that a later phase begins from, for a training of which the figures alone are asked.
  between_phases
};

// What encoder.pretrained names, scaled to begin with, and a line on it; none if it names nothing or no
// vectors are to be trained. `interrupted` is polled; when it returns true, Interrupted is thrown.
[[nodiscard]] std::optional<WordVectors> read_pretrained(const Experiment& experiment,
                                                         const PreparedData& data, Reporter& reporter,
                                                         const std::function<bool()>& interrupted);

class Training {
 public:
  // `pretrained` as read_pretrained() gives it; of no use to a training that resumes. `stop_asked` is polled
  // between steps.
  Training(const Experiment& experiment, const PreparedData& data,
           const std::optional<PostFeatures>& features, const std::optional<WordVectors>& pretrained,
           const RunFolder& run, Reporter& reporter, std::function<bool()> stop_asked,
           Checkpoints checkpoints = Checkpoints::all);

  // Goes on from last.safetensors, if training came so far as to write one. Error if it belongs to other
  // posts. Says so where it was written on another kind of device.
  void resume();

  // Trains to the end: true; or until stop_asked, with last.safetensors written: false.
  bool run();
  // Whether this is the phase whose best epoch is the model.
  [[nodiscard]] bool in_last_phase() const { return state_.phase + 1 == phases_.size(); }

  [[nodiscard]] const TrainingState& state() const { return state_; }

 private:
  struct Phase {
    std::string name;
    bool as_bag;
    std::uint32_t epochs;
  };

  [[nodiscard]] const Phase& phase() const { return phases_[state_.phase]; }
  [[nodiscard]] bool phase_is_over() const;
  void enter_next_phase();
  bool train_epoch();
  [[nodiscard]] std::optional<RankingMetrics> validate();
  void finish_epoch(const RankingMetrics& validation);
  void save_last();
  void choose_negatives();
  void report_progress(const RecentStatistics& recent);

  const Experiment& experiment_;
  const PreparedData& data_;
  const std::optional<PostFeatures>& features_;
  const RunFolder& run_;
  Reporter& reporter_;
  std::function<bool()> stop_asked_;
  Checkpoints checkpoints_;
  std::uint32_t threads_;
  std::vector<Phase> phases_;
  Model model_;
  BatchLoader loader_;
  TrainingState state_;
  std::optional<NegativesType> negatives_;  // in use
  std::string metrics_;                     // the lines of metrics.jsonl
};

}  // namespace tagspace
