// The random numbers of WARP, which all implementations share. Pairs are counted within the global batch.
#pragma once

#include <cmath>
#include <cstdint>

#include "model/kernels/philox.h"
#include "model/kernels/warp.h"

namespace tagspace::kernels {

// The words of draws 2 * block and 2 * block + 1 of a pair, for negative_of_words(). All of a step's draws
// are one sequence of 2^64 Philox blocks, in which a pair has its place: under `sampled` 2^32 blocks after
// that of the pair before, so that no two pairs read the same; under `shared` kSharedStride draws after it.
TAGSPACE_HOST_DEVICE std::uint64_t first_block(Negatives negatives, std::uint32_t pair) {
  return std::uint64_t{pair} << (negatives == Negatives::shared ? 4U : 32U);
}
static_assert(kSharedStride == 2U << 4U);
TAGSPACE_HOST_DEVICE Philox4 draw_words(const WarpConfig& config, std::uint64_t step, std::uint32_t pair,
                                        std::uint32_t block) {
  const std::uint64_t place = first_block(config.negatives, pair) + block;
  return random_words(config.seed, RandomStream::negatives, step, static_cast<std::uint32_t>(place >> 32),
                      static_cast<std::uint32_t>(place));
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
