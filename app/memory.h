// What training takes of the machine's memory, said before it begins.
#pragma once

#include <cstdint>

#include "app/experiment.h"
#include "app/progress.h"
#include "data_pipeline/corpus.h"
#include "model/model.h"

namespace tagspace {

// One line with the most memory that training on the CPU will hold, and what it is made of; a second one that
// warns if the machine, or the limit that it sets this process, has less. Counted as the kernel counts it
// (resident set), pages of mapped files included: those it takes back when memory is short.
void report_memory(const ModelConfig& config, const Experiment& experiment, const PreparedData& data,
                   const std::optional<PostFeatures>& features, Reporter& reporter);

}  // namespace tagspace
