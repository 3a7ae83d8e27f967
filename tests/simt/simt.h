// Runs CUDA kernels on the CPU, to test them where there is no GPU: a file that includes this header can
// include a .cu file, which g++ then compiles as C++20.
//
// Each CUDA thread is a fiber. The blocks of a launch run one after the other, the threads of a block in
// turn, each until it waits: in a warp collective for the lanes of its mask, in __syncthreads for its block.
// With schedule_seed set, blocks and threads take turns in a random order, which depends on the seed alone,
// some threads more often than others, and also give way after each collective, so that code that relies on
// an order, or on warps that go in step, gives another result.
//
// A launch throws simt::Error, which names block, thread and line, when
//   - lanes meet in a collective with different masks, in different collectives or at different places of the
//   source;
//   - a lane is not in its own mask, or a shuffle reads a lane that does not take part;
//   - threads of a block wait at different __syncthreads;
//   - no thread can go on.
// Lanes and threads that have finished are not waited for.
//
// Dynamic shared memory is filled with 0xFF (floats: not a number) before each block, and is as large as
// asked for, so that the address sanitizer finds accesses beyond it. To the thread sanitizer CUDA threads are
// threads, ordered by
// __syncthreads and, among the lanes of its mask, __syncwarp alone: it finds a missing barrier within a
// block. Races between blocks it cannot find, since blocks run one after the other.
//
// There is what the project's kernels need, not all of CUDA; in particular no static __shared__ arrays.
#pragma once

#include <atomic>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iterator>
#include <stdexcept>
#include <type_traits>

#define TAGSPACE_SIMT 1  // for model/kernels/cuda/device.cuh

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

// device.cuh has the same for nvcc.
#define TAGSPACE_DYNAMIC_SHARED(type, name) type* const name = static_cast<type*>(::simt::dynamic_shared())
#define TAGSPACE_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  (static_cast<void>(stream), ::simt::launch((grid), (block), (shared_bytes), [=] { (kernel)(__VA_ARGS__); }))

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

// Of the running thread.
inline uint3 threadIdx;
inline uint3 blockIdx;
inline dim3 blockDim;
inline dim3 gridDim;
constexpr int warpSize = 32;

namespace simt {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A place of the source: where a function was called that has Site::current() as a default argument.
// (std::source_location is not in every compiler that we use yet.)
struct Site {
  const char* file = "";
  unsigned line = 0;

  static constexpr Site current(const char* file = __builtin_FILE(), unsigned line = __builtin_LINE()) {
    return {file, line};
  }
};

// 0: threads and blocks run in the order of their numbers. Counted up by each launch otherwise.
inline std::uint64_t schedule_seed = 0;

// Runs `kernel` once for each thread of each block.
void launch(dim3 grid, dim3 block, std::size_t shared_bytes, const std::function<void()>& kernel);

[[nodiscard]] void* dynamic_shared();

enum class Collective { shuffle, ballot, sync };
constexpr unsigned kOwnLane = 32;  // as the source of a shuffle: the lane keeps its value

// The calling lane's part in a collective of the lanes in `mask`. `source`: the lane whose value a shuffle
// reads.
std::uint64_t collective(Collective kind, unsigned mask, std::uint64_t value, unsigned source, Site site);
// Waits for the block; how many threads had a `predicate` other than 0.
int barrier(int predicate, Site site);
// The calling thread's lane within its warp.
[[nodiscard]] unsigned lane();

template <typename T>
T shuffle(unsigned mask, T value, unsigned source, Site site) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(std::uint64_t));
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = collective(Collective::shuffle, mask, bits, source, site);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// The first and the last lane of the part of the warp, `width` lanes wide, that the calling lane belongs to.
inline unsigned first_of_part(int width) { return lane() & ~(static_cast<unsigned>(width) - 1); }
inline unsigned last_of_part(int width) { return lane() | (static_cast<unsigned>(width) - 1); }

}  // namespace simt

// Warp collectives.

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = warpSize,
              simt::Site site = simt::Site::current()) {
  const unsigned within = static_cast<unsigned>(source) & (static_cast<unsigned>(width) - 1);
  return simt::shuffle(mask, value, simt::first_of_part(width) | within, site);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = warpSize,
                  simt::Site site = simt::Site::current()) {
  const unsigned source = simt::lane() ^ static_cast<unsigned>(lanes);
  return simt::shuffle(mask, value, source > simt::last_of_part(width) ? simt::kOwnLane : source, site);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned lanes, int width = warpSize,
                   simt::Site site = simt::Site::current()) {
  const unsigned source = simt::lane() + lanes;
  return simt::shuffle(mask, value, source > simt::last_of_part(width) ? simt::kOwnLane : source, site);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned lanes, int width = warpSize,
                 simt::Site site = simt::Site::current()) {
  const bool own = simt::lane() - simt::first_of_part(width) < lanes;
  return simt::shuffle(mask, value, own ? simt::kOwnLane : simt::lane() - lanes, site);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, simt::Site site = simt::Site::current()) {
  return static_cast<unsigned>(simt::collective(simt::Collective::ballot, mask, predicate != 0, 0, site));
}
inline int __any_sync(unsigned mask, int predicate, simt::Site site = simt::Site::current()) {
  return __ballot_sync(mask, predicate, site) != 0;
}
inline int __all_sync(unsigned mask, int predicate, simt::Site site = simt::Site::current()) {
  return __ballot_sync(mask, predicate == 0, site) == 0;
}
inline void __syncwarp(unsigned mask = 0xFFFFFFFF, simt::Site site = simt::Site::current()) {
  simt::collective(simt::Collective::sync, mask, 0, 0, site);
}

// Barriers of the block.

inline void __syncthreads(simt::Site site = simt::Site::current()) { simt::barrier(0, site); }
inline int __syncthreads_count(int predicate, simt::Site site = simt::Site::current()) {
  return simt::barrier(predicate, site);
}
inline int __syncthreads_or(int predicate, simt::Site site = simt::Site::current()) {
  return static_cast<int>(simt::barrier(predicate, site) != 0);
}

// Atomics; each returns the old value.

template <typename T>
T atomicAdd(T* target, std::type_identity_t<T> value) {
  return std::atomic_ref<T>(*target).fetch_add(value, std::memory_order_relaxed);
}
template <typename T>
T atomicExch(T* target, std::type_identity_t<T> value) {
  return std::atomic_ref<T>(*target).exchange(value, std::memory_order_relaxed);
}
template <typename T>
T atomicCAS(T* target, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  std::atomic_ref<T>(*target).compare_exchange_strong(expected, value, std::memory_order_relaxed);
  return expected;
}
template <typename T>
T atomicMin(T* target, std::type_identity_t<T> value) {
  std::atomic_ref<T> atomic(*target);
  T old = atomic.load(std::memory_order_relaxed);
  while (value < old && !atomic.compare_exchange_weak(old, value, std::memory_order_relaxed)) {
  }
  return old;
}
template <typename T>
T atomicMax(T* target, std::type_identity_t<T> value) {
  std::atomic_ref<T> atomic(*target);
  T old = atomic.load(std::memory_order_relaxed);
  while (old < value && !atomic.compare_exchange_weak(old, value, std::memory_order_relaxed)) {
  }
  return old;
}

// Arithmetic, rounded to nearest after each operation: compile with -ffp-contract=off.

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline int __popc(unsigned bits) { return std::popcount(bits); }
inline int __ffs(unsigned bits) { return bits == 0 ? 0 : std::countr_zero(bits) + 1; }
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }

// Reads and writes.

template <typename T>
T __ldg(const T* source) {
  return *source;
}

namespace simt {

// What device.cuh has for memory that other threads write or read at the same time: atomic, a word at a time.
template <typename T>
T load_relaxed(const T* source) {
  using Word = std::conditional_t<sizeof(T) % sizeof(unsigned) == 0, unsigned, unsigned short>;
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % sizeof(Word) == 0);
  Word words[sizeof(T) / sizeof(Word)];
  for (std::size_t i = 0; i < std::size(words); ++i) {
    auto& word = const_cast<Word&>(reinterpret_cast<const Word*>(source)[i]);
    words[i] = std::atomic_ref<Word>(word).load(std::memory_order_relaxed);
  }
  T value;
  std::memcpy(&value, words, sizeof value);
  return value;
}
template <typename T>
void store_relaxed(T* target, std::type_identity_t<T> value) {
  std::atomic_ref<T>(*target).store(value, std::memory_order_relaxed);
}

}  // namespace simt

// The part of the runtime that launchers and their callers use: device memory is the host's, and a launch is
// over when it returns.

struct CUstream_st;
using cudaStream_t = CUstream_st*;
enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorStubLibrary = 34,
  cudaErrorInsufficientDriver = 35,
  cudaErrorInvalidDeviceFunction = 98,
  cudaErrorNoDevice = 100,
  cudaErrorNoKernelImageForDevice = 209,
  cudaErrorUnsupportedPtxVersion = 222
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };
inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess                 ? "no error"
         : error == cudaErrorInvalidValue     ? "invalid argument"
         : error == cudaErrorMemoryAllocation ? "out of memory"
                                              : "another error";
}
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
inline cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
inline cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  *memory = std::malloc(bytes);
  return *memory == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}
inline cudaError_t cudaFree(void* memory) {
  std::free(memory);
  return cudaSuccess;
}
inline cudaError_t cudaMemset(void* memory, int value, std::size_t bytes) {
  std::memset(memory, value, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpy(void* target, const void* source, std::size_t bytes, cudaMemcpyKind /*kind*/) {
  std::memcpy(target, source, bytes);
  return cudaSuccess;
}
