// The training step on a GPU: the project's kernels, LibTorch's matrix products between them, all on
// LibTorch's current stream and in memory from its caching allocator.
//
// The host enqueues a step and does not wait for it. A batch is laid end to end in one of a few pinned
// buffers and copied by a stream of its own while the steps before it compute. Violators, tries and losses
// are added up on the device, and read every few steps, when they have long been there. Only encode() and
// finish_steps() wait.
#include "model/gpu_engine.h"

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/diff.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/repeat_interleave.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>
#include <algorithm>
#include <array>
#include <c10/core/DeviceGuard.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <cmath>
#include <cstring>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/error.h"
#include "model/gpu_memory.h"
#include "model/inference/post_encoder.h"
#include "model/kernels/cuda/encoder.cuh"
#include "model/kernels/cuda/row_update.cuh"
#include "model/kernels/cuda/runtime.cuh"
#include "model/kernels/cuda/warp.cuh"
#include "model/scored_loss.h"

namespace tagspace {
namespace {

namespace cuda = kernels::cuda;
using kernels::RandomStream;

constexpr std::uint64_t kStatisticsSteps = 16;  // between two readings
constexpr std::size_t kPostsPerEncoding = 1024;
constexpr unsigned kUpdateWarps = 4;

void check(int error) {
  if (error != 0) {
    throw Error(std::string("the GPU reports: ") + cuda::error_text(error) + " (error " +
                std::to_string(error) + ")");
  }
}

// Memory that only grows. LibTorch's caching allocator holds what is given back until the work enqueued
// before is done with it.
class Buffer {
 public:
  template <typename T>
  T* get(at::Device device, std::size_t count) {
    const std::size_t bytes = std::max<std::size_t>(1, count) * sizeof(T);
    if (!storage_.defined() || static_cast<std::size_t>(storage_.numel()) < bytes) {
      storage_ = at::Tensor();  // before the new one is there
      storage_ = at::empty({static_cast<std::int64_t>(bytes)}, at::TensorOptions(at::kByte).device(device));
    }
    return static_cast<T*>(storage_.mutable_data_ptr());
  }
  [[nodiscard]] std::size_t bytes() const {
    return storage_.defined() ? static_cast<std::size_t>(storage_.numel()) : 0;
  }

 private:
  at::Tensor storage_;
};

at::Tensor pinned(std::size_t bytes, bool on_gpu) {
  return at::empty({static_cast<std::int64_t>(bytes)}, at::TensorOptions(at::kByte).pinned_memory(on_gpu));
}

// A batch as the kernels see it, in device memory, and what the host knows of it.
struct DeviceBatch {
  std::uint32_t posts = 0;
  std::uint32_t tokens = 0;
  const std::uint32_t* words = nullptr;            // [tokens]
  const std::uint32_t* token_offsets = nullptr;    // [posts + 1]
  const std::uint32_t* hashtags = nullptr;         // of all posts
  const std::uint32_t* hashtag_offsets = nullptr;  // [posts + 1]
  std::uint32_t hashtag_count = 0;                 // of all posts
  std::vector<std::uint32_t> host_offsets;         // [posts + 1] of the tokens
};

// Posts [first, first + count) of a batch, whose windows and products are alive at the same time.
struct Piece {
  std::uint32_t first = 0;
  std::uint32_t count = 0;
  std::uint32_t first_token = 0;
  std::uint32_t tokens = 0;
};

class GpuEngine final : public Engine {
 public:
  GpuEngine(const ModelConfig& config, Parameters& parameters, at::Device device)
      : config_(config), parameters_(parameters), device_(device) {
    on_device([&] { prepare(); });
  }

  StepStatistics train_step(const PackedBatch& batch, std::uint64_t step, float factor, bool as_bag,
                            const std::function<void()>& meanwhile) override {
    StepStatistics statistics;
    if (batch.posts() > 0) statistics = on_device([&] { return enqueue_step(batch, step, factor, as_bag); });
    meanwhile();
    return statistics;
  }

  StepStatistics finish_steps() override {
    return on_device([&] {
      StepStatistics statistics = take_reading();
      begin_reading();
      statistics += take_reading();
      // Small numbers from here on, so that sums of losses stay exact to the last digit.
      totals_.zero_();
      read_ = {};
      return statistics;
    });
  }

  void encode(const PackedBatch& batch, bool as_bag, float* post_vectors) override {
    on_device([&] { encode_parts(batch, as_bag, post_vectors); });
  }

 private:
  struct Slot {
    at::Tensor on_host;  // pinned
    Buffer on_device;
    DeviceBatch batch;
    // On a GPU: the buffer on the host may be written again, the one on the device may.
    std::optional<c10::Event> copied, used;
  };

  [[nodiscard]] bool on_gpu() const { return device_.is_cuda(); }

  // Runs `body` with the GPU as the current device of both LibTorch and the CUDA runtime that the kernels are
  // linked to; LibTorch's errors become messages.
  template <typename Body>
  auto on_device(const Body& body) -> decltype(body()) {
    try {
      const c10::DeviceGuard guard(device_);
      if (on_gpu()) check(cuda::select_device(static_cast<std::uint32_t>(device_.index())));
      return body();
    } catch (const c10::Error&) {
      throw_as_error();
    }
  }

  void prepare() {
    if (on_gpu()) {
      guard_.emplace(at::kCUDA);
      copy_stream_ = guard_->getStreamFromGlobalPool(device_);
      for (Slot& slot : slots_) {
        slot.copied.emplace(at::kCUDA);
        slot.used.emplace(at::kCUDA);
      }
      totals_copied_.emplace(at::kCUDA);
      at::globalContext().setAllowTF32CuBLAS(true);
    }
    const auto weights = loss_weights(config_);
    rank_weights_ = at::empty({static_cast<std::int64_t>(weights.size())}, at::kFloat);
    std::copy(weights.begin(), weights.end(), rank_weights_.mutable_data_ptr<float>());
    rank_weights_ = rank_weights_.to(device_);
    totals_ = at::zeros({sizeof(cuda::Totals)}, at::TensorOptions(at::kByte).device(device_));
    totals_on_host_ = pinned(sizeof(cuda::Totals), on_gpu());
  }

  StepStatistics enqueue_step(const PackedBatch& batch, std::uint64_t step, float factor, bool as_bag) {
    const std::size_t posts = batch.posts();
    for (std::size_t i = 0; i < posts; ++i) {
      if (batch.hashtag_offsets[i] == batch.hashtag_offsets[i + 1]) {
        throw std::logic_error("train_step: a post without a hashtag");
      }
    }
    Slot& slot = upload(batch);
    const DeviceBatch& on_device = slot.batch;
    const bool bag = as_bag || config_.encoder == EncoderType::bag;
    const std::uint32_t* words = drop_words(on_device, step);
    const std::uint32_t* positives = on_device.hashtags;
    const std::uint32_t* positive_offsets = on_device.hashtag_offsets;
    if (!config_.all_positives) {
      auto* const drawn = get<std::uint32_t>(positives_buffer_, posts);
      auto* const offsets = get<std::uint32_t>(positive_offsets_buffer_, posts + 1);
      check(cuda::draw_positives(config_.seed, step, on_device.posts, on_device.hashtags,
                                 on_device.hashtag_offsets, drawn, offsets, stream()));
      positives = drawn;
      positive_offsets = offsets;
    }
    float* const vectors = forward(on_device, words, bag, &step);

    if (is_scored(config_.loss)) {
      score(on_device, positives, vectors, step, config_.learning_rate * factor);
    } else {
      search(on_device, positives, positive_offsets, vectors, step, config_.learning_rate * factor);
    }
    const cuda::Dropout dropout = feature_dropout(step);
    if (bag) {
      if (config_.encoder == EncoderType::bag && dropout.limit != 0) {
        check(cuda::drop_values(dropout, on_device.posts, config_.dim, post_gradient(posts), stream()));
      }
      backward_bag(on_device, words, step, config_.learning_rate * factor);
    } else {
      backward_cnn(on_device, words, step, config_.learning_rate * factor,
                   config_.encoder_learning_rate * factor);
    }
    if (on_gpu()) slot.used->record(compute_stream());

    pending_posts_ += posts;
    pending_pairs_ += config_.all_positives ? on_device.hashtag_count : posts;
    ++steps_since_reading_;
    last_step_ = step;
    StepStatistics statistics;
    if (steps_since_reading_ == kStatisticsSteps) {
      statistics = take_reading();
      begin_reading();
    }
    return statistics;
  }

  void encode_parts(const PackedBatch& batch, bool as_bag, float* post_vectors) {
    const bool bag = as_bag || config_.encoder == EncoderType::bag;
    PackedBatch part;
    for (std::size_t first = 0; first < batch.posts(); first += kPostsPerEncoding) {
      const std::size_t posts = std::min(kPostsPerEncoding, batch.posts() - first);
      const std::uint32_t begin = batch.token_offsets[first];
      part.clear();
      part.tokens.assign(batch.tokens.begin() + begin,
                         batch.tokens.begin() + batch.token_offsets[first + posts]);
      for (std::size_t i = 1; i <= posts; ++i) {
        part.token_offsets.push_back(batch.token_offsets[first + i] - begin);
        part.hashtag_offsets.push_back(0);
      }
      Slot& slot = upload(part);
      float* vectors = forward(slot.batch, slot.batch.words, bag, nullptr);
      if (on_gpu()) slot.used->record(compute_stream());
      const at::Tensor host = view(vectors, posts, config_.dim).to(at::kCPU);
      std::copy_n(host.const_data_ptr<float>(), posts * config_.dim, post_vectors + first * config_.dim);
    }
  }

  [[nodiscard]] c10::Stream compute_stream() const { return guard_->getStream(device_); }
  [[nodiscard]] CUstream_st* stream() const {
    return on_gpu() ? static_cast<CUstream_st*>(compute_stream().native_handle()) : nullptr;
  }

  template <typename T>
  T* get(Buffer& buffer, std::size_t count) {
    return buffer.get<T>(device_, count);
  }
  float* post_gradient(std::size_t posts) { return get<float>(post_gradient_buffer_, posts * config_.dim); }
  // Without a question to the CUDA runtime whose memory that is.
  [[nodiscard]] at::Tensor tensor_at(void* data, at::IntArrayRef sizes, at::ScalarType type) const {
    return at::for_blob(data, sizes)
        .options(at::TensorOptions(type).device(device_))
        .target_device(device_)
        .make_tensor();
  }
  [[nodiscard]] at::Tensor view(float* data, std::size_t rows, std::size_t columns) const {
    return tensor_at(data, {static_cast<std::int64_t>(rows), static_cast<std::int64_t>(columns)}, at::kFloat);
  }
  [[nodiscard]] at::Tensor view(const at::Tensor& parameter, std::size_t rows, std::size_t columns) const {
    return parameter.view({static_cast<std::int64_t>(rows), static_cast<std::int64_t>(columns)});
  }

  [[nodiscard]] cuda::Table table_of(const Parameter& parameter) const {
    cuda::Table table;
    if (parameter.value.scalar_type() == at::kFloat) {
      table.floats = parameter.value.mutable_data_ptr<float>();
    } else {
      table.halves = static_cast<kernels::Bfloat16*>(parameter.value.mutable_data_ptr());
    }
    if (parameter.sums.defined()) table.sums = parameter.sums.mutable_data_ptr<float>();
    return table;
  }
  [[nodiscard]] kernels::Optimizer optimizer(float rate) const {
    return {static_cast<kernels::OptimizerKind>(config_.optimizer), rate, config_.max_norm};
  }
  [[nodiscard]] kernels::ConvShape shape() const { return {config_.dim, config_.window, config_.filters}; }
  [[nodiscard]] cuda::Dropout feature_dropout(std::uint64_t step) const {
    return {config_.seed, step, drop_limit(config_.dropout), 1 / (1 - config_.dropout)};
  }

  // Copies a batch to the device, tokens, hashtags and offsets end to end.
  Slot& upload(const PackedBatch& batch) {
    Slot& slot = slots_[next_slot_];
    next_slot_ = (next_slot_ + 1) % kGpuBatches;
    const std::array<const std::vector<std::uint32_t>*, 4> parts = {&batch.tokens, &batch.token_offsets,
                                                                    &batch.hashtags, &batch.hashtag_offsets};
    std::size_t count = 0;
    for (const auto* part : parts) count += part->size();
    const std::size_t bytes = count * sizeof(std::uint32_t);
    if (on_gpu()) slot.copied->synchronize();  // long ago, but for the first batches of a training
    if (!slot.on_host.defined() || static_cast<std::size_t>(slot.on_host.numel()) < bytes) {
      slot.on_host = pinned(bytes, on_gpu());
    }
    auto* host = static_cast<std::byte*>(slot.on_host.mutable_data_ptr());
    for (const auto* part : parts) {
      const auto bytes_of_part = std::as_bytes(std::span(*part));
      host = std::copy(bytes_of_part.begin(), bytes_of_part.end(), host);
    }
    const std::size_t held = slot.on_device.bytes();
    auto* const data = get<std::uint32_t>(slot.on_device, count);
    // New memory may be what work of the computing stream still reads: it comes after that.
    if (on_gpu() && slot.on_device.bytes() != held) slot.used->record(compute_stream());

    at::Tensor target = tensor_at(data, {static_cast<std::int64_t>(bytes)}, at::kByte);
    const at::Tensor source = slot.on_host.narrow(0, 0, static_cast<std::int64_t>(bytes));
    if (on_gpu()) {
      slot.used->block(*copy_stream_);
      {
        const c10::StreamGuard on_copy_stream(*copy_stream_);
        target.copy_(source, true);
        slot.copied->record(*copy_stream_);
      }
      slot.copied->block(compute_stream());
    } else {
      target.copy_(source);
    }

    DeviceBatch& result = slot.batch;
    result.posts = static_cast<std::uint32_t>(batch.posts());
    result.tokens = static_cast<std::uint32_t>(batch.tokens.size());
    result.hashtag_count = static_cast<std::uint32_t>(batch.hashtags.size());
    result.words = data;
    result.token_offsets = result.words + batch.tokens.size();
    result.hashtags = result.token_offsets + batch.token_offsets.size();
    result.hashtag_offsets = result.hashtags + batch.hashtags.size();
    result.host_offsets = batch.token_offsets;
    return slot;
  }

  const std::uint32_t* drop_words(const DeviceBatch& batch, std::uint64_t step) {
    const std::uint32_t limit = drop_limit(config_.word_dropout);
    if (limit == 0) return batch.words;
    auto* const words = get<std::uint32_t>(words_buffer_, batch.tokens);
    check(cuda::drop_words({config_.seed, step, limit, 1}, batch.tokens, batch.words, words, stream()));
    return words;
  }

  // Whole posts, as many as gpu_piece_tokens() allows, at least one.
  [[nodiscard]] std::vector<Piece> pieces_of(const DeviceBatch& batch) const {
    const std::uint64_t most = gpu_piece_tokens(config_);
    std::vector<Piece> pieces;
    const auto& offsets = batch.host_offsets;
    for (std::uint32_t first = 0; first < batch.posts;) {
      std::uint32_t end = first + 1;
      while (end < batch.posts && offsets[end + 1] - offsets[first] <= most) ++end;
      pieces.push_back({first, end - first, offsets[first], offsets[end] - offsets[first]});
      first = end;
    }
    return pieces;
  }
  [[nodiscard]] static kernels::PackedTokens posts_of(const Piece& piece, const DeviceBatch& batch,
                                                      const std::uint32_t* words) {
    return {piece.count, batch.token_offsets + piece.first, words};
  }

  // Post vectors [posts, dim]; with dropout if `training_step` is given.
  float* forward(const DeviceBatch& batch, const std::uint32_t* words, bool bag,
                 const std::uint64_t* training_step) {
    const std::size_t posts = batch.posts;
    float* const vectors = get<float>(post_vectors_buffer_, posts * config_.dim);
    const cuda::Dropout dropout =
        training_step == nullptr ? cuda::Dropout{} : feature_dropout(*training_step);
    if (bag) {
      float* const scales = get<float>(scales_buffer_, posts);
      check(cuda::bag_forward({posts, batch.token_offsets, words, pooling_of(config_)},
                              table_of(parameters_.words), config_.dim, vectors, scales, stream()));
      if (config_.encoder == EncoderType::bag && dropout.limit != 0) {
        check(cuda::drop_values(dropout, batch.posts, config_.dim, vectors, stream()));
      }
      return vectors;
    }
    const std::size_t filters = config_.filters;
    float* const once = get<float>(once_buffer_, posts * filters);
    auto* const place = get<std::uint32_t>(place_buffer_, posts * filters);
    float* const features = get<float>(features_buffer_, posts * filters);
    const at::Tensor weight = view(parameters_.convolution.value, filters, window_width());
    for (const Piece& piece : pieces_of(batch)) {
      float* const products = get<float>(products_buffer_, piece.tokens * filters);
      if (piece.tokens > 0) {
        at::Tensor out = view(products, piece.tokens, filters);
        at::mm_out(out, unfold(piece, batch, words), weight.t());
      }
      const std::size_t at = piece.first * filters;
      check(cuda::max_over_time(shape(), posts_of(piece, batch, words), piece.first_token, piece.first,
                                products, parameters_.bias.value.const_data_ptr<float>(), dropout, once + at,
                                place + at, features + at, stream()));
    }
    at::Tensor out = view(vectors, posts, config_.dim);
    at::addmm_out(out, parameters_.linear_bias.value, view(features, posts, filters),
                  parameters_.linear.value.t());
    return vectors;
  }

  [[nodiscard]] std::size_t window_width() const { return std::size_t{config_.window} * config_.dim; }
  // The windows of a piece's tokens, [tokens, window * dim].
  at::Tensor unfold(const Piece& piece, const DeviceBatch& batch, const std::uint32_t* words) {
    float* const windows = get<float>(windows_buffer_, piece.tokens * window_width());
    check(cuda::unfold(shape(), posts_of(piece, batch, words), piece.first_token, table_of(parameters_.words),
                       windows, stream()));
    return view(windows, piece.tokens, window_width());
  }

  // The WARP loss, its gradient for the post vectors, and the step on the hashtags.
  void search(const DeviceBatch& batch, const std::uint32_t* positives, const std::uint32_t* positive_offsets,
              const float* vectors, std::uint64_t step, float rate) {
    const std::size_t posts = batch.posts;
    const std::size_t pairs = config_.all_positives ? batch.hashtag_count : posts;
    cuda::WarpSearch search;
    search.config = search_config(config_, rank_weights_.const_data_ptr<float>(), pairs);
    search.batch = {posts,
                    config_.dim,
                    config_.hashtags,
                    vectors,
                    nullptr,
                    batch.hashtags,
                    batch.hashtag_offsets,
                    positives,
                    positive_offsets,
                    step,
                    0};
    search.table = table_of(parameters_.hashtags);
    search.gradient_scale = 1 / static_cast<float>(pairs);
    search.hogwild = config_.row_updates == RowUpdateMode::hogwild;
    search.optimizer = optimizer(rate);
    cuda::WarpOutput& output = search.output;
    output.violator = get<std::uint32_t>(violators_buffer_, pairs);
    output.tries = get<std::uint32_t>(tries_buffer_, pairs);
    output.loss = get<float>(losses_buffer_, pairs);
    output.post_gradient = post_gradient(posts);
    if (!search.hogwild) {
      output.rows = get<std::uint32_t>(rows_buffer_, 2 * pairs);
      output.sources = get<std::uint32_t>(sources_buffer_, 2 * pairs);
      output.coefficients = get<float>(coefficients_buffer_, 2 * pairs);
      output.selves = get<float>(selves_buffer_, 2 * pairs);
    }
    check(cuda::warp_search(search, cuda::warp_shape(config_.dim, mean_tries_), stream()));
    check(cuda::add_to_totals(static_cast<std::uint32_t>(pairs), output.violator, output.tries, output.loss,
                              static_cast<cuda::Totals*>(totals_.mutable_data_ptr()), stream()));
    if (search.hogwild) return;
    update_rows(parameters_.hashtags, config_.hashtags, output.rows, 2 * pairs,
                {vectors, output.sources, output.coefficients, output.selves}, rate,
                {config_.seed, RandomStream::hashtag_rounding, step});
  }

  // The same by scores of many negatives.
  void score(const DeviceBatch& batch, const std::uint32_t* positives, float* vectors, std::uint64_t step,
             float rate) {
    const std::size_t posts = batch.posts;
    const auto in_64_bits = [&](const std::uint32_t* values, std::size_t count) {
      // Only read from.
      auto* const data = const_cast<std::uint32_t*>(values);  // NOLINT(*-const-cast)
      return tensor_at(data, {static_cast<std::int64_t>(count)}, at::kInt).to(at::kLong);
    };
    ScoredBatch scored;
    scored.positives = in_64_bits(positives, posts);
    scored.own_rows = in_64_bits(batch.hashtags, batch.hashtag_count);
    const at::Tensor offsets = in_64_bits(batch.hashtag_offsets, posts + 1);
    scored.own_posts =
        at::repeat_interleave(offsets.diff(), std::optional<std::int64_t>(batch.hashtag_count));
    if (config_.negative_samples > 0) {
      const std::vector<std::int64_t> rows = sampled_negatives(config_, step);
      // From pinned memory, so that the host does not wait for the copy, and thus for the steps before it.
      // LibTorch's allocator holds the memory until then.
      at::Tensor on_host = at::empty({static_cast<std::int64_t>(rows.size())},
                                     at::TensorOptions(at::kLong).pinned_memory(on_gpu()));
      std::copy(rows.begin(), rows.end(), on_host.mutable_data_ptr<std::int64_t>());
      scored.negatives = on_host.to(device_, on_gpu());
    }
    ScoredLoss loss(config_, scored, view(vectors, posts, config_.dim), parameters_.hashtags.value,
                    1 / static_cast<float>(posts));
    loss.score_posts(0, loss.posts());
    loss.add_up_negatives(0, loss.negatives());

    const auto into = [&](const at::Tensor& values, void* target) {
      tensor_at(target, values.sizes(), values.scalar_type()).copy_(values);
    };
    into(loss.post_gradient, post_gradient(posts));
    auto* const violators = get<std::uint32_t>(violators_buffer_, posts);
    into(loss.violators.clamp(0, 1).sub(1).to(at::kInt), violators);  // -1, kNoViolator, for none
    auto* const tries = get<std::uint32_t>(tries_buffer_, posts);
    into(at::full_like(loss.violators, loss.negatives()).to(at::kInt), tries);
    auto* const losses = get<float>(losses_buffer_, posts);
    into(loss.losses, losses);
    check(cuda::add_to_totals(batch.posts, violators, tries, losses,
                              static_cast<cuda::Totals*>(totals_.mutable_data_ptr()), stream()));
    const auto contributions = static_cast<std::size_t>(loss.rows.numel());
    auto* const rows = get<std::uint32_t>(rows_buffer_, contributions);
    into(loss.rows.to(at::kInt), rows);
    auto* const sources = get<std::uint32_t>(sources_buffer_, contributions);
    into(at::arange(loss.rows.numel(), loss.rows.options().dtype(at::kInt)), sources);
    update_rows(parameters_.hashtags, config_.hashtags, rows, contributions,
                {loss.row_gradients.const_data_ptr<float>(), sources, nullptr, nullptr}, rate,
                {config_.seed, RandomStream::hashtag_rounding, step});
  }

  // The optimiser's step on the rows of a table that `count` contributions go to.
  void update_rows(const Parameter& table, std::uint32_t table_rows, const std::uint32_t* rows,
                   std::size_t count, const kernels::RowContributions& contributions, float rate,
                   const kernels::RoundingSource& rounding) {
    const auto contribution_count = static_cast<std::uint32_t>(count);
    auto* const sorted = get<std::uint32_t>(sorted_buffer_, count);
    auto* const order = get<std::uint32_t>(order_buffer_, count);
    std::size_t scratch_bytes = 0;
    check(cuda::sort_by_row(rows, contribution_count, table_rows, sorted, order, nullptr, scratch_bytes,
                            stream()));
    auto* const scratch = get<std::byte>(scratch_buffer_, scratch_bytes);
    check(cuda::sort_by_row(rows, contribution_count, table_rows, sorted, order, scratch, scratch_bytes,
                            stream()));
    cuda::RowUpdate update;
    update.optimizer = optimizer(rate);
    update.contributions = contribution_count;
    update.rows = sorted;
    update.order = order;
    update.from = contributions;
    update.dim = config_.dim;
    update.table = table_of(table);
    update.rounding = rounding;
    check(cuda::update_rows(update, kUpdateWarps, stream()));
  }

  void backward_bag(const DeviceBatch& batch, const std::uint32_t* words, std::uint64_t step, float rate) {
    const std::size_t tokens = batch.tokens;
    auto* const rows = get<std::uint32_t>(rows_buffer_, tokens);
    auto* const sources = get<std::uint32_t>(sources_buffer_, tokens);
    auto* const coefficients = get<float>(coefficients_buffer_, tokens);
    auto* violators = get<std::uint32_t>(violators_buffer_, batch.posts);
    if (config_.all_positives) {
      // Those are of pairs: every post is taken to have one. A gradient of zero changes no word.
      tensor_at(violators, {static_cast<std::int64_t>(batch.posts)}, at::kInt).zero_();
    }
    check(cuda::bag_contributions({batch.posts, batch.token_offsets, words}, violators,
                                  get<float>(scales_buffer_, batch.posts), rows, sources, coefficients,
                                  stream()));
    update_rows(parameters_.words, config_.vocab_size, rows, tokens,
                {post_gradient(batch.posts), sources, coefficients, nullptr}, rate,
                {config_.seed, RandomStream::word_rounding, step});
  }

  void backward_cnn(const DeviceBatch& batch, const std::uint32_t* words, std::uint64_t step, float rate,
                    float encoder_rate) {
    const std::size_t posts = batch.posts;
    const std::size_t filters = config_.filters;
    const std::size_t width = window_width();
    const at::Tensor vector_gradient = view(post_gradient(posts), posts, config_.dim);
    const at::Tensor features = view(get<float>(features_buffer_, posts * filters), posts, filters);

    // Linear layer: out = features * linear^T + linear_bias.
    float* const linear_gradient = get<float>(linear_gradient_buffer_, config_.dim * filters);
    at::Tensor linear_out = view(linear_gradient, config_.dim, filters);
    at::mm_out(linear_out, vector_gradient.t(), features);
    float* const linear_bias_gradient = get<float>(linear_bias_gradient_buffer_, config_.dim);
    at::Tensor linear_bias_out = view(linear_bias_gradient, 1, config_.dim);
    at::sum_out(linear_bias_out, vector_gradient, {0}, true);
    float* const gradient = get<float>(feature_gradient_buffer_, posts * filters);
    at::Tensor gradient_out = view(gradient, posts, filters);
    at::mm_out(gradient_out, vector_gradient, parameters_.linear.value);
    check(cuda::features_backward(feature_dropout(step), batch.posts, config_.filters,
                                  get<float>(once_buffer_, posts * filters), gradient, stream()));

    // Convolution.
    float* const bias_gradient = get<float>(bias_gradient_buffer_, filters);
    at::Tensor bias_out = view(bias_gradient, 1, filters);
    at::sum_out(bias_out, gradient_out, {0}, true);
    float* const weight_gradient = get<float>(weight_gradient_buffer_, filters * width);
    at::Tensor weight_out = view(weight_gradient, filters, width);
    const at::Tensor weight = view(parameters_.convolution.value, filters, width);
    float* const token_gradient = get<float>(token_gradient_buffer_, std::size_t{batch.tokens} * config_.dim);
    const auto* const place = get<std::uint32_t>(place_buffer_, posts * filters);
    bool first = true;
    for (const Piece& piece : pieces_of(batch)) {
      if (piece.tokens == 0) continue;
      float* const products = get<float>(products_buffer_, piece.tokens * filters);
      const kernels::PackedTokens packed = posts_of(piece, batch, words);
      check(cuda::spread_gradient(shape(), packed, piece.first_token, gradient + piece.first * filters,
                                  place + piece.first * filters, products, stream()));
      const at::Tensor product_gradient = view(products, piece.tokens, filters);
      at::Tensor windows = unfold(piece, batch, words);
      if (first) {
        at::mm_out(weight_out, product_gradient.t(), windows);
      } else {
        at::addmm_out(weight_out, weight_out, product_gradient.t(), windows);
      }
      first = false;
      at::mm_out(windows, product_gradient, weight);  // the windows' gradient takes their place
      check(cuda::fold(shape(), packed, piece.first_token, windows.const_data_ptr<float>(),
                       token_gradient + std::size_t{piece.first_token} * config_.dim, stream()));
    }
    if (first) weight_out.zero_();  // posts without any token

    const auto update = [&](const Parameter& parameter, const float* of_parameter) {
      check(cuda::update_dense(
          optimizer(encoder_rate), of_parameter, static_cast<std::size_t>(parameter.value.numel()),
          parameter.value.mutable_data_ptr<float>(),
          parameter.sums.defined() ? parameter.sums.mutable_data_ptr<float>() : nullptr, stream()));
    };
    update(parameters_.convolution, weight_gradient);
    update(parameters_.bias, bias_gradient);
    update(parameters_.linear, linear_gradient);
    update(parameters_.linear_bias, linear_bias_gradient);
    static_assert(kernels::kNoWord == kernels::kNoRow);
    update_rows(parameters_.words, config_.vocab_size, words, batch.tokens,
                {token_gradient, nullptr, nullptr, nullptr}, rate,
                {config_.seed, RandomStream::word_rounding, step});
  }

  // Asks for the totals up to here.
  void begin_reading() {
    totals_on_host_.copy_(totals_, on_gpu());
    if (on_gpu()) totals_copied_->record(compute_stream());
    posts_being_read_ = std::exchange(pending_posts_, 0);
    pairs_being_read_ = std::exchange(pending_pairs_, 0);
    step_being_read_ = last_step_;
    reading_ = true;
    steps_since_reading_ = 0;
  }

  // What the totals asked for last add to those read before.
  StepStatistics take_reading() {
    if (!std::exchange(reading_, false)) return {};
    if (on_gpu()) totals_copied_->synchronize();
    cuda::Totals now{};
    std::memcpy(&now, totals_on_host_.const_data_ptr(), sizeof now);
    StepStatistics statistics;
    statistics.posts = posts_being_read_;
    statistics.pairs = pairs_being_read_;
    statistics.violators = now.violators - read_.violators;
    statistics.tries = now.tries - read_.tries;
    statistics.loss = now.loss - read_.loss;
    read_ = now;
    if (!std::isfinite(now.loss)) fail_of_divergence("at the latest in step", step_being_read_);
    if (statistics.pairs > 0) {
      mean_tries_ =
          static_cast<float>(static_cast<double>(statistics.tries) / static_cast<double>(statistics.pairs));
    }
    return statistics;
  }

  ModelConfig config_;
  Parameters& parameters_;
  at::Device device_;
  std::optional<c10::impl::VirtualGuardImpl> guard_;  // LibTorch's streams of the GPU
  std::optional<c10::Stream> copy_stream_;

  std::array<Slot, kGpuBatches> slots_;
  std::size_t next_slot_ = 0;

  at::Tensor rank_weights_;    // [max_tries]
  at::Tensor totals_;          // cuda::Totals
  at::Tensor totals_on_host_;  // the same, pinned
  std::optional<c10::Event> totals_copied_;
  bool reading_ = false;
  cuda::Totals read_{};  // what has been read of the totals
  std::uint64_t pending_posts_ = 0;
  std::uint64_t pending_pairs_ = 0;
  std::uint64_t posts_being_read_ = 0;
  std::uint64_t pairs_being_read_ = 0;
  std::uint64_t step_being_read_ = 0;
  std::uint64_t last_step_ = 0;
  std::uint64_t steps_since_reading_ = 0;
  float mean_tries_ = 1;

  // What a step computes on the way; see gpu_memory.cc.
  Buffer words_buffer_;                 // [tokens]
  Buffer positives_buffer_;             // [posts]
  Buffer positive_offsets_buffer_;      // [posts + 1]
  Buffer post_vectors_buffer_;          // [posts, dim]
  Buffer post_gradient_buffer_;         // [posts, dim]
  Buffer violators_buffer_;             // [pairs]
  Buffer tries_buffer_;                 // [pairs]
  Buffer losses_buffer_;                // [pairs]
  Buffer scales_buffer_;                // [posts], bag
  Buffer rows_buffer_;                  // [contributions]: 2 a pair, or the tokens
  Buffer sources_buffer_;               // [contributions]
  Buffer coefficients_buffer_;          // [contributions]
  Buffer selves_buffer_;                // [2 pairs]
  Buffer sorted_buffer_;                // [contributions]
  Buffer order_buffer_;                 // [contributions]
  Buffer scratch_buffer_;               // of the sort
  Buffer once_buffer_;                  // [posts, filters] tanh of the maxima
  Buffer place_buffer_;                 // [posts, filters]
  Buffer features_buffer_;              // [posts, filters]
  Buffer feature_gradient_buffer_;      // [posts, filters]
  Buffer windows_buffer_;               // [tokens of a piece, window, dim]
  Buffer products_buffer_;              // [tokens of a piece, filters]
  Buffer token_gradient_buffer_;        // [tokens, dim]
  Buffer weight_gradient_buffer_;       // [filters, window, dim]
  Buffer bias_gradient_buffer_;         // [filters]
  Buffer linear_gradient_buffer_;       // [dim, filters]
  Buffer linear_bias_gradient_buffer_;  // [dim]
};

}  // namespace

std::unique_ptr<Engine> make_gpu_engine(const ModelConfig& config, Parameters& parameters,
                                        at::Device device) {
  return std::make_unique<GpuEngine>(config, parameters, device);
}

}  // namespace tagspace
