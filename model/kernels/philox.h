// Philox4x32-10, a counter-based random generator: every number is a pure function of (key, counter), so that
// work can be split among threads, or moved to a GPU, without changing a single draw.
//
// Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#pragma once

#include <cstdint>

// "static", because files that include this header are compiled for different instruction sets: the linker
// must not let one of them use another's copy.
#ifdef __CUDACC__
#define TAGSPACE_HOST_DEVICE __host__ __device__ static inline
#else
#define TAGSPACE_HOST_DEVICE static inline
#endif

namespace tagspace::kernels {

struct Philox4 {
  std::uint32_t word[4];
};

constexpr std::uint32_t kPhiloxMultiplier0 = 0xD2511F53;
constexpr std::uint32_t kPhiloxMultiplier1 = 0xCD9E8D57;
constexpr std::uint32_t kPhiloxWeyl0 = 0x9E3779B9;
constexpr std::uint32_t kPhiloxWeyl1 = 0xBB67AE85;

TAGSPACE_HOST_DEVICE Philox4 philox4x32_10(std::uint64_t key, Philox4 counter) {
  auto key0 = static_cast<std::uint32_t>(key);
  auto key1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = std::uint64_t{kPhiloxMultiplier0} * counter.word[0];
    const std::uint64_t product1 = std::uint64_t{kPhiloxMultiplier1} * counter.word[2];
    counter = {{static_cast<std::uint32_t>(product1 >> 32) ^ counter.word[1] ^ key0,
                static_cast<std::uint32_t>(product1),
                static_cast<std::uint32_t>(product0 >> 32) ^ counter.word[3] ^ key1,
                static_cast<std::uint32_t>(product0)}};
    key0 += kPhiloxWeyl0;
    key1 += kPhiloxWeyl1;
  }
  return counter;
}

// The high 64 bits of a * b.
TAGSPACE_HOST_DEVICE std::uint64_t multiply_high(std::uint64_t a, std::uint64_t b) {
  const std::uint64_t a_low = static_cast<std::uint32_t>(a);
  const std::uint64_t a_high = a >> 32;
  const std::uint64_t b_low = static_cast<std::uint32_t>(b);
  const std::uint64_t b_high = b >> 32;
  const std::uint64_t middle = a_high * b_low + ((a_low * b_low) >> 32);
  const std::uint64_t middle2 = a_low * b_high + static_cast<std::uint32_t>(middle);
  return a_high * b_high + (middle >> 32) + (middle2 >> 32);
}

// What a random number is for. Streams of one seed are independent of each other; negatives read the key as
// it is.
enum class RandomStream : std::uint64_t {
  negatives = 0,
  positives = 1,
  word_dropout = 2,
  feature_dropout = 3,
  hashtag_rounding = 4,
  word_rounding = 5,
  exact_negatives = 6,
  candidates = 7
};

TAGSPACE_HOST_DEVICE std::uint64_t philox_key(std::uint64_t seed, RandomStream stream) {
  return seed ^ (static_cast<std::uint64_t>(stream) * 0x9E3779B97F4A7C15U);
}

// The four words that belong to (seed, stream, step, item, block).
TAGSPACE_HOST_DEVICE Philox4 random_words(std::uint64_t seed, RandomStream stream, std::uint64_t step,
                                          std::uint32_t item, std::uint32_t block) {
  return philox4x32_10(philox_key(seed, stream), {{block, item, static_cast<std::uint32_t>(step),
                                                   static_cast<std::uint32_t>(step >> 32)}});
}

// The row that draw `draw` (from 0) of pair `pair` at step `step` proposes as a negative, uniform over
// `rows`: words 2 (draw mod 2) and 2 (draw mod 2) + 1 of block draw / 2 are the low and high half of u, the
// row is the high half of the 128-bit product u * rows.
TAGSPACE_HOST_DEVICE std::uint32_t negative_of_words(const Philox4& words, std::uint32_t draw,
                                                     std::uint32_t rows) {
  const std::uint32_t half = 2 * (draw % 2);
  const std::uint64_t u = words.word[half] | (std::uint64_t{words.word[half + 1]} << 32);
  return static_cast<std::uint32_t>(multiply_high(u, rows));
}

}  // namespace tagspace::kernels
