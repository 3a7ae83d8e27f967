#include "model/engine.h"

#include <cmath>
#include <string>

#include "base/error.h"

namespace tagspace {

std::uint32_t drop_limit(float rate) { return static_cast<std::uint32_t>(std::lround(rate * 65536)); }

void fail_of_divergence(const char* when, std::uint64_t step) {
  throw Error(std::string("the loss is not a finite number any more (") + when + " " + std::to_string(step) +
              "): training has diverged; lower optimizer.learning_rate or set optimizer.max_norm");
}

}  // namespace tagspace
