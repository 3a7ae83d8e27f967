// The training step on the CPU: the kernels' own forward and backward passes, LibTorch's matrix products, all
// cores.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sum.h>
#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <stdexcept>

#include "model/engine.h"
#include "model/inference/post_encoder.h"
#include "model/kernels/cpu_context.h"
#include "model/kernels/encoder.h"
#include "model/kernels/row_update.h"
#include "model/kernels/warp.h"
#include "model/scored_loss.h"

namespace tagspace {
namespace {

using kernels::room_for;

// Posts whose features and vectors are computed together; a fixed number, so that products do not depend on
// the number of threads.
constexpr std::int64_t kPostsPerTask = 32;
constexpr std::int64_t kColumnsPerTask = 128;

float* values_of(const Parameter& parameter) { return parameter.value.mutable_data_ptr<float>(); }
float* sums_of(const Parameter& parameter) {
  return parameter.sums.defined() ? parameter.sums.mutable_data_ptr<float>() : nullptr;
}

at::Tensor view(float* data, std::int64_t rows, std::int64_t columns) {
  return at::from_blob(data, {rows, columns}, at::kFloat);
}

// What a step computes on the way; kept from step to step so that nothing is allocated anew.
struct Workspace {
  std::vector<std::uint32_t> words;     // [tokens] row of the word table, or kNoWord where dropped
  std::vector<std::uint32_t> grouped;   // [tokens] the same for the thread that groups them, bag only
  kernels::DistinctWords distinct;      // of these; a bag's are grouped by post
  std::vector<float> maxima;            // [posts, filters], then tanh of it
  std::vector<std::uint32_t> places;    // [posts, filters]
  std::vector<float> features;          // [posts, filters] tanh(tanh(maximum)), with dropout when training
  std::vector<std::uint8_t> kept;       // which values dropout left, of the features, or a bag's post vectors
  std::vector<float> feature_gradient;  // [posts, filters]
  std::vector<float> post_vectors;      // [posts, dim]
  std::vector<float> post_gradient;     // [posts, dim]
  std::vector<float> scales;            // [posts] 1 / words, bag only
  std::vector<float> token_gradient;    // [tokens, dim], cnn only
  std::vector<float> convolution_gradient;                                 // [filters, window, dim]
  std::vector<float> bias_gradient;                                        // [filters]
  std::vector<float> linear_gradient;                                      // [dim, filters]
  std::vector<float> linear_bias_gradient;                                 // [dim]
  std::vector<std::uint32_t> positives;                                    // [pairs], one a post
  std::vector<std::uint32_t> positive_offsets;                             // [posts + 1]
  std::vector<std::uint32_t> violators, tries;                             // [pairs]
  std::vector<float> losses;                                               // [pairs]
  std::vector<kernels::RowGradient> positive_gradient, negative_gradient;  // [pairs]
  std::vector<std::uint8_t> has_gradient;                                  // [posts]
  at::Tensor row_gradients;  // [posts + negatives, dim], with a loss of scored_loss.h
  std::vector<std::uint32_t> hashtag_rows, hashtag_sources;  // [contributions]
  std::vector<float> hashtag_coefficients, hashtag_self;     // [contributions]
  kernels::RowGroups hashtag_groups;                         // the above by hashtag
  std::vector<std::uint32_t> sources;                        // [tokens], bag: [posts]
  std::vector<float> coefficients;                           // [posts], bag only
};

class CpuEngine final : public Engine {
 public:
  CpuEngine(const ModelConfig& model_config, Parameters& model_parameters)
      : config(model_config),
        parameters(model_parameters),
        context(std::max<std::uint32_t>(1, model_config.threads)),
        rank_weights(loss_weights(config)),
        encoder(config) {}

  [[nodiscard]] bool is_cnn() const { return config.encoder == EncoderType::cnn; }

  // Runs body(first, count) over the posts in fixed pieces, LibTorch's own threads held to one.
  template <typename Body>
  void for_posts(std::size_t posts, std::int64_t per_task, const Body& body) {
    const auto count = static_cast<std::int64_t>(posts);
    context.pool.run(static_cast<std::size_t>((count + per_task - 1) / per_task),
                     [&](std::size_t task, std::size_t) {
                       at::set_num_threads(1);
                       const std::int64_t first = static_cast<std::int64_t>(task) * per_task;
                       body(first, std::min(per_task, count - first));
                     });
  }

  [[nodiscard]] kernels::ConvShape shape() const { return {config.dim, config.window, config.filters}; }

  // Post vectors of the batch by the mean of the words, with dropout, into workspace.post_vectors; and what
  // the update of the words' rows needs.
  float* forward_bag(const PackedBatch& batch, std::uint64_t step, const std::function<void()>& meanwhile) {
    Workspace& w = workspace;
    const std::size_t posts = batch.posts();
    const std::size_t dim = config.dim;
    const std::uint32_t* const offsets = batch.token_offsets.data();
    float* vectors = room_for(w.post_vectors, posts * dim);
    float* scales = room_for(w.scales, posts);
    const kernels::Dropout drop = dropout_of_bag(step);
    auto* kept = room_for(w.kept, drop.limit == 0 ? 0 : posts * kernels::bytes_of(dim));
    const std::uint32_t* const words = start_draws(batch);
    const bool drops = words != batch.tokens.data();
    auto* grouped = room_for(w.grouped, drops ? batch.tokens.size() : 0);
    const kernels::WarpConfig search = search_of(posts);
    const kernels::WarpBatch warp_batch = warp_batch_of(batch, step);
    const std::size_t fill_tasks = is_scored(config.loss) ? 0 : kernels::start_pool(search, dim, context);
    constexpr std::size_t kPerTask = 8;
    const std::size_t post_tasks = (posts + kPerTask - 1) / kPerTask;
    // The two longest tasks are those that two threads begin with.
    const std::size_t middle = (post_tasks + 2) / 2;
    context.pool.run(post_tasks + 2, [&](std::size_t number, std::size_t) {
      if (number == middle) return meanwhile();
      const std::size_t task = number < middle ? number : number - 1;
      if (task == 0) {
        // To draw a second time costs less than to wait for what others draw.
        if (drops) drop_words(batch, step, 0, batch.tokens.size(), grouped);
        w.distinct.grouper.group_by_post(drops ? grouped : words, offsets, posts, w.distinct.groups);
        return;
      }
      const std::size_t first = (task - 1) * kPerTask;
      const std::size_t last = std::min(posts, first + kPerTask);
      draw(batch, step, first, last);
      kernels::bag_forward({posts, offsets, words, pooling_of(config)}, values_of(parameters.words), dim,
                           first, last, vectors, scales, context);
      drop_posts(drop, first, last, dim, vectors, kept);
      for (std::size_t fill = (task - 1) * fill_tasks / post_tasks; fill < task * fill_tasks / post_tasks;
           ++fill)
        kernels::fill_pool(search, warp_batch, fill, context);
    });
    return vectors;
  }

  // The same by the convolution.
  float* forward_cnn(const PackedBatch& batch, std::uint64_t step) {
    Workspace& w = workspace;
    const std::size_t posts = batch.posts();
    const std::size_t dim = config.dim;
    const std::uint32_t* const offsets = batch.token_offsets.data();
    const std::uint32_t* const words = start_draws(batch);
    for_posts(posts, kPostsPerTask, [&](std::int64_t first, std::int64_t count) {
      draw(batch, step, static_cast<std::size_t>(first), static_cast<std::size_t>(first + count));
    });
    float* vectors = room_for(w.post_vectors, posts * dim);
    kernels::gather_words(words, offsets[posts], values_of(parameters.words), dim, w.distinct, context);
    const std::size_t filters = config.filters;
    float* maxima = room_for(w.maxima, posts * filters);
    float* features = room_for(w.features, posts * filters);
    kernels::conv_max_forward(shape(), {posts, offsets, w.distinct.places.data()}, w.distinct.vectors.data(),
                              w.distinct.groups.rows.size(), values_of(parameters.convolution),
                              values_of(parameters.bias), maxima, room_for(w.places, posts * filters),
                              context);
    const auto columns = static_cast<std::int64_t>(filters);
    const kernels::Dropout drop = dropout(step);
    auto* kept = room_for(w.kept, posts * kernels::bytes_of(filters));
    for_posts(posts, kPostsPerTask, [&](std::int64_t first, std::int64_t count) {
      const auto end = static_cast<std::size_t>(first + count);
      kernels::draw_kept(drop, static_cast<std::size_t>(first), end, filters, kept, context);
      for (auto post = static_cast<std::size_t>(first); post < end; ++post) {
        kernels::features_forward(drop, kept + post * kernels::bytes_of(filters), filters,
                                  maxima + post * filters, features + post * filters, context);
      }
      const at::Tensor twice = view(features + first * columns, count, columns);
      at::Tensor out = view(vectors + first * config.dim, count, config.dim);
      at::addmm_out(out, parameters.linear_bias.value, twice, parameters.linear.value.t());
    });
    return vectors;
  }

  [[nodiscard]] kernels::Dropout dropout(std::uint64_t step) const {
    return {config.seed, step, drop_limit(config.dropout), 1 / (1 - config.dropout)};
  }

  // Under a cnn that trains as a bag, it is the features that dropout is for.
  [[nodiscard]] kernels::Dropout dropout_of_bag(std::uint64_t step) const {
    return is_cnn() ? kernels::Dropout{} : dropout(step);
  }

  // Dropout in place of rows [begin, end) of `values` [posts, columns].
  void drop_posts(const kernels::Dropout& drop, std::size_t begin, std::size_t end, std::size_t columns,
                  float* values, std::uint8_t* kept) const {
    if (drop.limit == 0) return;
    kernels::draw_kept(drop, begin, end, columns, kept, context);
    for (std::size_t post = begin; post < end; ++post) {
      kernels::drop_values(drop, kept + post * kernels::bytes_of(columns), columns, values + post * columns,
                           context);
    }
  }

  // Room for the random choices of a step, which draw() makes: the batch's tokens, some left out, and one
  // positive of each post, if not all of them are. Returns the tokens.
  const std::uint32_t* start_draws(const PackedBatch& batch) {
    Workspace& w = workspace;
    const std::size_t posts = batch.posts();
    for (std::size_t post = 0; post < posts; ++post) {
      if (batch.hashtag_offsets[post] == batch.hashtag_offsets[post + 1])
        throw std::logic_error("train_step: a post without a hashtag");
    }
    auto* positives = room_for(w.positives, config.all_positives ? batch.hashtags.size() : posts);
    auto* offsets = room_for(w.positive_offsets, posts + 1);
    if (config.all_positives) {
      std::copy(batch.hashtags.begin(), batch.hashtags.end(), positives);
      std::copy(batch.hashtag_offsets.begin(), batch.hashtag_offsets.end(), offsets);
    } else {
      std::iota(offsets, offsets + posts + 1, 0U);
    }
    if (drop_limit(config.word_dropout) == 0) return batch.tokens.data();
    return room_for(w.words, batch.tokens.size());
  }

  // Those of posts [begin, end).
  void draw(const PackedBatch& batch, std::uint64_t step, std::size_t begin, std::size_t end) {
    if (drop_limit(config.word_dropout) != 0)
      drop_words(batch, step, batch.token_offsets[begin], batch.token_offsets[end], workspace.words.data());
    if (!config.all_positives) {
      kernels::draw_positives(config.seed, step, batch.hashtags.data(), batch.hashtag_offsets.data(), begin,
                              end, workspace.positives.data(), context);
    }
  }
  void drop_words(const PackedBatch& batch, std::uint64_t step, std::size_t begin, std::size_t end,
                  std::uint32_t* words) const {
    kernels::drop_words({config.seed, step, drop_limit(config.word_dropout), 1}, batch.tokens.data(), begin,
                        end, words, context);
  }

  [[nodiscard]] kernels::Optimizer optimizer(float rate) const {
    return {static_cast<kernels::OptimizerKind>(config.optimizer), rate, config.max_norm};
  }

  // The contributions to the rows of the hashtag table, by row.
  kernels::TableUpdate group_hashtags(std::size_t posts) {
    return is_scored(config.loss) ? group_scored() : group_pairs(posts);
  }

  // Those of positives and violators, from the post vectors that the loss saw.
  kernels::TableUpdate group_pairs(std::size_t posts) {
    Workspace& w = workspace;
    const std::size_t pairs = w.positive_offsets[posts];
    auto* rows = room_for(w.hashtag_rows, 2 * pairs);
    auto* sources = room_for(w.hashtag_sources, 2 * pairs);
    auto* coefficients = room_for(w.hashtag_coefficients, 2 * pairs);
    const bool with_self = config.score == ScoreType::cosine;
    auto* self = room_for(w.hashtag_self, with_self ? 2 * pairs : 0);
    std::size_t count = 0;
    for (std::size_t post = 0; post < posts; ++post) {
      for (std::size_t i = w.positive_offsets[post]; i < w.positive_offsets[post + 1]; ++i) {
        rows[count] = w.positives[i];
        rows[count + 1] = w.violators[i];
        sources[count] = sources[count + 1] = static_cast<std::uint32_t>(post);
        coefficients[count] = w.positive_gradient[i].post;
        coefficients[count + 1] = w.negative_gradient[i].post;
        if (with_self) {
          self[count] = w.positive_gradient[i].row;
          self[count + 1] = w.negative_gradient[i].row;
        }
        // Written over, if it is not to stay.
        count += w.violators[i] != kernels::kNoViolator ? 2 : 0;
      }
    }
    hashtag_grouper.group(rows, count, w.hashtag_groups);
    return {&w.hashtag_groups,
            {w.post_vectors.data(), sources, coefficients, with_self ? self : nullptr},
            values_of(parameters.hashtags),
            sums_of(parameters.hashtags)};
  }

  // Those of scored_loss.h, each a vector of its own.
  kernels::TableUpdate group_scored() {
    Workspace& w = workspace;
    const auto count = static_cast<std::size_t>(w.row_gradients.size(0));
    auto* sources = room_for(w.hashtag_sources, count);
    std::iota(sources, sources + count, 0U);
    hashtag_grouper.group(w.hashtag_rows.data(), count, w.hashtag_groups);
    return {&w.hashtag_groups,
            {w.row_gradients.const_data_ptr<float>(), sources, nullptr, nullptr},
            values_of(parameters.hashtags),
            sums_of(parameters.hashtags)};
  }

  // Each word of a post takes the post's gradient divided by the number of its words.
  void backward_bag(std::size_t posts, std::uint64_t step, float rate) {
    Workspace& w = workspace;
    const kernels::Dropout drop = dropout_of_bag(step);
    if (drop.limit != 0) {
      for_posts(posts, kPostsPerTask, [&](std::int64_t first, std::int64_t count) {
        for (auto post = static_cast<std::size_t>(first); post < static_cast<std::size_t>(first + count);
             ++post) {
          kernels::drop_values(drop, w.kept.data() + post * kernels::bytes_of(config.dim), config.dim,
                               w.post_gradient.data() + post * config.dim, context);
        }
      });
    }
    auto* sources = room_for(w.sources, posts);
    auto* coefficients = room_for(w.coefficients, posts);
    for (std::size_t post = 0; post < posts; ++post) {
      sources[post] = static_cast<std::uint32_t>(post);
      // Without a violator there is no gradient, and the words' rows are left alone.
      coefficients[post] = w.has_gradient[post] != 0 ? w.scales[post] : 0;
    }
    const kernels::TableUpdate words = {&w.distinct.groups,
                                        {w.post_gradient.data(), sources, coefficients, nullptr},
                                        values_of(parameters.words),
                                        sums_of(parameters.words)};
    if (is_scored(config.loss)) {
      // As many rows as there are negatives: work for all threads.
      const kernels::TableUpdate updates[] = {words, group_scored()};
      kernels::update_rows(optimizer(rate), updates, std::size(updates), config.dim, context);
      return;
    }
    kernels::update_rows(optimizer(rate), &words, 1, config.dim, context, [&] {
      kernels::update_rows_alone(optimizer(rate), group_pairs(posts), config.dim, context);
    });
  }

  void backward_cnn(std::size_t posts, const std::uint32_t* offsets, std::uint64_t step, float rate,
                    float encoder_rate, const std::function<void()>& meanwhile) {
    Workspace& w = workspace;
    const auto filters = static_cast<std::int64_t>(config.filters);
    const auto dim = static_cast<std::int64_t>(config.dim);
    const auto count = static_cast<std::int64_t>(posts);
    float* feature_gradient = room_for(w.feature_gradient, posts * config.filters);
    const at::Tensor vectors_gradient = view(w.post_gradient.data(), count, dim);
    const at::Tensor features = view(w.features.data(), count, filters);

    // Linear layer: out = features * linear^T + linear_bias. Tasks for blocks of its columns, then for posts.
    at::Tensor linear_gradient =
        view(room_for(w.linear_gradient, std::size_t{config.dim} * config.filters), dim, filters);
    const auto column_tasks = static_cast<std::size_t>((filters + kColumnsPerTask - 1) / kColumnsPerTask);
    const auto post_tasks = static_cast<std::size_t>((count + kPostsPerTask - 1) / kPostsPerTask);
    const kernels::Dropout drop = dropout(step);
    context.pool.run(column_tasks + post_tasks + 1, [&](std::size_t task, std::size_t) {
      if (task == column_tasks + post_tasks) return meanwhile();
      at::set_num_threads(1);
      if (task < column_tasks) {
        const std::int64_t first = static_cast<std::int64_t>(task) * kColumnsPerTask;
        const std::int64_t columns = std::min(kColumnsPerTask, filters - first);
        at::Tensor out = linear_gradient.narrow(1, first, columns);
        at::mm_out(out, vectors_gradient.t(), features.narrow(1, first, columns));
        return;
      }
      const std::int64_t first = static_cast<std::int64_t>(task - column_tasks) * kPostsPerTask;
      const std::int64_t rows = std::min(kPostsPerTask, count - first);
      at::Tensor out = view(feature_gradient + first * filters, rows, filters);
      at::mm_out(out, vectors_gradient.narrow(0, first, rows), parameters.linear.value);
      for (auto post = static_cast<std::size_t>(first); post < static_cast<std::size_t>(first + rows);
           ++post) {
        float* row = feature_gradient + post * config.filters;
        if (w.has_gradient[post] == 0) {
          std::fill_n(row, config.filters, 0.0F);
          continue;
        }
        kernels::features_backward(drop, w.kept.data() + post * kernels::bytes_of(config.filters),
                                   config.filters, w.maxima.data() + post * config.filters,
                                   w.features.data() + post * config.filters, row, context);
      }
    });
    at::Tensor linear_bias_gradient = view(room_for(w.linear_bias_gradient, config.dim), 1, dim);
    at::sum_out(linear_bias_gradient, vectors_gradient, {0}, true);

    const std::size_t tokens = offsets[posts];
    float* token_gradient = room_for(w.token_gradient, tokens * config.dim);
    float* convolution_gradient =
        room_for(w.convolution_gradient, static_cast<std::size_t>(parameters.convolution.value.numel()));
    float* bias_gradient = room_for(w.bias_gradient, config.filters);
    kernels::conv_max_backward(shape(), {posts, offsets, w.distinct.places.data()}, w.distinct.vectors.data(),
                               values_of(parameters.convolution), feature_gradient, w.places.data(),
                               convolution_gradient, bias_gradient, token_gradient, context);

    const auto update = [&](const Parameter& parameter, const float* gradient) {
      kernels::update_dense(optimizer(encoder_rate), gradient,
                            static_cast<std::size_t>(parameter.value.numel()), values_of(parameter),
                            sums_of(parameter), context);
    };
    update(parameters.convolution, convolution_gradient);
    update(parameters.bias, bias_gradient);
    update(parameters.linear, w.linear_gradient.data());
    update(parameters.linear_bias, w.linear_bias_gradient.data());

    auto* sources = room_for(w.sources, tokens);
    for (std::size_t t = 0; t < tokens; ++t) sources[t] = static_cast<std::uint32_t>(t);
    const kernels::TableUpdate updates[] = {{&w.distinct.groups,
                                             {token_gradient, sources, nullptr, nullptr},
                                             values_of(parameters.words),
                                             sums_of(parameters.words)},
                                            group_hashtags(posts)};
    kernels::update_rows(optimizer(rate), updates, std::size(updates), config.dim, context);
  }

  // Of a step whose draws have been started.
  [[nodiscard]] kernels::WarpConfig search_of(std::size_t posts) const {
    return search_config(config, rank_weights.data(), workspace.positive_offsets[posts]);
  }
  [[nodiscard]] kernels::WarpBatch warp_batch_of(const PackedBatch& batch, std::uint64_t step) const {
    const Workspace& w = workspace;
    return {.posts = batch.posts(),
            .dim = config.dim,
            .rows = config.hashtags,
            .post_vectors = w.post_vectors.data(),
            .table = values_of(parameters.hashtags),
            .own = batch.hashtags.data(),
            .own_offsets = batch.hashtag_offsets.data(),
            .positives = w.positives.data(),
            .positive_offsets = w.positive_offsets.data(),
            .step = step};
  }

  // The loss and its gradients, by a search for violators.
  StepStatistics search(const PackedBatch& batch, std::uint64_t step, bool pool_is_filled) {
    Workspace& w = workspace;
    const std::size_t posts = batch.posts();
    const std::size_t pairs = w.positive_offsets[posts];
    kernels::WarpBatch warp_batch = warp_batch_of(batch, step);
    warp_batch.pool_is_filled = pool_is_filled;
    const kernels::WarpResult result{room_for(w.violators, pairs),
                                     room_for(w.tries, pairs),
                                     room_for(w.losses, pairs),
                                     room_for(w.positive_gradient, pairs),
                                     room_for(w.negative_gradient, pairs),
                                     room_for(w.post_gradient, posts * config.dim)};
    kernels::warp(search_of(posts), warp_batch, 1 / static_cast<float>(pairs), result, context);

    StepStatistics statistics;
    statistics.posts = posts;
    statistics.pairs = pairs;
    auto* has_gradient = room_for(w.has_gradient, posts);
    for (std::size_t post = 0; post < posts; ++post) {
      std::uint8_t any = 0;
      for (std::size_t i = w.positive_offsets[post]; i < w.positive_offsets[post + 1]; ++i) {
        const std::uint8_t found = result.violator[i] != kernels::kNoViolator ? 1 : 0;
        any |= found;
        statistics.violators += found;
        statistics.tries += result.tries[i];
        statistics.loss += result.loss[i];
      }
      has_gradient[post] = any;
    }
    return statistics;
  }

  // The same by scores of many negatives.
  StepStatistics score(const PackedBatch& batch, float* vectors, std::uint64_t step) {
    Workspace& w = workspace;
    const auto posts = static_cast<std::int64_t>(batch.posts());
    const auto in_64_bits = [](const auto& values) {
      at::Tensor copy = at::empty({static_cast<std::int64_t>(values.size())}, at::kLong);
      std::copy(values.begin(), values.end(), copy.mutable_data_ptr<std::int64_t>());
      return copy;
    };
    std::vector<std::uint32_t> own_posts(batch.hashtags.size());
    for (std::uint32_t post = 0; post < batch.posts(); ++post) {
      std::fill(own_posts.begin() + batch.hashtag_offsets[post],
                own_posts.begin() + batch.hashtag_offsets[post + 1], post);
    }
    ScoredBatch scored{in_64_bits(std::span(w.positives.data(), batch.posts())),
                       in_64_bits(own_posts),
                       in_64_bits(batch.hashtags),
                       {}};
    if (config.negative_samples > 0) scored.negatives = in_64_bits(sampled_negatives(config, step));
    ScoredLoss loss(config, scored, view(vectors, posts, config.dim), parameters.hashtags.value,
                    1 / static_cast<float>(posts));
    for_posts(batch.posts(), kPostsPerTask,
              [&](std::int64_t first, std::int64_t count) { loss.score_posts(first, count); });
    for_posts(static_cast<std::size_t>(loss.negatives()), kColumnsPerTask,
              [&](std::int64_t first, std::int64_t count) { loss.add_up_negatives(first, count); });

    w.row_gradients = loss.row_gradients;
    const auto contributions = static_cast<std::size_t>(loss.rows.numel());
    std::copy_n(loss.rows.const_data_ptr<std::int64_t>(), contributions,
                room_for(w.hashtag_rows, contributions));
    std::copy_n(loss.post_gradient.const_data_ptr<float>(), batch.posts() * config.dim,
                room_for(w.post_gradient, batch.posts() * config.dim));
    StepStatistics statistics;
    statistics.posts = statistics.pairs = batch.posts();
    auto* has_gradient = room_for(w.has_gradient, batch.posts());
    for (std::size_t i = 0; i < batch.posts(); ++i) {
      has_gradient[i] = loss.violators.const_data_ptr<std::int64_t>()[i] > 0 ? 1 : 0;
      statistics.violators += has_gradient[i];
      statistics.loss += loss.losses.const_data_ptr<float>()[i];
    }
    statistics.tries = batch.posts() * static_cast<std::uint64_t>(loss.negatives());
    return statistics;
  }

  StepStatistics train_step(const PackedBatch& batch, std::uint64_t step, float factor, bool as_bag,
                            const std::function<void()>& meanwhile) override {
    const std::size_t posts = batch.posts();
    if (posts == 0) {
      meanwhile();
      return {};
    }
    const bool bag = as_bag || !is_cnn();
    float* vectors = bag ? forward_bag(batch, step, meanwhile) : forward_cnn(batch, step);

    const StepStatistics statistics =
        is_scored(config.loss) ? score(batch, vectors, step) : search(batch, step, bag);
    if (!std::isfinite(statistics.loss)) fail_of_divergence("step", step);
    const float rate = config.learning_rate * factor;
    if (bag) {
      backward_bag(posts, step, rate);
    } else {
      backward_cnn(posts, batch.token_offsets.data(), step, rate, config.encoder_learning_rate * factor,
                   meanwhile);
    }
    return statistics;
  }

  StepStatistics finish_steps() override { return {}; }

  void encode(const PackedBatch& batch, bool as_bag, float* post_vectors) override {
    EncoderWeights weights{values_of(parameters.words)};
    if (is_cnn()) {
      weights.convolution = values_of(parameters.convolution);
      weights.bias = values_of(parameters.bias);
      weights.linear = values_of(parameters.linear);
      weights.linear_bias = values_of(parameters.linear_bias);
    }
    encoder.encode(weights, batch, as_bag, post_vectors, context);
  }

  ModelConfig config;
  Parameters& parameters;
  kernels::CpuContext context;
  std::vector<float> rank_weights;  // [max_tries]
  kernels::RowGrouper hashtag_grouper;
  Workspace workspace;
  PostEncoder encoder;
};

}  // namespace

std::unique_ptr<Engine> make_cpu_engine(const ModelConfig& config, Parameters& parameters) {
  return std::make_unique<CpuEngine>(config, parameters);
}

}  // namespace tagspace
