// Reading and writing tables in device code, whatever they are kept in, and whether or not others write to
// them meanwhile.
#pragma once

#include "model/kernels/bfloat16.h"
#include "model/kernels/cuda/device.cuh"
#include "model/kernels/row_update.h"

namespace tagspace::kernels::cuda {

// kLive: other threads may write what is read, during the launch. Else the read-only path.
template <bool kLive, typename V>
__device__ __forceinline__ V read(const V* source) {
  if constexpr (kLive) {
    return load_relaxed(source);
  } else {
    return __ldg(source);
  }
}

template <bool kLive>
__device__ __forceinline__ float read_element(const float* source) {
  return read<kLive>(source);
}
template <bool kLive>
__device__ __forceinline__ float read_element(const Bfloat16* source) {
  return to_float(Bfloat16{read<kLive>(reinterpret_cast<const unsigned short*>(source))});
}

template <bool kLive>
__device__ __forceinline__ float4 read_four(const float* source) {
  return read<kLive>(reinterpret_cast<const float4*>(source));
}
template <bool kLive>
__device__ __forceinline__ float4 read_four(const Bfloat16* source) {
  const uint2 pairs = read<kLive>(reinterpret_cast<const uint2*>(source));
  return make_float4(__uint_as_float(pairs.x << 16), __uint_as_float(pairs.x & 0xFFFF0000),
                     __uint_as_float(pairs.y << 16), __uint_as_float(pairs.y & 0xFFFF0000));
}

// Elements i .. i + 3 of a vector; zeros beyond its end.
template <bool kAligned, bool kLive, typename T>
__device__ __forceinline__ float4 load4(const T* vector, unsigned i, unsigned dim) {
  if constexpr (kAligned) {
    return i < dim ? read_four<kLive>(vector + i) : make_float4(0, 0, 0, 0);
  } else {
    return make_float4(i < dim ? read_element<kLive>(vector + i) : 0.0F,
                       i + 1 < dim ? read_element<kLive>(vector + i + 1) : 0.0F,
                       i + 2 < dim ? read_element<kLive>(vector + i + 2) : 0.0F,
                       i + 3 < dim ? read_element<kLive>(vector + i + 3) : 0.0F);
  }
}

__device__ __forceinline__ float at(const float4& v, int j) {
  return j == 0 ? v.x : j == 1 ? v.y : j == 2 ? v.z : v.w;
}

// How far an element moves under `gradient`; `sum` is Adagrad's sum with this gradient in it.
__device__ __forceinline__ float adagrad_move(float learning_rate, float gradient, float sum) {
  return __fdiv_rn(__fmul_rn(learning_rate, gradient), __fadd_rn(__fsqrt_rn(sum), kAdagradEpsilon));
}

}  // namespace tagspace::kernels::cuda
