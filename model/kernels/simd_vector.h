// Vectors of floats as wide as the instruction set that the including file is compiled for; private to
// simd_*.cc.
//
// GCC's and Clang's vector extensions: portable C++ that each architecture gets its own instructions for.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__AVX512F__)
#define TAGSPACE_LANES 16
#elif defined(__AVX__)
#define TAGSPACE_LANES 8
#else
#define TAGSPACE_LANES 4
#endif

namespace tagspace::kernels {
namespace {

constexpr std::size_t kLanes = TAGSPACE_LANES;
using Vec = float __attribute__((vector_size(TAGSPACE_LANES * 4)));
using VecMask = std::int32_t __attribute__((vector_size(TAGSPACE_LANES * 4)));

// A block of 16 floats in registers.
constexpr std::size_t kBlock = 16;
constexpr std::size_t kVecs = kBlock / kLanes;

inline Vec load(const float* p) {
  Vec v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
inline void store(float* p, Vec v) { __builtin_memcpy(p, &v, sizeof v); }
inline Vec splat(float x) { return x - Vec{}; }

// Asks memory for all cache lines that `count` floats lie in. Rows whose size 16 does not divide begin
// anywhere in a line, and reach into one more.
//
// Always inlined, as all functions that do nothing else must be: GCC holds a function that only prefetches
// for one without effect, and leaves its calls out.
[[gnu::always_inline]] inline void prefetch(const float* values, std::size_t count) {
  constexpr std::uintptr_t kLine = 64;
  const auto begin = reinterpret_cast<std::uintptr_t>(values) & ~(kLine - 1);
  const auto end = reinterpret_cast<std::uintptr_t>(values + count);
  for (std::uintptr_t line = begin; line < end; line += kLine)
    // A line may begin before the array, where no pointer may go. NOLINTNEXTLINE(performance-no-int-to-ptr)
    __builtin_prefetch(reinterpret_cast<const void*>(line));
}

}  // namespace
}  // namespace tagspace::kernels
