#include "model/model.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "base/error.h"
#include "model/checkpoint.h"
#include "model/engine.h"

#ifdef TAGSPACE_HAS_CUDA
#include "model/gpu_engine.h"
#endif

namespace tagspace {
namespace {

void normalize(float* vector, std::size_t dim) {
  float squared_norm = 0;
  for (std::size_t i = 0; i < dim; ++i) squared_norm += vector[i] * vector[i];
  if (squared_norm == 0) return;
  const float factor = 1 / std::sqrt(squared_norm);
  for (std::size_t i = 0; i < dim; ++i) vector[i] *= factor;
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
  if (config.device.cuda) return kernels::Negatives::shared;
  return kernels::cheapest_negatives(config.hashtags, mean_tries);
}

}  // namespace

struct Model::Implementation {
  explicit Implementation(const ModelConfig& model_config)
      : config(model_config),
        parameters(config, torch_device(config.device)),
        engine(make_engine(config, parameters)) {
    engine->use_negatives(negatives_of(config, 1));
  }

  [[nodiscard]] std::vector<float> vectors_of(const Parameter& table) const {
    const at::Tensor values = table.value.to(at::kCPU, at::kFloat);
    const float* data = values.const_data_ptr<float>();
    std::vector<float> vectors(data, data + values.numel());
    if (config.score == ScoreType::cosine) {
      for (std::size_t i = 0; i < vectors.size(); i += config.dim) normalize(vectors.data() + i, config.dim);
    }
    return vectors;
  }

  ModelConfig config;
  Parameters parameters;
  std::unique_ptr<Engine> engine;
};

Model::Model(const ModelConfig& config) : implementation_(std::make_unique<Implementation>(config)) {}
Model::~Model() = default;
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;

const ModelConfig& Model::config() const { return implementation_->config; }

StepStatistics Model::train_step(const PackedBatch& batch, std::uint64_t step, float learning_rate_factor,
                                 bool as_bag) {
  return implementation_->engine->train_step(batch, step, learning_rate_factor, as_bag);
}

StepStatistics Model::finish_steps() { return implementation_->engine->finish_steps(); }

NegativesType Model::choose_negatives(double mean_tries) {
  const kernels::Negatives chosen = negatives_of(config(), mean_tries);
  implementation_->engine->use_negatives(chosen);
  return static_cast<NegativesType>(chosen);
}

void Model::reset_optimizer() { implementation_->parameters.reset_optimizer(); }

void Model::encode(const PackedBatch& batch, bool as_bag, float* post_vectors) const {
  implementation_->engine->encode(batch, as_bag, post_vectors);
  if (config().score != ScoreType::cosine) return;
  for (std::size_t i = 0; i < batch.posts(); ++i) normalize(post_vectors + i * config().dim, config().dim);
}

std::vector<float> Model::hashtag_vectors() const {
  return implementation_->vectors_of(implementation_->parameters.hashtags);
}
std::vector<float> Model::word_vectors() const {
  return implementation_->vectors_of(implementation_->parameters.words);
}

void Model::save(const std::filesystem::path& path, const std::string& state, bool optimizer) const {
  std::vector<NamedArray> arrays;
  std::vector<at::Tensor>
      copies;  // what the arrays point to; the tensors themselves where they are on the CPU
  const auto add = [&](const std::string& name, const at::Tensor& tensor) {
    const auto sizes = tensor.sizes();
    copies.push_back(tensor.to(at::kCPU, at::kFloat));
    arrays.push_back({name, {sizes.begin(), sizes.end()}, copies.back().const_data_ptr<float>()});
  };
  for (const auto* parameter : implementation_->parameters.all()) {
    add(parameter->name, parameter->value);
    if (optimizer && parameter->sums.defined())
      add(std::string("adagrad.") + parameter->name, parameter->sums);
  }
  write_checkpoint(path, arrays, state);
}

std::string Model::load(const std::filesystem::path& path, bool optimizer) {
  const CheckpointFile file(path);
  const auto copy = [&](const std::string& name, const at::Tensor& target) {
    const auto* array = file.find(name);
    if (array == nullptr) throw Error("'" + path.string() + "' has no array '" + name + "'");
    const auto sizes = target.sizes();
    if (!std::equal(sizes.begin(), sizes.end(), array->shape.begin(), array->shape.end())) {
      const auto text = [](const auto& shape) {
        std::string result;
        for (const auto extent : shape) result += (result.empty() ? "" : " x ") + std::to_string(extent);
        return result;
      };
      throw Error("'" + path.string() + "' does not belong to this model: '" + name + "' is " +
                  text(array->shape) + ", and should be " + text(sizes));
    }
    // Only read from.
    auto* const data = const_cast<float*>(array->data);  // NOLINT(cppcoreguidelines-pro-type-const-cast)
    target.copy_(at::from_blob(data, sizes, at::kFloat));
  };
  for (const auto* parameter : implementation_->parameters.all()) {
    copy(parameter->name, parameter->value);
    if (optimizer && parameter->sums.defined())
      copy(std::string("adagrad.") + parameter->name, parameter->sums);
  }
  return file.text();
}

}  // namespace tagspace
