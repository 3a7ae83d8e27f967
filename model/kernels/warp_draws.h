// The random numbers of WARP and the loss of a pair, which all implementations share. Pairs are counted
// within the global batch.
#pragma once

#include <cstdint>
#include <math.h>  // NOLINT(modernize-deprecated-headers): C functions, which have no inline copies

#include "model/kernels/philox.h"
#include "model/kernels/warp.h"

namespace tagspace::kernels {

// Draws of the pool that stand next to each other in every pair's order, so that their rows may stand next to
// each other in memory.
constexpr std::uint32_t kPoolGroup = 8;

// Pools are powers of two, of at least this many draws.
constexpr std::uint32_t kSmallestPool = 512;

// The draws of the pool that all pairs search first.
TAGSPACE_HOST_DEVICE std::uint32_t first_part(const WarpConfig& config) {
  return config.pool_in_parts ? config.pool / 4 : config.pool;
}

// Where in the pool a pair finds its draw `draw` under `shared`: it begins with a group of its own and goes
// on by a stride of its own, odd, and so comes to all of the pool's groups once. Draws of the pool are
// independent of each other: whatever the order, a pair meets the same distribution as with draws of its own.
//
// In parts it searches the pool's first fourth so, then the second, then the second half, and begins within
// each group in a place of its own: a fourth of the groups has a fourth of their first draws.
TAGSPACE_HOST_DEVICE std::uint32_t place_in_pool(const WarpConfig& config, std::uint32_t pair,
                                                 std::uint32_t draw) {
  std::uint32_t mixed = pair * 0x9E3779B1U;
  mixed = (mixed ^ (mixed >> 15)) * 0x85EBCA77U;
  mixed ^= mixed >> 13;
  const std::uint32_t first = first_part(config);
  const std::uint32_t begin = draw < first ? 0 : draw < 2 * first ? first : 2 * first;
  const std::uint32_t size = begin == 0 ? first : begin;
  const std::uint32_t group = mixed + draw / kPoolGroup * ((mixed >> 16) | 1U);
  const std::uint32_t turn = config.pool_in_parts ? mixed >> 28 : 0;
  return begin + (group * kPoolGroup & (size - 1)) + (draw + turn) % kPoolGroup;
}

// Draws after which a search ends.
TAGSPACE_HOST_DEVICE std::uint32_t max_draws(const WarpConfig& config) {
  return config.negatives == Negatives::shared ? config.pool : 4 * config.max_tries + 64;
}

// The row that a pair's draw proposes. Under `shared` a draw of the pool has the random numbers that the
// draw of the same number has for pair 0 under `sampled`.
TAGSPACE_HOST_DEVICE std::uint32_t proposed_row(const WarpConfig& config, std::uint64_t step,
                                                std::uint32_t pair, std::uint32_t draw, std::uint32_t rows) {
  if (config.negatives == Negatives::shared) {
    draw = place_in_pool(config, pair, draw);
    pair = 0;
  }
  Philox4 words = random_words(config.seed, RandomStream::negatives, step, pair, draw / 2);
  // The second half is moved to the first, for an index that is not known to a GPU's compiler would put it in
  // memory.
  if (draw % 2 != 0) {
    words.word[0] = words.word[2];
    words.word[1] = words.word[3];
  }
  return negative_of_words(words, 0, rows);
}

// A negative with a score above this violates.
TAGSPACE_HOST_DEVICE float violation_threshold(const WarpConfig& config, float positive_score) {
  return config.loss == PairLoss::margin ? positive_score - config.margin : -INFINITY;
}

// The loss of a violator before its weight, and its derivative with respect to the violator's score; the
// positive's is the negative of that.
struct LossOfPair {
  float loss;
  float slope;
};
TAGSPACE_HOST_DEVICE LossOfPair loss_of_pair(const WarpConfig& config, float positive_score,
                                             float negative_score) {
  if (config.loss == PairLoss::margin) return {config.margin - positive_score + negative_score, 1};
  // exp of nothing above 0.
  const float difference = negative_score - positive_score;
  const float e = ::expf(-::fabsf(difference));
  const float loss = (difference > 0 ? difference : 0) + ::log1pf(e);
  // Not the difference's own sign alone, so that a score that is no number reaches the loss.
  return {difference <= 0 || difference > 0 ? loss : difference, (difference > 0 ? 1 : e) / (1 + e)};
}

// What `exact` draws for a pair with `violators` violators among `candidates` rows.
struct ExactDraw {
  std::uint32_t tries = 0;   // N, or max_tries in vain, or 0 without a candidate
  bool found = false;        // a violator,
  std::uint32_t chosen = 0;  // the how-manieth of them, from 0, in the order of the rows
};

// With u uniform in (0, 1], N = 1 + floor(ln u / ln(1 - m / n)) is geometric: N > k exactly if u < (1 - m /
// n)^k.
static inline ExactDraw exact_draw(const WarpConfig& config, std::uint64_t step, std::uint32_t pair,
                                   std::uint32_t violators, std::uint32_t candidates) {
  ExactDraw draw;
  if (candidates == 0) return draw;
  draw.tries = config.max_tries;
  if (violators == 0) return draw;
  const Philox4 words = random_words(config.seed, RandomStream::exact_negatives, step, pair, 0);
  draw.chosen = negative_of_words(words, 1, violators);
  double in_vain = 0;
  if (violators < candidates) {
    const std::uint64_t u = words.word[0] | (std::uint64_t{words.word[1]} << 32);
    const double uniform = (static_cast<double>(u >> 11) + 1) * 0x1p-53;
    in_vain = __builtin_log(uniform) / __builtin_log1p(-static_cast<double>(violators) / candidates);
  }
  if (in_vain >= config.max_tries) return draw;
  draw.tries = 1 + static_cast<std::uint32_t>(in_vain);
  draw.found = true;
  return draw;
}

}  // namespace tagspace::kernels
