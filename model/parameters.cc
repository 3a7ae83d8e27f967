#include "model/parameters.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <sys/mman.h>

#include "model/checkpoint.h"

namespace tagspace {

namespace {

// Rows of a large table are read at random places: with pages of 4 KiB nearly every one would first need its
// page to be looked up. A hint, which a system may ignore. To be given before the first value is written.
void ask_for_huge_pages(const at::Tensor& values) {
#ifdef MADV_HUGEPAGE
  constexpr std::uintptr_t kHugePage = std::uintptr_t{2} << 20;
  const auto begin = reinterpret_cast<std::uintptr_t>(values.data_ptr());
  const std::uintptr_t first = (begin + kHugePage - 1) / kHugePage * kHugePage;
  const std::uintptr_t last = (begin + values.nbytes()) / kHugePage * kHugePage;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

}  // namespace

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
    ask_for_huge_pages(values);
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
      if (parameter->sums.device().is_cpu()) ask_for_huge_pages(parameter->sums);
      parameter->sums.zero_();
    }
  }
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
