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

// Trains for training.epochs, or until training.early_stopping ends it, and writes after every epoch
// metrics.jsonl, last.safetensors, from which another call goes on if told to `resume`, and, where the epoch
// is the best on the validation posts, best.safetensors. The vectors of words and hashtags are a bag's under
// the cosine score. Returns what was said of the best epoch; nothing if stop_asked, and the epoch begun is
// lost. Error if last.safetensors belongs to other posts.
[[nodiscard]] std::optional<std::string> train_word2vec(const Experiment& experiment,
                                                        const PreparedData& data, const RunFolder& run,
                                                        bool resume, Reporter& reporter,
                                                        const std::function<bool()>& stop_asked);

}  // namespace tagspace
