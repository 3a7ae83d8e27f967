// bfloat16: the upper half of a float32. Tables may be kept in it on a GPU, at half the memory; all
// arithmetic stays in float32.
//
// An Adagrad step is often smaller than half the distance of two neighbouring bfloat16 numbers, and rounding
// to the nearest would lose it every time. Rounding at random, up with the probability of the part that is
// cut off, keeps it on average (Gupta, Agrawal, Gopalakrishnan, Narayanan, "Deep learning with limited
// numerical precision", ICML 2015). The random bits come from philox.h, so that a training is reproducible.
#pragma once

#include <cstdint>
#include <cstring>

#include "model/kernels/philox.h"

namespace tagspace::kernels {

struct Bfloat16 {
  std::uint16_t bits;
};

TAGSPACE_HOST_DEVICE float to_float(Bfloat16 value) {
  const std::uint32_t bits = static_cast<std::uint32_t>(value.bits) << 16;
  float result = 0;
  memcpy(&result, &bits, sizeof result);
  return result;
}

// The neighbour of `value` above or below it in magnitude: above for as many of the 65536 values of `random`
// as the cut-off part says. A value that bfloat16 can hold, an infinity among them, is kept; what is not a
// number stays so.
TAGSPACE_HOST_DEVICE Bfloat16 round_at_random(float value, std::uint32_t random) {
  std::uint32_t bits = 0;
  memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7FFFFFFF) > 0x7F800000) return {static_cast<std::uint16_t>((bits >> 16) | 0x40)};
  return {static_cast<std::uint16_t>((bits + (random & 0xFFFF)) >> 16)};
}

// To the nearest; ties to even.
TAGSPACE_HOST_DEVICE Bfloat16 round_to_nearest(float value) {
  std::uint32_t bits = 0;
  memcpy(&bits, &value, sizeof bits);
  return round_at_random(value, 0x7FFF + ((bits >> 16) & 1));
}

// What the elements of a row are rounded with: element i takes the low half of word i % 4 of block i / 4.
// `item` is the row's number, or the update's where a row may have several in a step.
struct RoundingSource {
  std::uint64_t seed = 0;
  RandomStream stream = RandomStream::hashtag_rounding;
  std::uint64_t step = 0;
};
TAGSPACE_HOST_DEVICE Philox4 rounding_words(const RoundingSource& source, std::uint32_t item,
                                            std::uint32_t block) {
  return random_words(source.seed, source.stream, source.step, item, block);
}

}  // namespace tagspace::kernels
