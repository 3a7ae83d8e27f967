#include "app/training_device.h"

#include <algorithm>
#include <fmt/format.h>
#include <string>

#include "base/error.h"
#include "model/gpu_memory.h"

namespace tagspace {
namespace {

std::string gibibytes(std::uint64_t bytes) {
  return fmt::format("{:.1f} GiB", static_cast<double>(bytes) / (1 << 30));
}

// What word2vec.h cannot do otherwise.
void check_skipgram(const Experiment& experiment) {
  const auto needs = [](const char* key, const std::string& found, const char* allowed) {
    throw Error(fmt::format("{} is {} and loss.type \"skipgram\", which allows {}", key, found, allowed));
  };
  const ModelConfig& model = experiment.model;
  if (model.encoder != EncoderType::bag) needs("encoder.type", "\"cnn\"", "\"bag\"");
  if (experiment.features.pairs) needs("encoder.pairs", "true", "false");
  if (experiment.features.beginnings) needs("encoder.beginnings", "true", "false");
  if (!experiment.pretrained.empty())
    needs("encoder.pretrained", "'" + experiment.pretrained.string() + "'", "\"\"");
  if (model.pooling != PoolingType::mean) needs("encoder.pooling", "\"sqrtn\"", "\"mean\"");
  if (model.score != ScoreType::cosine) needs("loss.score", "\"dot\"", "\"cosine\"");
  if (model.optimizer != OptimizerType::sgd) needs("optimizer.type", "\"adagrad\"", "\"sgd\"");
  if (model.max_norm != 0) needs("optimizer.max_norm", fmt::format("{}", model.max_norm), "0");
  if (model.word_dropout != 0) needs("encoder.word_dropout", fmt::format("{}", model.word_dropout), "0");
  if (model.dropout != 0) needs("encoder.dropout", fmt::format("{}", model.dropout), "0");
  if (model.negative_samples == 0) needs("loss.negative_samples", "0", "at least 1");
  const std::string& device = experiment.training.device;
  if (device != "auto" && device != "cpu")
    needs("training.device", '"' + device + '"', "\"auto\" and \"cpu\"");
}

}  // namespace

Device choose_device(const Experiment& experiment) {
  if (experiment.model.loss == LossType::skipgram) {
    check_skipgram(experiment);
    return {};
  }
  Device device;
  try {
    device = find_device(experiment.training.device);
  } catch (const Error& error) {
    throw Error("training.device: " + std::string(error.what()));
  }
  const auto needs_gpu = [&](const char* key, const char* value, const char* allowed) {
    throw Error(fmt::format(
        "{} is \"{}\", which only a GPU can do, and training.device is \"{}\"{}; allowed is "
        "\"{}\"",
        key, value, experiment.training.device,
        experiment.training.device == "auto" ? ", which is the CPU here: " + why_no_gpu() : "", allowed));
  };
  if (!device.cuda && experiment.model.row_updates == RowUpdateMode::hogwild) {
    needs_gpu("training.row_updates", "hogwild", "deterministic");
  }
  if (!device.cuda && experiment.model.table_format == TableFormat::bfloat16) {
    needs_gpu("training.table_format", "bfloat16", "float32");
  }
  if (device.cuda && experiment.model.negatives == NegativesType::exact) {
    throw Error(
        fmt::format("loss.negatives is \"exact\", which only the CPU can do, and training.device is \"{}\"; "
                    "allowed is \"auto\", \"shared\" or \"sampled\"",
                    experiment.training.device));
  }
  if (is_scored(experiment.model.loss) && experiment.model.all_positives) {
    throw Error(
        fmt::format("loss.all_positives is true and loss.type \"{}\", which takes one positive a post; "
                    "allowed is \"warp\", \"hinge\" or \"bpr\"",
                    to_string(experiment.model.loss)));
  }
  if (experiment.model.loss == LossType::starspace && experiment.model.negative_samples == 0) {
    throw Error("loss.negative_samples is 0 and loss.type \"starspace\", which needs at least 1");
  }
  if (experiment.model.negatives == NegativesType::shared && experiment.model.max_tries > kMostSharedTries) {
    throw Error(
        fmt::format("loss.max_tries is {} and loss.negatives \"shared\", which allows at most {}; "
                    "a larger number is allowed with \"auto\" and \"sampled\"",
                    experiment.model.max_tries, kMostSharedTries));
  }
  return device;
}

std::string describe_device(const Experiment& experiment) {
  if (experiment.model.device.cuda) return to_string(experiment.model.device);
  const bool takes_a_gpu = experiment.has_vectors() && experiment.model.loss != LossType::skipgram &&
                           experiment.training.device == "auto";
  return takes_a_gpu ? fmt::format("the CPU (no GPU: {})", why_no_gpu()) : "the CPU";
}

void check_memory(const ModelConfig& config, const PreparedData& data,
                  const std::optional<PostFeatures>& features, std::uint32_t batch_size,
                  std::uint32_t longest_post, Reporter& reporter) {
  const DeviceProperties gpu = properties_of(config.device);
  // With pairs and beginnings, at most five rows of the table for each token.
  const auto posts = static_cast<double>(std::max<std::uint64_t>(1, data.train->posts()));
  const PostSize post{(features ? 5.0 : 1.0) * static_cast<double>(data.train->tokens()) / posts,
                      static_cast<double>(data.train->hashtags()) / posts};
  const GpuMemory needed = estimate_gpu_memory(config, post.times(batch_size), longest_post);
  const std::uint64_t most = largest_batch(config, post, longest_post, gpu.free_bytes);
  const std::string of_model_and_batch =
      fmt::format("{} for the model, {} for batches of {} posts and, held back, {} for LibTorch and cuBLAS",
                  gibibytes(needed.parameters), gibibytes(needed.workspace), format_count(batch_size),
                  gibibytes(kGpuReserve));
  const std::string where = fmt::format("{} ({}) has {} free of {}", to_string(config.device), gpu.name,
                                        gibibytes(gpu.free_bytes), gibibytes(gpu.total_bytes));
  if (needed.total() > gpu.free_bytes) {
    throw Error(fmt::format("training does not fit: {}, and it takes about {}; {}", where, of_model_and_batch,
                            most > 0
                                ? "batches of up to " + format_count(most) + " posts would fit"
                                : "training.table_format \"bfloat16\", fewer words or hashtags, or a smaller "
                                  "encoder.dim make the model smaller"));
  }
  reporter.line(fmt::format("{}; training takes about {}; batches of up to {} posts would fit", where,
                            of_model_and_batch, format_count(most)));
}

}  // namespace tagspace
