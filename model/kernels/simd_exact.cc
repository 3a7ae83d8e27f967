// WARP for one instruction set, without fused multiply-adds: scores and decisions equal warp_reference's bit
// for bit.
#include "model/kernels/philox.h"
#include "model/kernels/simd.h"
#include "model/kernels/simd_vector.h"

namespace tagspace::kernels {
namespace {

// The 16 partial sums of dot_reference.
struct PartialSums {
  Vec v[kVecs] = {};

  void add_products(const float* a, const float* b) {
    for (std::size_t j = 0; j < kVecs; ++j) v[j] += load(a + j * kLanes) * load(b + j * kLanes);
  }

  [[nodiscard]] float total() const {
    float sums[kBlock];
    for (std::size_t j = 0; j < kVecs; ++j) store(sums + j * kLanes, v[j]);
    using Vec8 = float __attribute__((vector_size(32)));
    using Vec4 = float __attribute__((vector_size(16)));
    Vec8 low;
    Vec8 high;
#if TAGSPACE_LANES == 8
    low = v[0];
    high = v[1];
#else
    __builtin_memcpy(&low, sums, sizeof low);
    __builtin_memcpy(&high, sums + 8, sizeof high);
#endif
    const Vec8 eight = low + high;
    const Vec4 four =
        __builtin_shufflevector(eight, eight, 0, 1, 2, 3) + __builtin_shufflevector(eight, eight, 4, 5, 6, 7);
    const Vec4 two = four + __builtin_shufflevector(four, four, 2, 3, 2, 3);
    return two[0] + two[1];
  }
};

// <a, b>, in dot_reference's order of additions.
inline float dot(const float* a, const float* b, std::size_t dim) {
  PartialSums sums;
  std::size_t i = 0;
  for (; i + kBlock <= dim; i += kBlock) sums.add_products(a + i, b + i);
  if (i < dim) {
    float a_tail[kBlock] = {};
    float b_tail[kBlock] = {};
    for (std::size_t j = 0; i + j < dim; ++j) {
      a_tail[j] = a[i + j];
      b_tail[j] = b[i + j];
    }
    sums.add_products(a_tail, b_tail);
  }
  return sums.total();
}

inline float inverse_norm(float squared_norm) {
  return squared_norm == 0 ? 0 : 1 / __builtin_sqrtf(squared_norm);
}

inline void prefetch_row(const float* row, std::size_t dim) {
  for (std::size_t i = 0; i < dim; i += 16) __builtin_prefetch(row + i);
}

inline bool contains(const std::uint32_t* begin, const std::uint32_t* end, std::uint32_t row) {
  while (end - begin > 8) {
    const std::uint32_t* middle = begin + (end - begin) / 2;
    if (*middle <= row) {
      begin = middle;
    } else {
      end = middle;
    }
  }
  for (; begin != end; ++begin) {
    if (*begin == row) return true;
  }
  return false;
}

void search_posts(const WarpConfig& config, const WarpBatch& batch, float gradient_scale,
                  const WarpResult& result, std::size_t begin, std::size_t end) {
  // Rows are drawn and their cache lines asked for in groups, so that memory is waited for once a group.
  constexpr std::uint32_t kGroup = 8;
  const std::size_t dim = batch.dim;
  const bool cosine = config.score == Score::cosine;
  const std::uint64_t max_draws = 4 * std::uint64_t{config.max_tries} + 64;

  for (std::size_t post = begin; post < end; ++post) {
    const float* p = batch.post_vectors + post * dim;
    float* p_gradient = result.post_gradient + post * dim;
    for (std::size_t i = 0; i < dim; ++i) p_gradient[i] = 0;
    const std::uint32_t* own_begin = batch.own + batch.own_offsets[post];
    const std::uint32_t* own_end = batch.own + batch.own_offsets[post + 1];
    const float p_inverse = cosine ? inverse_norm(dot(p, p, dim)) : 1;
    const auto t_inverse = [&](const float* t) { return cosine ? inverse_norm(dot(t, t, dim)) : 1.0F; };
    const auto score = [&](const float* t) { return dot(p, t, dim) * p_inverse * t_inverse(t); };

    for (std::uint32_t pair = batch.positive_offsets[post]; pair < batch.positive_offsets[post + 1]; ++pair) {
      const float* positive = batch.table + std::size_t{batch.positives[pair]} * dim;
      const float positive_score = score(positive);
      const float threshold = positive_score - config.margin;

      std::uint32_t violator = kNoViolator;
      float violator_score = 0;
      std::uint32_t tries = 0;
      std::uint32_t rows[kGroup];
      // The first try often violates early in training, so the first group is short.
      std::uint32_t group = 2;
      const bool has_negatives = static_cast<std::size_t>(own_end - own_begin) < batch.rows;
      for (std::uint32_t draw = 0; has_negatives && violator == kNoViolator && draw < max_draws;
           draw += group) {
        if (draw > 0) group = kGroup;
        if (group > max_draws - draw) group = static_cast<std::uint32_t>(max_draws - draw);
        for (std::uint32_t d = 0; d < group; d += 2) {
          const Philox4 words = random_words(config.seed, RandomStream::negatives, batch.step,
                                             batch.first_pair + pair, (draw + d) / 2);
          rows[d] = negative_of_words(words, 0, batch.rows);
          rows[d + 1] = negative_of_words(words, 1, batch.rows);
          prefetch_row(batch.table + std::size_t{rows[d]} * dim, dim);
          prefetch_row(batch.table + std::size_t{rows[d + 1]} * dim, dim);
        }
        for (std::uint32_t d = 0; d < group && tries < config.max_tries; ++d) {
          if (contains(own_begin, own_end, rows[d])) continue;
          ++tries;
          violator_score = score(batch.table + std::size_t{rows[d]} * dim);
          if (violator_score <= threshold) continue;
          violator = rows[d];
          break;
        }
        if (tries == config.max_tries) break;
      }

      result.violator[pair] = violator;
      result.tries[pair] = tries;
      result.loss[pair] = 0;
      result.positive_gradient[pair] = {};
      result.negative_gradient[pair] = {};
      if (violator == kNoViolator) continue;
      // See warp_reference for the derivative.
      const float* negative = batch.table + std::size_t{violator} * dim;
      const float weight = config.weight_of_tries[tries - 1];
      result.loss[pair] = weight * (config.margin - positive_score + violator_score);
      const float w = weight * gradient_scale;
      const float positive_inverse = t_inverse(positive);
      const float negative_inverse = t_inverse(negative);
      const float to_positive = -w * p_inverse * positive_inverse;
      const float to_negative = w * p_inverse * negative_inverse;
      result.positive_gradient[pair].post = to_positive;
      result.negative_gradient[pair].post = to_negative;
      float p_self = 0;
      if (cosine) {
        result.positive_gradient[pair].row = w * positive_score * positive_inverse * positive_inverse;
        result.negative_gradient[pair].row = -w * violator_score * negative_inverse * negative_inverse;
        p_self = w * (positive_score - violator_score) * p_inverse * p_inverse;
      }
      for (std::size_t i = 0; i < dim; ++i) {
        p_gradient[i] += to_negative * negative[i] + to_positive * positive[i] + p_self * p[i];
      }
    }
  }
}

}  // namespace

namespace TAGSPACE_ISA {
void warp_posts(const WarpConfig& config, const WarpBatch& batch, float gradient_scale,
                const WarpResult& result, std::size_t begin, std::size_t end);
void warp_posts(const WarpConfig& config, const WarpBatch& batch, float gradient_scale,
                const WarpResult& result, std::size_t begin, std::size_t end) {
  search_posts(config, batch, gradient_scale, result, begin, end);
}
}  // namespace TAGSPACE_ISA

}  // namespace tagspace::kernels
