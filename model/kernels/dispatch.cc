// The loops around simd.h: they share tasks out to threads. A task's result depends on its number alone,
// never on the number of threads.
#include <algorithm>
#include <cassert>
#include <cstring>
#include <span>

#include "model/kernels/cpu_context.h"
#include "model/kernels/encoder.h"
#include "model/kernels/row_update.h"
#include "model/kernels/simd.h"
#include "model/kernels/warp.h"

namespace tagspace::kernels {

#ifdef TAGSPACE_HAS_AVX512
namespace avx512 {
extern const SimdKernels simd_kernels;
}
#endif
#ifdef TAGSPACE_HAS_AVX2
namespace avx2 {
extern const SimdKernels simd_kernels;
}
#endif
namespace baseline {
extern const SimdKernels simd_kernels;
}

std::span<const SimdKernels* const> available_simd_kernels() {
  static const std::vector<const SimdKernels*> available = [] {
    std::vector<const SimdKernels*> kernels = {&baseline::simd_kernels};
#ifdef TAGSPACE_HAS_AVX2
    if (avx2::simd_kernels.supported()) kernels.push_back(&avx2::simd_kernels);
#endif
#ifdef TAGSPACE_HAS_AVX512
    if (avx512::simd_kernels.supported()) kernels.push_back(&avx512::simd_kernels);
#endif
    return kernels;
  }();
  return available;
}

namespace {

constexpr std::size_t kPostsPerTask = 16;
constexpr std::size_t kRowsPerTask = 64;
constexpr std::size_t kElementsPerTask = 16384;
constexpr std::size_t kBackwardFilters = 64;  // filters whose weights, or gradients, stay in a core's cache

std::size_t tasks_of(std::size_t count, std::size_t per_task) { return (count + per_task - 1) / per_task; }

// Runs body(begin, end) over [0, count) in pieces of per_task.
template <typename Body>
void for_ranges(CpuContext& context, std::size_t count, std::size_t per_task, const Body& body) {
  context.pool.run(tasks_of(count, per_task), [&](std::size_t task, std::size_t) {
    body(task * per_task, std::min(count, (task + 1) * per_task));
  });
}

float* scratch_of(CpuContext& context, std::size_t thread, std::size_t floats) {
  auto& scratch = context.scratch[thread];
  if (scratch.size() < floats) scratch.resize(floats);
  return scratch.data();
}

}  // namespace

void warp(const WarpConfig& config, const WarpBatch& batch, float gradient_scale, const WarpResult& result,
          CpuContext& context) {
  for_ranges(context, batch.posts, kPostsPerTask, [&](std::size_t begin, std::size_t end) {
    context.simd->warp_posts(config, batch, gradient_scale, result, begin, end);
  });
}

void bag_forward(const PackedTokens& tokens, const float* word_vectors, std::size_t dim, float* post_vectors,
                 float* scales, CpuContext& context) {
  for_ranges(context, tokens.posts, kPostsPerTask, [&](std::size_t begin, std::size_t end) {
    context.simd->bag_posts(tokens, word_vectors, dim, post_vectors, scales, begin, end);
  });
}

void RowGrouper::group(const std::uint32_t* keys, std::size_t count, RowGroups& groups) {
  sorted_.clear();
  std::uint32_t largest = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (keys[i] == kNoRow) continue;
    sorted_.push_back(std::uint64_t{keys[i]} << 32 | i);
    largest = std::max(largest, keys[i]);
  }
  constexpr unsigned kBits = 11;
  buffer_.resize(sorted_.size());
  for (unsigned shift = 0; shift < 32 && (largest >> shift) != 0; shift += kBits) {
    const auto digit = [&](std::uint64_t entry) { return (entry >> (32 + shift)) & ((1U << kBits) - 1); };
    std::size_t starts[(1U << kBits) + 1] = {};
    for (const auto entry : sorted_) ++starts[digit(entry) + 1];
    for (std::size_t d = 0; d < (1U << kBits); ++d) starts[d + 1] += starts[d];
    for (const auto entry : sorted_) buffer_[starts[digit(entry)]++] = entry;
    sorted_.swap(buffer_);
  }
  groups.rows.clear();
  groups.offsets.clear();
  groups.order.clear();
  for (const auto entry : sorted_) {
    const auto row = static_cast<std::uint32_t>(entry >> 32);
    if (groups.rows.empty() || groups.rows.back() != row) {
      groups.rows.push_back(row);
      groups.offsets.push_back(static_cast<std::uint32_t>(groups.order.size()));
    }
    groups.order.push_back(static_cast<std::uint32_t>(entry));
  }
  groups.offsets.push_back(static_cast<std::uint32_t>(groups.order.size()));
}

void update_rows(const Optimizer& optimizer, const RowGroups& groups, const RowContributions& contributions,
                 std::size_t dim, float* table, float* sums, CpuContext& context) {
  const RowGroupsView view{groups.rows.data(), groups.offsets.data(), groups.order.data()};
  for_ranges(context, groups.rows.size(), kRowsPerTask, [&](std::size_t begin, std::size_t end) {
    context.simd->update_row_groups(optimizer, view, contributions, dim, table, sums, begin, end);
  });
}

void update_dense(const Optimizer& optimizer, const float* gradient, std::size_t count, float* values,
                  float* sums, CpuContext& context) {
  for_ranges(context, count, kElementsPerTask, [&](std::size_t begin, std::size_t end) {
    context.simd->update_elements(optimizer, gradient, values, sums, begin, end);
  });
}

// A task is a block of filters: its products with all distinct words stay in the core's cache while the
// posts' maxima are taken from them.
void conv_max_forward(const ConvShape& shape, const PackedTokens& tokens, const float* word_vectors,
                      std::size_t word_count, const float* weight, const float* bias, float* maximum,
                      std::uint32_t* place, CpuContext& context) {
  const std::size_t packed_floats = std::size_t{shape.window} * shape.dim * kFilterBlock;
  const std::size_t product_floats = (word_count + 1) * shape.window * kFilterBlock;
  const std::size_t result_floats = tokens.posts * kFilterBlock;
  context.pool.run(tasks_of(shape.filters, kFilterBlock), [&](std::size_t task, std::size_t thread) {
    float* packed = scratch_of(context, thread, packed_floats + product_floats + 2 * result_floats);
    float* products = packed + packed_floats;
    float* block_maximum = products + product_floats;
    auto* block_place = reinterpret_cast<std::uint32_t*>(block_maximum + result_floats);
    const std::size_t first = task * kFilterBlock;
    const std::size_t count = std::min(kFilterBlock, shape.filters - first);
    for (std::size_t j = 0; j < kFilterBlock; ++j) {
      for (std::size_t kd = 0; kd < std::size_t{shape.window} * shape.dim; ++kd) {
        packed[kd * kFilterBlock + j] = j < count ? weight[(first + j) * shape.window * shape.dim + kd] : 0;
      }
    }
    context.simd->filter_products(shape, word_vectors, word_count, packed, products);
    context.simd->filter_maxima(shape, tokens, word_count, products, block_maximum, block_place);
    for (std::size_t post = 0; post < tokens.posts; ++post) {
      for (std::size_t j = 0; j < count; ++j) {
        maximum[post * shape.filters + first + j] = block_maximum[post * kFilterBlock + j] + bias[first + j];
        place[post * shape.filters + first + j] = block_place[post * kFilterBlock + j];
      }
    }
  });
}

// Two passes, each with an owner for what it adds to: a block of filters owns its weights' gradients and
// walks the posts in order; a group of posts owns its tokens' gradients and walks the filters in order.
void conv_max_backward(const ConvShape& shape, const PackedTokens& tokens, const float* word_vectors,
                       const float* weight, const float* gradient, const std::uint32_t* place,
                       float* weight_gradient, float* bias_gradient, float* token_gradient,
                       CpuContext& context) {
  const std::size_t dim = shape.dim;
  const std::size_t filters = shape.filters;
  const std::size_t left = (shape.window - 1) / 2;
  const std::size_t window_floats = std::size_t{shape.window} * dim;
  std::uint32_t longest = 1;
  for (std::size_t post = 0; post < tokens.posts; ++post) {
    longest = std::max(longest, tokens.offsets[post + 1] - tokens.offsets[post]);
  }
  // A post's vectors with the zero vectors around them: every window is one run of memory.
  const std::size_t padded_floats = (longest + shape.window - 1) * dim;

  context.pool.run(tasks_of(filters, kBackwardFilters), [&](std::size_t task, std::size_t thread) {
    float* padded = scratch_of(context, thread, padded_floats);
    const std::size_t first = task * kBackwardFilters;
    const std::size_t last = std::min(filters, first + kBackwardFilters);
    std::fill(weight_gradient + first * window_floats, weight_gradient + last * window_floats, 0.0F);
    std::fill(bias_gradient + first, bias_gradient + last, 0.0F);
    for (std::size_t post = 0; post < tokens.posts; ++post) {
      const float* g = gradient + post * filters;
      if (std::all_of(g + first, g + last, [](float x) { return x == 0; })) continue;
      const std::size_t begin = tokens.offsets[post];
      const std::size_t length = tokens.offsets[post + 1] - begin;
      std::fill_n(padded, (std::max<std::size_t>(1, length) + shape.window - 1) * dim, 0.0F);
      for (std::size_t t = 0; t < length; ++t) {
        const std::uint32_t word = tokens.words[begin + t];
        if (word != kNoWord) std::copy_n(word_vectors + word * dim, dim, padded + (left + t) * dim);
      }
      for (std::size_t f = first; f < last; ++f) {
        if (g[f] == 0) continue;
        bias_gradient[f] += g[f];
        context.simd->add_scaled(g[f], padded + place[post * filters + f] * dim,
                                 weight_gradient + f * window_floats, window_floats);
      }
    }
  });

  context.pool.run(tasks_of(tokens.posts, kPostsPerTask), [&](std::size_t task, std::size_t thread) {
    float* padded = scratch_of(context, thread, kPostsPerTask * padded_floats);
    const std::size_t first = task * kPostsPerTask;
    const std::size_t last = std::min(tokens.posts, first + kPostsPerTask);
    std::fill_n(padded, (last - first) * padded_floats, 0.0F);
    for (std::size_t block = 0; block < filters; block += kBackwardFilters) {
      const std::size_t block_end = std::min(filters, block + kBackwardFilters);
      for (std::size_t post = first; post < last; ++post) {
        float* sums = padded + (post - first) * padded_floats;
        for (std::size_t f = block; f < block_end; ++f) {
          const float g = gradient[post * filters + f];
          if (g == 0) continue;
          context.simd->add_scaled(g, weight + f * window_floats, sums + place[post * filters + f] * dim,
                                   window_floats);
        }
      }
    }
    for (std::size_t post = first; post < last; ++post) {
      const float* sums = padded + (post - first) * padded_floats + left * dim;
      for (std::size_t t = tokens.offsets[post]; t < tokens.offsets[post + 1]; ++t, sums += dim) {
        float* target = token_gradient + t * dim;
        if (tokens.words[t] == kNoWord) {
          std::fill_n(target, dim, 0.0F);
        } else {
          std::copy_n(sums, dim, target);
        }
      }
    }
  });
}

}  // namespace tagspace::kernels
