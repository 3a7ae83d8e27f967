// A training whose loss.type is skipgram: epochs of word2vec in place of those of training.h.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "app/experiment.h"
#include "app/progress.h"
#include "app/run_folder.h"
#include "data_pipeline/corpus.h"
#include "model/inference/ranking.h"

namespace tagspace {

// Trains for training.epochs, or until training.early_stopping ends it, and writes the run's best.safetensors
// after every epoch that is the best on the validation posts, and metrics.jsonl. The vectors of words and
// hashtags are a bag's under the cosine score. Returns what was said of the best epoch; nothing if
// stop_asked: it cannot go on from where it was, only begin again.
[[nodiscard]] std::optional<std::string> train_word2vec(const Experiment& experiment,
                                                        const PreparedData& data, const RunFolder& run,
                                                        Reporter& reporter,
                                                        const std::function<bool()>& stop_asked);

}  // namespace tagspace
