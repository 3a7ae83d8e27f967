// The device that an experiment is trained on, and whether it can do what is asked of it.
#pragma once

#include <cstdint>
#include <string>

#include "app/experiment.h"
#include "app/progress.h"
#include "data_pipeline/corpus.h"
#include "model/model.h"

namespace tagspace {

// The device to train on; Error if the experiment asks for what it cannot do.
[[nodiscard]] Device choose_device(const Experiment& experiment);

// For people: "cuda:0", "the CPU"; of an experiment that would have taken a GPU, with the reason why there is
// none: "the CPU (no GPU: no NVIDIA driver is there)". After choose_device().
[[nodiscard]] std::string describe_device(const Experiment& experiment);

// Says what training takes of the GPU's memory; Error if there is not enough.
void check_memory(const ModelConfig& config, const PreparedData& data,
                  const std::optional<PostFeatures>& features, std::uint32_t batch_size,
                  std::uint32_t longest_post, Reporter& reporter);

}  // namespace tagspace
