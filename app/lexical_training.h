// The part of a training that comes after the epochs of the embedding, if there is one: the sparse model of
// words, and how its score and the embedding's are mixed.
#pragma once

#include <functional>

#include "app/experiment.h"
#include "app/progress.h"
#include "app/run_folder.h"
#include "data_pipeline/corpus.h"

namespace tagspace {

// Trains: a linear model until the validation's metric has not become better for
// training.early_stopping.patience epochs, or for lexical.epochs. Finds the mixture that is best on the
// validation posts, unless it is to stand alone; and writes the run's lexical.safetensors. False, with
// nothing written, if stop_asked.
[[nodiscard]] bool train_lexical(const Experiment& experiment, const PreparedData& data, const RunFolder& run,
                                 Reporter& reporter, const std::function<bool()>& stop_asked);

}  // namespace tagspace
