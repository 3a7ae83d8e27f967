// philox.h's numbers, eight blocks side by side; private to simd_*.cc.
#pragma once

#include <cstdint>

#include "model/kernels/philox.h"

namespace tagspace::kernels {
namespace {

// Eight blocks of philox.h's numbers side by side.
using Eight = std::uint32_t __attribute__((vector_size(32)));
using EightLong = std::uint64_t __attribute__((vector_size(64)));

// Of counters, their random numbers.
inline void philox_eight(std::uint64_t key, Eight (&counter)[4]) {
  auto key0 = static_cast<std::uint32_t>(key);
  auto key1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const EightLong product0 =
        __builtin_convertvector(counter[0], EightLong) * std::uint64_t{kPhiloxMultiplier0};
    const EightLong product1 =
        __builtin_convertvector(counter[2], EightLong) * std::uint64_t{kPhiloxMultiplier1};
    counter[0] = __builtin_convertvector(product1 >> 32, Eight) ^ counter[1] ^ key0;
    counter[1] = __builtin_convertvector(product1, Eight);
    counter[2] = __builtin_convertvector(product0 >> 32, Eight) ^ counter[3] ^ key1;
    counter[3] = __builtin_convertvector(product0, Eight);
    key0 += kPhiloxWeyl0;
    key1 += kPhiloxWeyl1;
  }
}

}  // namespace
}  // namespace tagspace::kernels
