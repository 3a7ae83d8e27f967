// The optimiser's step on a table's touched rows, on a GPU.
//
// How it works. Contributions come grouped by row, and a warp owns a row. It goes over the row in chunks of
// 128 elements, four to a lane (32, one to a lane, where 4 does not divide dim and rows are not aligned to 16
// bytes). For a chunk it adds up the contributions in the order of the batch, in registers, and then reads,
// changes and writes the optimiser's sums and the row, each once. The contributions' numbers, sources and
// coefficients are read 32 at a time, one a lane, and handed round by shuffles, so that the loads of their
// vectors do not wait for one another. With max_norm, lanes add the squares of what they wrote, a butterfly
// of exchanges adds those up, and a row that is too long is read and written once more, each element by the
// lane that wrote it.
//
// Memory. Rows ascend with the warps' numbers: neighbouring warps touch the table from its start to its end,
// each a contiguous piece. Vectors of contributions are read at random places, 512 contiguous bytes at a
// time. Row offsets have 64 bits.
//
// Why it is deterministic. A row is in one group and a group has one owner; there are no atomics. Additions
// are in the batch's order within an element, in the same operations as update_rows_reference, none fused, so
// that without max_norm the result equals the reference's bit for bit; the norm alone is added in another
// order, which is fixed too.
#include "model/kernels/cuda/device.cuh"
#include "model/kernels/cuda/row_update.cuh"

namespace tagspace::kernels::cuda {
namespace {

constexpr unsigned kMaxWarps = 8;
constexpr unsigned kFull = 0xFFFFFFFF;
constexpr float kEpsilon = 1e-10F;  // kAdagradEpsilon

// `kWidth` neighbouring floats, loaded and stored at once.
template <int kWidth>
struct alignas(kWidth * sizeof(float)) Floats {
  float at[kWidth];
};

// Without a number of blocks per multiprocessor ptxas prefers a few spilled registers to fewer warps.
template <int kWidth>
__global__ void __launch_bounds__(kMaxWarps * 32, 4) update_kernel(const RowUpdate update) {
  using Vector = Floats<kWidth>;
  constexpr unsigned kChunk = 32 * kWidth;
  const unsigned lane = threadIdx.x % 32;
  const std::uint32_t group = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  const std::uint32_t groups = update.group_count == nullptr ? update.groups : *update.group_count;
  if (group >= groups) return;

  const unsigned dim = update.dim;
  const std::size_t row_offset = std::size_t{update.rows[group]} * dim;
  float* const row = update.table + row_offset;
  const std::uint32_t begin = update.offsets[group];
  const std::uint32_t end = update.offsets[group + 1];
  float squared_norm = 0;

  for (unsigned first = 0; first < dim; first += kChunk) {
    // kWidth divides dim, so that a lane's elements are all within the row, or none is.
    const unsigned i = first + kWidth * lane;
    const bool active = i < dim;
    Vector x = {};
    Vector gradient = {};
    if (active) x = *reinterpret_cast<const Vector*>(row + i);

    for (std::uint32_t at = begin; at < end; at += 32) {
      const unsigned count = end - at < 32 ? end - at : 32;
      std::uint32_t source = 0;
      float coefficient = 0;
      float self = 0;
      if (lane < count) {
        const std::uint32_t c = update.order[at + lane];
        source = update.source[c];
        coefficient = update.coefficient == nullptr ? 1.0F : update.coefficient[c];
        self = update.self == nullptr ? 0.0F : update.self[c];
      }
#pragma unroll 4
      for (unsigned k = 0; k < count; ++k) {
        const std::uint32_t k_source = __shfl_sync(kFull, source, static_cast<int>(k));
        const float k_coefficient = __shfl_sync(kFull, coefficient, static_cast<int>(k));
        const float k_self = __shfl_sync(kFull, self, static_cast<int>(k));
        if (!active) continue;
        const Vector v = *reinterpret_cast<const Vector*>(update.vectors + std::size_t{k_source} * dim + i);
#pragma unroll
        for (int j = 0; j < kWidth; ++j) {
          gradient.at[j] = __fadd_rn(
              gradient.at[j], __fadd_rn(__fmul_rn(k_coefficient, v.at[j]), __fmul_rn(k_self, x.at[j])));
        }
      }
    }

    if (!active) continue;
    Vector move;
    if (update.adagrad) {
      auto* const sums = reinterpret_cast<Vector*>(update.sums + row_offset + i);
      Vector sum = *sums;
#pragma unroll
      for (int j = 0; j < kWidth; ++j) {
        sum.at[j] = __fadd_rn(sum.at[j], __fmul_rn(gradient.at[j], gradient.at[j]));
        move.at[j] = __fdiv_rn(__fmul_rn(update.learning_rate, gradient.at[j]),
                               __fadd_rn(__fsqrt_rn(sum.at[j]), kEpsilon));
      }
      *sums = sum;
    } else {
#pragma unroll
      for (int j = 0; j < kWidth; ++j) move.at[j] = __fmul_rn(update.learning_rate, gradient.at[j]);
    }
#pragma unroll
    for (int j = 0; j < kWidth; ++j) {
      x.at[j] = __fsub_rn(x.at[j], move.at[j]);
      squared_norm = __fadd_rn(squared_norm, __fmul_rn(x.at[j], x.at[j]));
    }
    *reinterpret_cast<Vector*>(row + i) = x;
  }

  if (!(update.max_norm > 0)) return;
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    squared_norm = __fadd_rn(squared_norm, __shfl_xor_sync(kFull, squared_norm, lanes));
  }
  const float norm = __fsqrt_rn(squared_norm);
  if (!(norm > update.max_norm)) return;
  const float factor = __fdiv_rn(update.max_norm, norm);
  for (unsigned i = kWidth * lane; i < dim; i += kChunk) {
    Vector x = *reinterpret_cast<const Vector*>(row + i);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) x.at[j] = __fmul_rn(x.at[j], factor);
    *reinterpret_cast<Vector*>(row + i) = x;
  }
}

template <int kWidth>
int launch(const RowUpdate& update, unsigned warps, CUstream_st* stream) {
  const auto kernel = update_kernel<kWidth>;
  TAGSPACE_LAUNCH(kernel, dim3((update.groups - 1) / warps + 1), dim3(warps * 32), 0, stream, update);
  return cudaGetLastError();
}

}  // namespace

int update_rows(const RowUpdate& update, unsigned warps, CUstream_st* stream) {
  if (warps < 1 || warps > kMaxWarps || update.dim == 0) return cudaErrorInvalidValue;
  if (update.adagrad && update.sums == nullptr) return cudaErrorInvalidValue;
  if (update.groups == 0) return cudaSuccess;
  return update.dim % 4 == 0 ? launch<4>(update, warps, stream) : launch<1>(update, warps, stream);
}

}  // namespace tagspace::kernels::cuda
