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

}  // namespace
}  // namespace tagspace::kernels
