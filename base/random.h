// Random numbers that are the same with every compiler and standard library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace tagspace {

// SplitMix64 (Steele, Lea, Flood 2014).
class Random {
 public:
  // Streams of different (seed, a, b) have nothing to do with each other.
  Random(std::uint64_t seed, std::uint64_t a, std::uint64_t b) : state_(mix(mix(mix(seed) + a) + b)) {}

  std::uint64_t next() {
    state_ += kGamma;
    return mix(state_);
  }

  // Uniform below `bound` > 0 (Lemire 2019).
  std::uint64_t below(std::uint64_t bound) {
    Wide product = static_cast<Wide>(next()) * bound;
    if (static_cast<std::uint64_t>(product) < bound) {
      const std::uint64_t threshold = (0 - bound) % bound;
      while (static_cast<std::uint64_t>(product) < threshold) product = static_cast<Wide>(next()) * bound;
    }
    return static_cast<std::uint64_t>(product >> 64U);
  }

  template <class T>
  void shuffle(std::span<T> items) {
    for (std::size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[below(i)]);
  }

 private:
  __extension__ using Wide = unsigned __int128;
  static constexpr std::uint64_t kGamma = 0x9E3779B97F4A7C15ULL;

  static std::uint64_t mix(std::uint64_t value) {
    value += kGamma;
    value = (value ^ (value >> 30U)) * 0xBF58476D1CE4E5B9ULL;
    value = (value ^ (value >> 27U)) * 0x94D049BB133111EBULL;
    return value ^ (value >> 31U);
  }

  std::uint64_t state_;
};

}  // namespace tagspace
