#include "model/model.h"

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>
#include <stdexcept>

#include "base/error.h"
#include "model/engine.h"
#include "model/inference/post_encoder.h"

#ifdef TAGSPACE_HAS_CUDA
#include "model/gpu_engine.h"
#endif

namespace tagspace {
namespace {

// Runs `body`; LibTorch's errors become messages.
template <typename Body>
auto with_errors(const Body& body) -> decltype(body()) {
  try {
    return body();
  } catch (const c10::Error&) {
    throw_as_error();
  }
}

at::Device torch_device(const Device& device) {
  return device.cuda ? at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(device.index))
                     : at::Device(at::kCPU);
}

std::unique_ptr<Engine> make_engine(const ModelConfig& config, Parameters& parameters) {
  if (!config.device.cuda) {
    if (config.table_format != TableFormat::float32 || config.row_updates != RowUpdateMode::deterministic) {
      throw std::logic_error("a model on the CPU has float32 tables and deterministic updates");
    }
    return make_cpu_engine(config, parameters);
  }
#ifdef TAGSPACE_HAS_CUDA
  return make_gpu_engine(config, parameters, torch_device(config.device));
#else
  throw std::logic_error("a model on a GPU, in a build that knows none");
#endif
}

static_assert(kMostSharedTries == kernels::kLargestPool);

kernels::Negatives negatives_of(const ModelConfig& config, double mean_tries) {
  switch (config.negatives) {
    case NegativesType::sampled:
      return kernels::Negatives::sampled;
    case NegativesType::shared:
      return kernels::Negatives::shared;
    case NegativesType::exact:
      if (config.device.cuda) throw std::logic_error("a model on a GPU does not score all hashtags");
      return kernels::Negatives::exact;
    case NegativesType::automatic:
      break;
  }
  if (config.loss != LossType::warp) return kernels::Negatives::sampled;  // one a pair
  // No table is so small that all of it is scored on a GPU.
  return kernels::cheapest_negatives(config.hashtags, config.device.cuda ? 0 : mean_tries, config.max_tries);
}

}  // namespace

struct Model::Implementation {
  explicit Implementation(const ModelConfig& model_config)
      : config(model_config),
        parameters(config, torch_device(config.device)),
        engine(make_engine(config, parameters)) {
    engine->use_negatives(negatives_of(config, 1), false);
  }

  [[nodiscard]] std::vector<float> vectors_of(const Parameter& table) const {
    const at::Tensor values = table.value.to(at::kCPU, at::kFloat);
    const float* data = values.const_data_ptr<float>();
    std::vector<float> vectors(data, data + values.numel());
    if (config.score == ScoreType::cosine) normalize_rows(vectors, config.dim);
    return vectors;
  }

  ModelConfig config;
  Parameters parameters;
  std::unique_ptr<Engine> engine;
};

Model::Model(const ModelConfig& config)
    : implementation_(with_errors([&] { return std::make_unique<Implementation>(config); })) {}
Model::~Model() = default;
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;

const ModelConfig& Model::config() const { return implementation_->config; }

StepStatistics Model::train_step(const PackedBatch& batch, std::uint64_t step, float learning_rate_factor,
                                 bool as_bag, const std::function<void()>& meanwhile) {
  const std::function<void()> nothing = [] {};
  return implementation_->engine->train_step(batch, step, learning_rate_factor, as_bag,
                                             meanwhile ? meanwhile : nothing);
}

StepStatistics Model::finish_steps() { return implementation_->engine->finish_steps(); }

NegativesType Model::choose_negatives(double mean_tries) {
  const kernels::Negatives chosen = negatives_of(config(), mean_tries);
  implementation_->engine->use_negatives(chosen, kernels::searches_in_parts(mean_tries));
  return static_cast<NegativesType>(chosen);
}

void Model::set_word_vectors(std::span<const std::uint32_t> rows, std::span<const float> vectors) {
  with_errors([&] { implementation_->parameters.set_words(rows, vectors); });
}

void Model::reset_optimizer() {
  with_errors([&] { implementation_->parameters.reset_optimizer(); });
}

void Model::encode(const PackedBatch& batch, bool as_bag, float* post_vectors) const {
  implementation_->engine->encode(batch, as_bag, post_vectors);
  if (config().score == ScoreType::cosine) {
    normalize_rows({post_vectors, batch.posts() * config().dim}, config().dim);
  }
}

std::vector<float> Model::hashtag_vectors() const {
  return with_errors([&] { return implementation_->vectors_of(implementation_->parameters.hashtags); });
}
std::vector<float> Model::word_vectors() const {
  return with_errors([&] { return implementation_->vectors_of(implementation_->parameters.words); });
}

void Model::save(const std::filesystem::path& path, const std::string& state, bool optimizer) const {
  with_errors([&] { implementation_->parameters.save(path, state, optimizer); });
}

std::string Model::load(const std::filesystem::path& path, bool optimizer) {
  return with_errors([&] { return implementation_->parameters.load(path, optimizer); });
}

}  // namespace tagspace
