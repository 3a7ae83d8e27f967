// The plain reference of hogwild.h.
#include <algorithm>
#include <cmath>

#include "model/kernels/bfloat16.h"
#include "model/kernels/hogwild.h"

namespace tagspace::kernels {
namespace {

// The step of one pair on row number `row`, whose gradient is of.post * p + of.row * the row.
void step_on(std::uint32_t row, const float* p, const RowGradient& of, std::size_t dim,
             const Optimizer& optimizer, bool bfloat16, const RoundingSource& rounding, std::uint32_t item,
             float* table, float* sums) {
  RowGroups groups;
  groups.rows = {row};
  groups.offsets = {0, 1};
  groups.order = {0};
  const std::uint32_t source = 0;
  Optimizer uncut = optimizer;
  uncut.max_norm = 0;
  update_rows_reference(uncut, groups, {p, &source, &of.post, &of.row}, dim, table, sums);

  float* x = table + row * dim;
  const auto rounded = [&](float value, std::uint32_t random) {
    return bfloat16 ? to_float(round_at_random(value, random)) : value;
  };
  float squared_norm = 0;
  for (std::uint32_t i = 0; i < dim; ++i) {
    x[i] = rounded(x[i], rounding_words(rounding, item, i / 4).word[i % 4]);
    squared_norm += x[i] * x[i];
  }
  const float norm = std::sqrt(squared_norm);
  if (!(optimizer.max_norm > 0 && norm > optimizer.max_norm)) return;
  for (std::uint32_t i = 0; i < dim; ++i) {
    const std::uint32_t random = rounding_words(rounding, item, static_cast<std::uint32_t>(dim) + i).word[0];
    x[i] = rounded(x[i] * (optimizer.max_norm / norm), random);
  }
}

}  // namespace

void hogwild_reference(const WarpConfig& config, const WarpBatch& batch, float gradient_scale,
                       const Optimizer& optimizer, bool bfloat16, float* table, float* sums,
                       const WarpResult& result) {
  const std::size_t dim = batch.dim;
  const RoundingSource rounding{config.seed, RandomStream::hashtag_rounding, batch.step};
  std::vector<float> gradient(dim);
  for (std::size_t post = 0; post < batch.posts; ++post) {
    const float* p = batch.post_vectors + post * dim;
    float* p_gradient = result.post_gradient + post * dim;
    std::fill(p_gradient, p_gradient + dim, 0.0F);
    for (std::uint32_t pair = batch.positive_offsets[post]; pair < batch.positive_offsets[post + 1]; ++pair) {
      // A batch of this pair alone, with the number that it has in the whole.
      const std::uint32_t one[] = {0, 1};
      WarpBatch alone = batch;
      alone.posts = 1;
      alone.post_vectors = p;
      alone.table = table;
      alone.own_offsets = batch.own_offsets + post;
      alone.positives = batch.positives + pair;
      alone.positive_offsets = one;
      alone.first_pair = batch.first_pair + pair;
      warp_reference(config, alone, gradient_scale,
                     {result.violator + pair, result.tries + pair, result.loss + pair,
                      result.positive_gradient + pair, result.negative_gradient + pair, gradient.data()});
      for (std::size_t i = 0; i < dim; ++i) p_gradient[i] += gradient[i];
      if (result.violator[pair] == kNoViolator) continue;
      step_on(batch.positives[pair], p, result.positive_gradient[pair], dim, optimizer, bfloat16, rounding,
              2 * alone.first_pair, table, sums);
      step_on(result.violator[pair], p, result.negative_gradient[pair], dim, optimizer, bfloat16, rounding,
              2 * alone.first_pair + 1, table, sums);
    }
  }
}

}  // namespace tagspace::kernels
