// The part of a training that comes after the epochs of the embedding, if there is one: the sparse model of
// words, and how its score and the embedding's are mixed.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "app/experiment.h"
#include "app/progress.h"
#include "app/run_folder.h"
#include "data_pipeline/corpus.h"
#include "model/inference/ranking.h"
#include "model/lexical/lexical_model.h"

namespace tagspace {

// The model of words, of its best epoch, and not yet mixed with anything.
struct WordsModel {
  LexicalArrays arrays;
  std::uint32_t epoch = 0;  // the best; 0: trained without epochs
};

// Trains it: a linear model until the validation's metric has not become better for
// training.early_stopping.patience epochs, or for lexical.epochs. It knows nothing of the embedding. None if
// stop_asked; Diverged if the rate is too high.
[[nodiscard]] std::optional<WordsModel> train_words(const Experiment& experiment, const PreparedData& data,
                                                    Reporter& reporter,
                                                    const std::function<bool()>& stop_asked);

struct MixedScores {
  double share = 0;  // of the embedding
  ScoreMixture mixture;
  RankingMetrics valid;  // averages
};

// The mixture with the run's embedding that is best on the validation posts.
[[nodiscard]] MixedScores mix_scores(const Experiment& experiment, const PreparedData& data,
                                     const RunFolder& run, const WordsModel& words);

// Both, unless the model is to stand alone; writes the run's lexical.safetensors. False, with nothing
// written, if stop_asked.
[[nodiscard]] bool train_lexical(const Experiment& experiment, const PreparedData& data, const RunFolder& run,
                                 Reporter& reporter, const std::function<bool()>& stop_asked);

}  // namespace tagspace
