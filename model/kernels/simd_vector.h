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

// exp(y) = power (1 + rest) for |y| below 87: with y = n ln 2 + r, |r| <= ln 2 / 2, power is 2^n and rest is
// exp(r) - 1.
struct Exponential {
  Vec power;
  Vec rest;
};
inline Exponential exponential(Vec y) {
  // Adding 1.5 * 2^23 rounds to a whole number, which then is in the lowest bits.
  const Vec shift = splat(12582912.0F);
  const Vec shifted = y * splat(1.44269504F) + shift;  // 1 / ln 2
  const Vec n = shifted - shift;
  // ln 2 in two parts, the first of so few digits that n times it is exact.
  const Vec r = (y - n * splat(0.693359375F)) + n * splat(2.12194440e-4F);
  // (exp(r) - 1 - r) / r^2: Taylor's series, whose next term is below 2^-27.
  Vec p = splat(1.0F / 5040);
  p = p * r + splat(1.0F / 720);
  p = p * r + splat(1.0F / 120);
  p = p * r + splat(1.0F / 24);
  p = p * r + splat(1.0F / 6);
  p = p * r + splat(0.5F);
  return {reinterpret_cast<Vec>((reinterpret_cast<VecMask>(shifted) << 23) + (0x3F800000 - VecMask{})),
          p * r * r + r};
}

// With e = exp(2|x|) - 1: tanh |x| = e / (e + 2). For small x the power is 1, and nothing cancels.
inline Vec tanh_of(Vec x) {
  const auto bits = reinterpret_cast<VecMask>(x);
  const VecMask sign = bits & (static_cast<std::int32_t>(0x80000000U) - VecMask{});
  const Vec size = reinterpret_cast<Vec>(bits ^ sign);
  const Vec far = splat(10);  // from here on tanh is 1
  const Exponential exp = exponential(2 * (size > far ? far : size));
  const Vec e = exp.power * exp.rest + (exp.power - 1);
  return reinterpret_cast<Vec>(reinterpret_cast<VecMask>(e / (e + 2)) | sign);
}

// Asks memory for all cache lines that `count` floats lie in, for reading or for writing: a line to be
// written that another core holds, too, would be asked for a second time. Rows whose size 16 does not divide
// begin anywhere in a line, and reach into one more.
//
// Always inlined, as all functions that do nothing else must be: GCC holds a function that only prefetches
// for one without effect, and leaves its calls out.
enum class Access { read, write };
template <Access kAccess = Access::read>
[[gnu::always_inline]] inline void prefetch(const float* values, std::size_t count) {
  constexpr std::uintptr_t kLine = 64;
  const auto begin = reinterpret_cast<std::uintptr_t>(values) & ~(kLine - 1);
  const auto end = reinterpret_cast<std::uintptr_t>(values + count);
  for (std::uintptr_t line = begin; line < end; line += kLine)
    // A line may begin before the array, where no pointer may go. NOLINTNEXTLINE(performance-no-int-to-ptr)
    __builtin_prefetch(reinterpret_cast<const void*>(line), kAccess == Access::write ? 1 : 0);
}

}  // namespace
}  // namespace tagspace::kernels
