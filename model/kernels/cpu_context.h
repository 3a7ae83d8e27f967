// What a kernel on the CPU works with: threads, and vector code for the processor at hand.
#pragma once

#include <cstddef>
#include <new>
#include <span>
#include <vector>

#include "model/kernels/thread_pool.h"

namespace tagspace::kernels {

struct SimdKernels;  // simd.h

// One entry for each instruction set that this build has code for and this processor can run, slowest first;
// never empty. All give the same result where a kernel's contract says so.
[[nodiscard]] std::span<const SimdKernels* const> available_simd_kernels();

// Memory that begins with a cache line: no vector of a row of 16 floats lies across two.
template <typename T>
struct CacheLineAllocator {
  using value_type = T;
  static constexpr std::align_val_t kLine{64};
  CacheLineAllocator() = default;
  template <typename Other>
  CacheLineAllocator(const CacheLineAllocator<Other>& /*other*/) {}  // NOLINT(google-explicit-constructor)
  T* allocate(std::size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), kLine)); }
  void deallocate(T* memory, std::size_t /*count*/) { ::operator delete(memory, kLine); }
  friend bool operator==(const CacheLineAllocator&, const CacheLineAllocator&) { return true; }
};
using Floats = std::vector<float, CacheLineAllocator<float>>;

// At least `count` values, of any content. What there was is given back before there is more, so that old and
// new are never held together.
template <typename Vector>
typename Vector::value_type* room_for(Vector& values, std::size_t count) {
  if (values.size() < count) {
    values.clear();
    values.shrink_to_fit();
    values.resize(count);
  }
  return values.data();
}

struct CpuContext {
  explicit CpuContext(std::size_t threads, const SimdKernels* kernels = available_simd_kernels().back())
      : pool(threads), simd(kernels), scratch(pool.threads()) {}

  ThreadPool pool;
  const SimdKernels* simd;
  std::vector<Floats> scratch;  // one for each thread; grows to what the largest task needs
  Floats shared;                // what a kernel's tasks read together; grows likewise
  Floats negatives;             // see start_pool() in warp.h
};

}  // namespace tagspace::kernels
