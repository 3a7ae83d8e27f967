// The training step on a GPU.
#pragma once

#include <memory>

#include "model/engine.h"

namespace tagspace {

// `parameters`, on `device`, must outlive the engine. With a CPU as the device all tensors are in the host's
// memory, and the kernels linked to the program must be those compiled for the CPU: this is how the whole
// step is tested without a GPU.
[[nodiscard]] std::unique_ptr<Engine> make_gpu_engine(const ModelConfig& config, Parameters& parameters,
                                                      at::Device device);

}  // namespace tagspace
