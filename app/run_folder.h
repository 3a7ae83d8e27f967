// The run folder: everything that a training leaves behind, and all that prediction needs.
//
//   config.json        the complete experiment, with "format", the version of this layout
//   tokenizer/         see Tokenizer::save
//   hashtags.tsv       the hashtag table's names and training counts
//   features.safetensors  the pairs and beginnings of words that have vectors, where the experiment has some
//   best.safetensors   the model of the best epoch
//   lexical.safetensors  the sparse model of words, and how the two are mixed, where the experiment has one
//   calibration.json   how scores become probabilities; written at the end of training
//   last.safetensors   the model, the optimiser and the training's state after the last epoch, or at Ctrl-C
//   metrics.jsonl      one line an epoch
//   log.txt            what training said
//
// No file refers to another by its path, so the folder can be moved. Each is written whole or not at all.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "app/experiment.h"
#include "data_pipeline/corpus.h"
#include "data_pipeline/tokenizer.h"

namespace tagspace {

// Whether there is such a file or folder. Error if the system does not tell, for want of permission.
[[nodiscard]] bool path_exists(const std::filesystem::path& path);

class RunFolder {
 public:
  static constexpr std::uint32_t kFormat = 1;

  // Opens a run. Error if there is none, or if a newer version of the program made it.
  explicit RunFolder(std::filesystem::path path);

  // Makes a run in a folder that is not there or is empty; what was begun is removed again if that fails.
  [[nodiscard]] static RunFolder create(const std::filesystem::path& path, const Experiment& experiment,
                                        const Tokenizer& tokenizer,
                                        const std::optional<PostFeatures>& features,
                                        const HashtagVocabulary& hashtags);
  // Error if create() would refuse.
  static void check_free(const std::filesystem::path& path);

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] const Experiment& experiment() const { return experiment_; }
  // Replaces config.json, after a training was resumed with other settings.
  void replace_experiment(const Experiment& experiment);

  [[nodiscard]] std::unique_ptr<Tokenizer> load_tokenizer() const;
  [[nodiscard]] HashtagVocabulary load_hashtags() const;
  // None if the experiment has none.
  [[nodiscard]] std::optional<PostFeatures> load_features(const Tokenizer& tokenizer) const;

  [[nodiscard]] std::filesystem::path best() const { return path_ / "best.safetensors"; }
  [[nodiscard]] std::filesystem::path lexical() const { return path_ / "lexical.safetensors"; }
  [[nodiscard]] std::filesystem::path calibration() const { return path_ / "calibration.json"; }
  [[nodiscard]] std::filesystem::path last() const { return path_ / "last.safetensors"; }
  [[nodiscard]] std::filesystem::path metrics() const { return path_ / "metrics.jsonl"; }
  [[nodiscard]] std::filesystem::path log() const { return path_ / "log.txt"; }

  // Removes what a program that was killed left half-written.
  void remove_partial_files() const;

 private:
  RunFolder(std::filesystem::path path, Experiment experiment);

  std::filesystem::path path_;
  Experiment experiment_;
};

}  // namespace tagspace
