// The last part of a training: how the scores of its model become probabilities.
#pragma once

#include <functional>

#include "app/experiment.h"
#include "app/progress.h"
#include "app/run_folder.h"

namespace tagspace {

// Fits the run's calibration on the posts of data.valid, all of them or every second, fourth, ..., so that
// there are no more than 20,000, and writes calibration.json. Those without a hashtag of the table count,
// too: nothing that is answered to them is right. False, with nothing written, if stop_asked.
[[nodiscard]] bool train_calibration(const Experiment& experiment, const RunFolder& run, Reporter& reporter,
                                     const std::function<bool()>& stop_asked);

}  // namespace tagspace
