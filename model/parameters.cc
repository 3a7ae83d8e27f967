#include "model/parameters.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "model/checkpoint.h"
#include "model/kernels/huge_pages.h"

namespace tagspace {

Parameters::Parameters(const ModelConfig& config, at::Device device)
    : is_cnn_(config.encoder == EncoderType::cnn), has_sums_(config.optimizer == OptimizerType::adagrad) {
  if (config.hashtags < 2 || config.dim == 0 || config.vocab_size == 0) {
    throw std::logic_error("a model needs two hashtags, a word and a dimension");
  }
  at::set_num_threads(1);
  const auto dim = static_cast<std::int64_t>(config.dim);
  auto generator = at::make_generator<at::CPUGeneratorImpl>(config.seed);
  const auto table_type = config.table_format == TableFormat::bfloat16 ? at::kBFloat16 : at::kFloat;
  const auto normal = [&](std::int64_t rows) {
    at::Tensor values = at::empty({rows, dim}, at::kFloat);
    kernels::ask_for_huge_pages(values.data_ptr(), values.nbytes());
    return values.normal_(0, config.initial_scale, generator).to(device, table_type);
  };
  // As torch.nn.Conv1d and torch.nn.Linear start: uniform within 1 / sqrt(inputs).
  const auto uniform = [&](at::IntArrayRef shape, std::int64_t inputs) {
    const double limit = 1 / std::sqrt(static_cast<double>(inputs));
    return at::empty(shape, at::kFloat).uniform_(-limit, limit, generator).to(device);
  };
  hashtags.value = normal(config.hashtags);
  words.value = normal(config.vocab_size);
  if (is_cnn_) {
    const std::int64_t window = config.window;
    const std::int64_t filters = config.filters;
    convolution.value = uniform({filters, window, dim}, window * dim);
    bias.value = uniform({filters}, window * dim);
    linear.value = uniform({dim, filters}, filters);
    linear_bias.value = uniform({dim}, filters);
  }
  reset_optimizer();
}

void Parameters::reset_optimizer() {
  if (!has_sums_) return;
  for (auto* parameter : all()) {
    if (parameter->sums.defined()) {
      parameter->sums.zero_();
    } else {
      parameter->sums = at::empty_like(parameter->value, at::kFloat);
      if (parameter->sums.device().is_cpu()) {
        kernels::ask_for_huge_pages(parameter->sums.data_ptr(), parameter->sums.nbytes());
      }
      parameter->sums.zero_();
    }
  }
}

void Parameters::set_words(std::span<const std::uint32_t> rows, std::span<const float> vectors) {
  const auto dim = static_cast<std::size_t>(words.value.size(1));
  if (vectors.size() != rows.size() * dim) throw std::logic_error("word vectors of another length");
  // On the CPU in float32: the table itself, or a copy of it.
  const at::Tensor table = words.value.to(at::kCPU, at::kFloat);
  auto* const data = table.mutable_data_ptr<float>();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (rows[i] >= static_cast<std::uint64_t>(table.size(0)))
      throw std::logic_error("a row beyond the word table");
    std::copy_n(vectors.data() + i * dim, dim, data + rows[i] * dim);
  }
  if (!table.is_same(words.value)) words.value.copy_(table);
}

std::vector<Parameter*> Parameters::all() {
  if (!is_cnn_) return {&words, &hashtags};
  return {&words, &hashtags, &convolution, &bias, &linear, &linear_bias};
}

void Parameters::save(const std::filesystem::path& path, const std::string& state, bool optimizer) {
  std::vector<NamedArray> arrays;
  std::vector<at::Tensor>
      copies;  // what the arrays point to; the tensors themselves where they are on the CPU
  const auto add = [&](const std::string& name, const at::Tensor& tensor) {
    const auto sizes = tensor.sizes();
    copies.push_back(tensor.to(at::kCPU, at::kFloat));
    arrays.push_back({name, {sizes.begin(), sizes.end()}, copies.back().const_data_ptr<float>()});
  };
  for (const auto* parameter : all()) {
    add(parameter->name, parameter->value);
    if (optimizer && parameter->sums.defined())
      add(std::string("adagrad.") + parameter->name, parameter->sums);
  }
  write_checkpoint(path, arrays, state);
}

std::string Parameters::load(const std::filesystem::path& path, bool optimizer) {
  const CheckpointFile file(path);
  const auto copy = [&](const std::string& name, const at::Tensor& target) {
    const auto sizes = target.sizes();
    // Only read from.
    auto* const data =
        const_cast<float*>(file.get(name, {sizes.begin(), sizes.end()}).data());  // NOLINT(*-const-cast)
    target.copy_(at::from_blob(data, sizes, at::kFloat));
  };
  for (const auto* parameter : all()) {
    copy(parameter->name, parameter->value);
    if (optimizer && parameter->sums.defined())
      copy(std::string("adagrad.") + parameter->name, parameter->sums);
  }
  return file.text();
}

}  // namespace tagspace
