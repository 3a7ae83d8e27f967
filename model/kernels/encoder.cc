// The loops around simd.h's encoders.
#include "model/kernels/encoder.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "model/kernels/row_update.h"
#include "model/kernels/simd.h"
#include "model/kernels/simd_convolution.h"
#include "model/kernels/tasks.h"

namespace tagspace::kernels {
namespace {

constexpr std::size_t kPostsPerTask = 16;

// Of the backward pass: as many filters, and rows of a slice of word vectors, as stay in a core's first cache
// together.
constexpr std::size_t kBackwardFilters = 64;
constexpr std::size_t kBackwardRows = 256;

constexpr float kZeros[kSlice] = {};

// A batch's posts with the zero vectors around them, end to end: every window is one run of rows.
struct PaddedPosts {
  std::vector<std::uint32_t> starts;  // [posts + 1] a post's first row
  // [groups + 1] first posts of groups that have at most kBackwardRows rows, or one post.
  std::vector<std::uint32_t> groups;

  PaddedPosts(const PackedTokens& tokens, std::size_t window) : starts(tokens.posts + 1) {
    for (std::size_t post = 0; post < tokens.posts; ++post) {
      const std::size_t length = tokens.offsets[post + 1] - tokens.offsets[post];
      const std::size_t rows = std::max<std::size_t>(1, length) + window - 1;
      starts[post + 1] = static_cast<std::uint32_t>(starts[post] + rows);
      if (groups.empty() || starts[post + 1] - starts[groups.back()] > kBackwardRows) {
        groups.push_back(static_cast<std::uint32_t>(post));
      }
    }
    groups.push_back(static_cast<std::uint32_t>(tokens.posts));
  }
  [[nodiscard]] std::size_t rows() const { return starts.back(); }
};

// Floats [slice * kSlice, (slice + 1) * kSlice) of a vector, zeros beyond its end.
void copy_slice(const float* vector, std::size_t dim, std::size_t slice, float* target) {
  const std::size_t first = slice * kSlice;
  if (first + kSlice <= dim) {
    std::memcpy(target, vector + first, kSlice * sizeof(float));
    return;
  }
  std::copy(vector + first, vector + dim, target);
  std::fill(target + (dim - first), target + kSlice, 0.0F);
}

// The way back, without what lies beyond the vector's end.
void copy_from_slice(const float* source, std::size_t dim, std::size_t slice, float* vector) {
  const std::size_t first = slice * kSlice;
  if (first + kSlice <= dim) {
    std::memcpy(vector + first, source, kSlice * sizeof(float));
  } else {
    std::copy_n(source, dim - first, vector + first);
  }
}

// Vectors and weights are cut into slices of kSlice dims, so that a window, or a filter's weights, is one
// short run of memory; and gradients that are not zero are listed by group of posts and filter, so that what
// one list reads and writes stays in registers and in a core's first cache.
class ConvBackward {
 public:
  ConvBackward(const ConvShape& shape, const PackedTokens& tokens, CpuContext& context)
      : shape_(shape),
        tokens_(tokens),
        context_(context),
        posts_(tokens, shape.window),
        groups_(posts_.groups.size() - 1),
        slices_(tasks_of(shape.dim, kSlice)),
        window_floats_(shape.window * kSlice) {
    const std::size_t vector_floats = slices_ * posts_.rows() * kSlice;
    const std::size_t weight_floats = slices_ * shape.filters * window_floats_;
    const std::size_t count_floats = groups_ * shape.filters;
    const std::size_t term_floats = tokens.posts * shape.filters * (sizeof(WindowTerm) / sizeof(float));
    vectors_ = shared_of(context, vector_floats + weight_floats + count_floats + term_floats);
    weights_ = vectors_ + vector_floats;
    counts_ = reinterpret_cast<std::uint32_t*>(weights_ + weight_floats);
    terms_ = reinterpret_cast<WindowTerm*>(weights_ + weight_floats + count_floats);
  }

  void run(const float* word_vectors, const float* weight, const float* gradient, const std::uint32_t* place,
           float* weight_gradient, float* bias_gradient, float* token_gradient) {
    const std::size_t filter_tasks = tasks_of(shape_.filters, kBackwardFilters);
    context_.pool.run(groups_ + filter_tasks, [&](std::size_t task, std::size_t) {
      if (task < groups_) {
        slice_vectors(task, word_vectors);
        list_terms(task, gradient, place);
      } else {
        slice_weights(task - groups_, weight);
      }
    });
    context_.pool.run(filter_tasks + groups_, [&](std::size_t task, std::size_t thread) {
      if (task < filter_tasks) {
        differentiate_weights(task, thread, weight_gradient, bias_gradient);
      } else {
        differentiate_tokens(task - filter_tasks, thread, token_gradient);
      }
    });
  }

 private:
  [[nodiscard]] float* vectors(std::size_t slice) const { return vectors_ + slice * posts_.rows() * kSlice; }
  [[nodiscard]] float* weights(std::size_t slice) const {
    return weights_ + slice * shape_.filters * window_floats_;
  }
  [[nodiscard]] std::size_t posts_of(std::size_t group) const {
    return posts_.groups[group + 1] - posts_.groups[group];
  }
  // Those of the group's posts, for the filters from `first` on.
  [[nodiscard]] WindowTerms terms_of(std::size_t group, std::size_t first) const {
    return {terms_ + std::size_t{posts_.groups[group]} * shape_.filters + first * posts_of(group),
            posts_of(group), counts_ + group * shape_.filters + first};
  }

  void slice_weights(std::size_t task, const float* weight) {
    const std::size_t first = task * kBackwardFilters;
    const std::size_t last = std::min<std::size_t>(shape_.filters, first + kBackwardFilters);
    for (std::size_t slice = 0; slice < slices_; ++slice) {
      for (std::size_t row = first * shape_.window; row < last * shape_.window; ++row) {
        copy_slice(weight + row * shape_.dim, shape_.dim, slice, weights(slice) + row * kSlice);
      }
    }
  }

  void slice_vectors(std::size_t group, const float* word_vectors) {
    const std::size_t left = (shape_.window - 1) / 2;
    for (std::size_t slice = 0; slice < slices_; ++slice) {
      for (std::size_t post = posts_.groups[group]; post < posts_.groups[group + 1]; ++post) {
        float* row = vectors(slice) + posts_.starts[post] * kSlice;
        std::fill(row, vectors(slice) + posts_.starts[post + 1] * kSlice, 0.0F);
        row += left * kSlice;
        for (std::size_t t = tokens_.offsets[post]; t < tokens_.offsets[post + 1]; ++t, row += kSlice) {
          const std::uint32_t word = tokens_.words[t];
          if (word != kNoWord)
            copy_slice(word_vectors + std::size_t{word} * shape_.dim, shape_.dim, slice, row);
        }
      }
    }
  }

  void list_terms(std::size_t group, const float* gradient, const std::uint32_t* place) {
    const std::size_t capacity = posts_of(group);
    for (std::size_t first = 0; first < shape_.filters; first += kBackwardFilters) {
      const std::size_t filters = std::min<std::size_t>(kBackwardFilters, shape_.filters - first);
      WindowTerm* terms = terms_ + std::size_t{posts_.groups[group]} * shape_.filters + first * capacity;
      std::uint32_t counts[kBackwardFilters] = {};
      for (std::size_t post = posts_.groups[group]; post < posts_.groups[group + 1]; ++post) {
        const float* g = gradient + post * shape_.filters + first;
        const std::uint32_t* at = place + post * shape_.filters + first;
        const std::uint32_t start = posts_.starts[post];
        for (std::size_t f = 0; f < filters; ++f) {
          // Written in any case, and written over if it is not to stay: that costs no jump.
          terms[f * capacity + counts[f]] = {g[f], start + at[f]};
          counts[f] += g[f] != 0 ? 1 : 0;
        }
      }
      std::copy_n(counts, filters, counts_ + group * shape_.filters + first);
    }
  }

  // A block of filters owns its weights' gradients and walks the posts in order.
  void differentiate_weights(std::size_t task, std::size_t thread, float* weight_gradient,
                             float* bias_gradient) {
    const std::size_t first = task * kBackwardFilters;
    const std::size_t filters = std::min<std::size_t>(kBackwardFilters, shape_.filters - first);
    const std::size_t sum_floats = filters * window_floats_;
    float* sums = scratch_of(context_, thread, sum_floats);
    for (std::size_t slice = 0; slice < slices_; ++slice) {
      std::fill_n(sums, sum_floats, 0.0F);
      for (std::size_t group = 0; group < groups_; ++group) {
        context_.simd->convolution->gather_windows(shape_.window, filters, terms_of(group, first),
                                                   vectors(slice), sums);
      }
      for (std::size_t row = 0; row < filters * shape_.window; ++row) {
        copy_from_slice(sums + row * kSlice, shape_.dim, slice,
                        weight_gradient + (first * shape_.window + row) * shape_.dim);
      }
    }
    std::fill_n(bias_gradient + first, filters, 0.0F);
    for (std::size_t group = 0; group < groups_; ++group) {
      const WindowTerms terms = terms_of(group, first);
      for (std::size_t f = 0; f < filters; ++f) {
        for (std::size_t i = 0; i < terms.counts[f]; ++i) {
          bias_gradient[first + f] += terms.terms[f * terms.capacity + i].factor;
        }
      }
    }
  }

  // A group of posts owns its tokens' gradients and walks the filters in order.
  void differentiate_tokens(std::size_t group, std::size_t thread, float* token_gradient) {
    const std::size_t first = posts_.groups[group];
    const std::size_t last = posts_.groups[group + 1];
    const std::size_t first_row = posts_.starts[first];
    const std::size_t sum_floats = (posts_.starts[last] - first_row) * kSlice;
    float* sums = scratch_of(context_, thread, sum_floats);
    const std::size_t left = (shape_.window - 1) / 2;
    for (std::size_t slice = 0; slice < slices_; ++slice) {
      std::fill_n(sums, sum_floats, 0.0F);
      context_.simd->convolution->scatter_windows(shape_.window, shape_.filters, terms_of(group, 0),
                                                  first_row, weights(slice), sums);
      for (std::size_t post = first; post < last; ++post) {
        const float* row = sums + (posts_.starts[post] - first_row + left) * kSlice;
        for (std::size_t t = tokens_.offsets[post]; t < tokens_.offsets[post + 1]; ++t, row += kSlice) {
          copy_from_slice(tokens_.words[t] == kNoWord ? kZeros : row, shape_.dim, slice,
                          token_gradient + t * shape_.dim);
        }
      }
    }
  }

  const ConvShape& shape_;
  const PackedTokens& tokens_;
  CpuContext& context_;
  PaddedPosts posts_;
  std::size_t groups_;
  std::size_t slices_;
  std::size_t window_floats_;  // of a slice
  float* vectors_;             // [slices, rows, kSlice]
  float* weights_;             // [slices, filters, window, kSlice]
  std::uint32_t* counts_;      // [groups, filters]
  WindowTerm* terms_;          // [groups, filters, posts of the group]; rows count from the batch's first
};

}  // namespace

void bag_forward(const PackedTokens& tokens, const float* word_vectors, std::size_t dim, float* post_vectors,
                 float* scales, CpuContext& context) {
  for_ranges(context, tokens.posts, kPostsPerTask, [&](std::size_t begin, std::size_t end) {
    bag_forward(tokens, word_vectors, dim, begin, end, post_vectors, scales, context);
  });
}

void bag_forward(const PackedTokens& tokens, const float* word_vectors, std::size_t dim, std::size_t begin,
                 std::size_t end, float* post_vectors, float* scales, const CpuContext& context) {
  context.simd->bag_posts(tokens, word_vectors, dim, post_vectors, scales, begin, end);
}

void gather_words(const std::uint32_t* words, std::size_t tokens, const float* word_vectors, std::size_t dim,
                  DistinctWords& distinct, CpuContext& context) {
  static_assert(kNoWord == kNoRow);
  distinct.grouper.group(words, tokens, distinct.groups);
  const RowGroups& groups = distinct.groups;
  float* vectors = room_for(distinct.vectors, groups.rows.size() * dim);
  std::uint32_t* places = room_for(distinct.places, tokens);
  std::fill_n(places, tokens, kNoWord);
  constexpr std::size_t kWordsPerTask = 128;
  for_ranges(context, groups.rows.size(), kWordsPerTask, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      std::copy_n(word_vectors + std::size_t{groups.rows[i]} * dim, dim, vectors + i * dim);
      for (auto at = groups.offsets[i]; at < groups.offsets[i + 1]; ++at) {
        places[groups.order[at]] = static_cast<std::uint32_t>(i);
      }
    }
  });
}

// A task is a block of filters: its products with all distinct words stay in the core's cache while the
// posts' maxima are taken from them.
void conv_max_forward(const ConvShape& shape, const PackedTokens& tokens, const float* word_vectors,
                      std::size_t word_count, const float* weight, const float* bias, float* maximum,
                      std::uint32_t* place, CpuContext& context) {
  const std::size_t packed_floats = std::size_t{shape.window} * shape.dim * kFilterBlock;
  const std::size_t product_floats = (word_count + 1) * shape.window * kFilterBlock;
  context.pool.run(tasks_of(shape.filters, kFilterBlock), [&](std::size_t task, std::size_t thread) {
    float* packed = scratch_of(context, thread, packed_floats + product_floats);
    float* products = packed + packed_floats;
    const std::size_t first = task * kFilterBlock;
    const std::size_t count = std::min(kFilterBlock, shape.filters - first);
    for (std::size_t j = 0; j < kFilterBlock; ++j) {
      for (std::size_t kd = 0; kd < std::size_t{shape.window} * shape.dim; ++kd) {
        packed[kd * kFilterBlock + j] = j < count ? weight[(first + j) * shape.window * shape.dim + kd] : 0;
      }
    }
    context.simd->convolution->filter_products(shape, word_vectors, word_count, packed, products);
    float block_bias[kFilterBlock] = {};
    std::copy_n(bias + first, count, block_bias);
    context.simd->convolution->filter_maxima(shape, tokens, word_count, products, block_bias, count,
                                             maximum + first, place == nullptr ? nullptr : place + first);
  });
}

void conv_max_backward(const ConvShape& shape, const PackedTokens& tokens, const float* word_vectors,
                       const float* weight, const float* gradient, const std::uint32_t* place,
                       float* weight_gradient, float* bias_gradient, float* token_gradient,
                       CpuContext& context) {
  ConvBackward(shape, tokens, context)
      .run(word_vectors, weight, gradient, place, weight_gradient, bias_gradient, token_gradient);
}

void draw_kept(const Dropout& dropout, std::size_t begin, std::size_t end, std::size_t columns,
               std::uint8_t* kept, const CpuContext& context) {
  context.simd->draw_kept(dropout, begin, end, columns, kept);
}

void drop_words(const Dropout& dropout, const std::uint32_t* from, std::size_t begin, std::size_t end,
                std::uint32_t* words, const CpuContext& context) {
  context.simd->drop_words(dropout, from, begin, end, words);
}

void draw_positives(std::uint64_t seed, std::uint64_t step, const std::uint32_t* hashtags,
                    const std::uint32_t* offsets, std::size_t begin, std::size_t end,
                    std::uint32_t* positives, const CpuContext& context) {
  context.simd->draw_positives(seed, step, hashtags, offsets, begin, end, positives);
}

void drop_values(const Dropout& dropout, const std::uint8_t* kept, std::size_t columns, float* values,
                 const CpuContext& context) {
  context.simd->drop_values(dropout, kept, columns, values);
}

void features_forward(const Dropout& dropout, const std::uint8_t* kept, std::size_t columns, float* maxima,
                      float* features, const CpuContext& context) {
  context.simd->features_forward(dropout, kept, columns, maxima, features);
}

void features_backward(const Dropout& dropout, const std::uint8_t* kept, std::size_t columns,
                       const float* once, const float* features, float* gradient, const CpuContext& context) {
  context.simd->features_backward(dropout, kept, columns, once, features, gradient);
}

}  // namespace tagspace::kernels
