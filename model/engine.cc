#include "model/engine.h"

#include <c10/util/Exception.h>
#include <cmath>
#include <string>

#include "base/error.h"

namespace tagspace {

std::uint32_t drop_limit(float rate) { return static_cast<std::uint32_t>(std::lround(rate * 65536)); }

void throw_as_error() {
  try {
    throw;
  } catch (const c10::OutOfMemoryError&) {
    throw Error(
        "the GPU's memory is used up: training takes less of it with a lower training.batch_size or "
        "encoder.dim, or with the tables in half of it (training.table_format); other commands can do "
        "without "
        "it (--device cpu)");
  } catch (const c10::Error& error) {
    throw Error(std::string("LibTorch reports: ") + error.what_without_backtrace());
  }
}

void fail_of_divergence(const char* when, std::uint64_t step) {
  throw Error(std::string("the loss is not a finite number any more (") + when + " " + std::to_string(step) +
              "): training has diverged; lower optimizer.learning_rate or set optimizer.max_norm");
}

}  // namespace tagspace
