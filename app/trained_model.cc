#include "app/trained_model.h"

#include <utility>

#include "base/error.h"
#include "data_pipeline/parallel.h"

namespace tagspace {

void TrainedModel::encode(const PackedBatch& batch, float* post_vectors) {
  if (on_device) {
    on_device(batch, post_vectors);
  } else {
    model.encode(batch, as_bag, post_vectors, *context);
  }
}

TrainedModel load_trained_model(const std::filesystem::path& run, std::uint32_t threads,
                                const std::string& device) {
  RunFolder folder(run);
  if (!path_exists(folder.best())) {
    throw Error("the run '" + run.string() +
                "' has no best.safetensors: it is written after the first epoch of training");
  }
  auto tokenizer = folder.load_tokenizer();
  HashtagVocabulary hashtags = folder.load_hashtags();
  const std::uint32_t all_threads = resolve_threads(threads);
  const ModelConfig config = model_config(folder.experiment(), *tokenizer, hashtags, all_threads);
  InferenceModel model(folder.best(), config);
  const auto state = nlohmann::json::parse(model.state(), nullptr, false);
  if (!state.is_object() || !state.contains("as_bag") || !state["as_bag"].is_boolean()) {
    throw Error("'" + folder.best().string() +
                "' is no checkpoint of a training: its state does not say \"as_bag\"");
  }
  const bool as_bag = state["as_bag"].get<bool>();
  EncodePosts on_device;
  if (device != "cpu") on_device = encoder_on_device(device, folder.best(), config, as_bag);
  return {std::move(folder),
          std::move(tokenizer),
          std::move(hashtags),
          std::move(model),
          as_bag,
          all_threads,
          std::make_unique<kernels::CpuContext>(all_threads),
          std::move(on_device)};
}

}  // namespace tagspace
