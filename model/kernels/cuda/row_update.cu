// The optimiser's step on a table's touched rows, on a GPU.
//
// How it works. Contributions come sorted by row. A warp looks at each of them; the one at the first
// contribution of a row owns the row, the others leave at once: no list of rows is made. The owner goes over
// the row in chunks of 128 elements, four to a lane (32, one to a lane, where 4 does not divide dim and rows
// are not aligned). For a chunk it adds up the contributions in the order of the batch, in registers, until
// the row's number changes, and then reads, changes and writes the optimiser's sums and the row, each once.
// The contributions' rows, numbers, sources and coefficients are read 32 at a time, one a lane, and handed
// round by shuffles, so that the loads of their vectors do not wait for one another. With max_norm, lanes add
// the squares of what they wrote, a butterfly of exchanges adds those up, and a row that is too long is read
// and written once more, each element by the lane that wrote it. A bfloat16 row is widened, and rounded at
// random once, at the end: with max_norm, after it has been cut.
//
// A row of many contributions, 64 and more, is left to a second launch, for its owner waits once for every
// few of them: there a block owns it, a thread an element, 256 elements at a time. The threads read the
// numbers, sources and coefficients of 256 contributions, one each, into shared memory, and then each goes
// through all of them in order, 32 loads in flight. The most frequent word would otherwise bind the whole
// step.
//
// Memory. Rows ascend with the warps' numbers: neighbouring warps touch the table from its start to its end,
// each a contiguous piece. Vectors of contributions are read at random places, 512 contiguous bytes at a
// time. Row offsets have 64 bits.
//
// Why it is deterministic. A row has one owner; there are no atomics. Additions are in the batch's order
// within an element, in the same operations as update_rows_reference, none fused, so that without max_norm
// the result equals the reference's bit for bit; the norm alone is added in another order, which is fixed
// too.
#include "model/kernels/cuda/device.cuh"
#include "model/kernels/cuda/memory.cuh"
#include "model/kernels/cuda/row_update.cuh"

namespace tagspace::kernels::cuda {
namespace {

constexpr unsigned kMaxWarps = 8;
constexpr unsigned kFull = 0xFFFFFFFF;
constexpr unsigned kLong = 64;          // contributions from which on a row is a block's
constexpr unsigned kLongThreads = 256;  // of that block, and contributions that it stages at a time
constexpr unsigned kLongLoads = 32;     // in flight a thread there

// `kWidth` neighbouring numbers, loaded and stored at once.
template <typename T, int kWidth>
struct alignas(kWidth * sizeof(T)) Vector {
  T at[kWidth];
};

__device__ __forceinline__ float widened(float value) { return value; }
__device__ __forceinline__ float widened(Bfloat16 value) { return to_float(value); }
__device__ __forceinline__ void store(float& target, float value, std::uint32_t /*random*/) {
  target = value;
}
__device__ __forceinline__ void store(Bfloat16& target, float value, std::uint32_t random) {
  target = round_at_random(value, random);
}

// A warp that updates a row. All of its lanes take part in each call.
struct WarpTeam {
  [[nodiscard]] __device__ __forceinline__ unsigned lane() const { return threadIdx.x % 32; }
  static constexpr unsigned kSize = 32;

  // The contributions of one row, from position `begin` of the sorted ones on, added up over `kWidth`
  // elements from `i` on in `gradient`.
  template <int kWidth>
  __device__ __forceinline__ void add_up(const RowUpdate& update, std::uint32_t row_number,
                                         std::uint32_t begin, unsigned i, bool active,
                                         const Vector<float, kWidth>& x,
                                         Vector<float, kWidth>& gradient) const {
    const unsigned lane = this->lane();
    bool goes_on = true;
    for (std::uint32_t at = begin; goes_on; at += 32) {
      std::uint32_t source = 0;
      float coefficient = 0;
      float self = 0;
      const bool mine = at + lane < update.contributions && update.rows[at + lane] == row_number;
      if (mine) {
        const std::uint32_t c = update.order[at + lane];
        source = update.from.source == nullptr ? c : update.from.source[c];
        coefficient = update.from.coefficient == nullptr ? 1.0F : update.from.coefficient[c];
        self = update.from.self == nullptr ? 0.0F : update.from.self[c];
      }
      const unsigned count = __popc(__ballot_sync(kFull, mine));
      goes_on = count == 32;
#pragma unroll 4
      for (unsigned k = 0; k < count; ++k) {
        const std::uint32_t k_source = __shfl_sync(kFull, source, static_cast<int>(k));
        const float k_coefficient = __shfl_sync(kFull, coefficient, static_cast<int>(k));
        const float k_self = __shfl_sync(kFull, self, static_cast<int>(k));
        // Lanes beyond the row read its first elements in vain: a branch here would let each load wait for
        // the addition before it.
        const float* const vector = update.from.vectors + std::size_t{k_source} * update.dim;
        const auto v = *reinterpret_cast<const Vector<float, kWidth>*>(vector + (active ? i : 0));
#pragma unroll
        for (int j = 0; j < kWidth; ++j) {
          gradient.at[j] = __fadd_rn(
              gradient.at[j], __fadd_rn(__fmul_rn(k_coefficient, v.at[j]), __fmul_rn(k_self, x.at[j])));
        }
      }
    }
  }

  [[nodiscard]] __device__ __forceinline__ float total(float value) const {
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2)
      value = __fadd_rn(value, __shfl_xor_sync(kFull, value, lanes));
    return value;
  }
};

// A block that updates a row of many contributions, an element to a thread. They are staged in shared memory,
// each once for all threads.
struct BlockTeam {
  struct alignas(8) Factors {
    float coefficient;
    float self;
  };
  struct Shared {
    std::uint32_t sources[kLongThreads];
    Factors factors[kLongThreads];
    float totals[kLongThreads / 32];
  };
  Shared* shared;

  [[nodiscard]] __device__ __forceinline__ unsigned lane() const { return threadIdx.x; }
  static constexpr unsigned kSize = kLongThreads;

  template <int kWidth>
  __device__ __forceinline__ void add_up(const RowUpdate& update, std::uint32_t row_number,
                                         std::uint32_t begin, unsigned i, bool active,
                                         const Vector<float, kWidth>& x,
                                         Vector<float, kWidth>& gradient) const {
    static_assert(kWidth == 1);
    const float* const vectors = update.from.vectors + (active ? i : 0);
    float sum = gradient.at[0];
    // Contributions k .. k + kLongLoads - 1 of the staged ones: all loads, and then the additions in order.
    const auto add = [&](unsigned k, unsigned count) {
      float value[kLongLoads];
#pragma unroll
      for (unsigned j = 0; j < kLongLoads; ++j) {
        value[j] = vectors[std::size_t{shared->sources[k + j]} * update.dim];
      }
#pragma unroll
      for (unsigned j = 0; j < kLongLoads; ++j) {
        const Factors of = shared->factors[k + j];
        const float added =
            __fadd_rn(sum, __fadd_rn(__fmul_rn(of.coefficient, value[j]), __fmul_rn(of.self, x.at[0])));
        sum = j < count ? added : sum;
      }
    };
    bool goes_on = true;
    for (std::uint32_t at = begin; goes_on; at += kLongThreads) {
      const bool mine =
          at + threadIdx.x < update.contributions && update.rows[at + threadIdx.x] == row_number;
      std::uint32_t source = 0;  // beyond the row's last one: vector 0, read in vain
      Factors factors = {0, 0};
      if (mine) {
        const std::uint32_t c = update.order[at + threadIdx.x];
        source = update.from.source == nullptr ? c : update.from.source[c];
        factors.coefficient = update.from.coefficient == nullptr ? 1.0F : update.from.coefficient[c];
        factors.self = update.from.self == nullptr ? 0.0F : update.from.self[c];
      }
      shared->sources[threadIdx.x] = source;
      shared->factors[threadIdx.x] = factors;
      const auto count = static_cast<unsigned>(__syncthreads_count(mine ? 1 : 0));
      goes_on = count == kLongThreads;
      unsigned k = 0;
#pragma unroll 1
      for (; k + kLongLoads <= count; k += kLongLoads) add(k, kLongLoads);
      if (k < count) add(k, count - k);
      __syncthreads();  // the next ones take their place
    }
    gradient.at[0] = sum;
  }

  [[nodiscard]] __device__ __forceinline__ float total(float value) const {
    value = WarpTeam().total(value);
    if (threadIdx.x % 32 == 0) shared->totals[threadIdx.x / 32] = value;
    __syncthreads();
    float sum = 0;
    for (const float of_warp : shared->totals) sum = __fadd_rn(sum, of_warp);
    return sum;
  }
};

// The random words of elements i .. i + kWidth - 1.
template <typename T, int kWidth>
__device__ __forceinline__ Philox4 words_for(const RoundingSource& rounding, std::uint32_t row, unsigned i) {
  if constexpr (sizeof(T) == sizeof(float)) return {};
  Philox4 words = rounding_words(rounding, row, i / 4);
  if constexpr (kWidth == 1) {
    words.word[0] = i % 4 == 0   ? words.word[0]
                    : i % 4 == 1 ? words.word[1]
                    : i % 4 == 2 ? words.word[2]
                                 : words.word[3];
  }
  return words;
}

// The step on a row whose contributions begin at `begin` of the sorted ones.
template <typename T, int kWidth, typename Team>
__device__ __forceinline__ void update_row(const RowUpdate& update, T* table, std::uint32_t row_number,
                                           std::uint32_t begin, const Team& team) {
  using Floats = Vector<float, kWidth>;
  using Values = Vector<T, kWidth>;
  constexpr unsigned kChunk = Team::kSize * kWidth;
  const unsigned lane = team.lane();
  const unsigned dim = update.dim;
  const std::size_t row_offset = std::size_t{row_number} * dim;
  T* const row = table + row_offset;
  const float max_norm = update.optimizer.max_norm;
  // A row kept in float32 is written at once, and once more if it is too long. One kept in bfloat16 must be
  // rounded once only, so that its norm is known before it is written: the chunks are gone through twice.
  const bool cuts = max_norm > 0;
  const bool twice = cuts && sizeof(T) != sizeof(float);
  float squared_norm = 0;
  float factor = 1;

  for (int pass = twice ? 0 : 1; pass < 2; ++pass) {
    for (unsigned first = 0; first < dim; first += kChunk) {
      // kWidth divides dim, so that a lane's elements are all within the row, or none is.
      const unsigned i = first + kWidth * lane;
      const bool active = i < dim;
      Floats x = {};
      Floats gradient = {};
      if (active) {
        const Values values = *reinterpret_cast<const Values*>(row + i);
#pragma unroll
        for (int j = 0; j < kWidth; ++j) x.at[j] = widened(values.at[j]);
      }
      team.template add_up<kWidth>(update, row_number, begin, i, active, x, gradient);
      if (!active) continue;

      Floats move;
      if (update.optimizer.kind == OptimizerKind::adagrad) {
        auto* const sums = reinterpret_cast<Floats*>(update.table.sums + row_offset + i);
        Floats sum = *sums;
#pragma unroll
        for (int j = 0; j < kWidth; ++j) {
          sum.at[j] = __fadd_rn(sum.at[j], __fmul_rn(gradient.at[j], gradient.at[j]));
          move.at[j] = adagrad_move(update.optimizer.learning_rate, gradient.at[j], sum.at[j]);
        }
        if (pass == 1) *sums = sum;
      } else {
#pragma unroll
        for (int j = 0; j < kWidth; ++j) {
          move.at[j] = __fmul_rn(update.optimizer.learning_rate, gradient.at[j]);
        }
      }
#pragma unroll
      for (int j = 0; j < kWidth; ++j) x.at[j] = __fsub_rn(x.at[j], move.at[j]);
      if (pass == 0 || !twice) {
#pragma unroll
        for (int j = 0; j < kWidth; ++j) squared_norm = __fadd_rn(squared_norm, __fmul_rn(x.at[j], x.at[j]));
      }
      if (pass == 0) continue;
      const Philox4 random = words_for<T, kWidth>(update.rounding, row_number, i);
      Values values;
#pragma unroll
      for (int j = 0; j < kWidth; ++j) {
        store(values.at[j], factor == 1 ? x.at[j] : __fmul_rn(x.at[j], factor), random.word[j]);
      }
      *reinterpret_cast<Values*>(row + i) = values;
    }

    if (!cuts || (twice && pass == 1)) continue;
    const float norm = __fsqrt_rn(team.total(squared_norm));
    if (norm > max_norm) factor = __fdiv_rn(max_norm, norm);
  }

  if constexpr (sizeof(T) == sizeof(float)) {
    if (factor == 1) return;
    for (unsigned i = kWidth * lane; i < dim; i += kChunk) {
      Floats x = *reinterpret_cast<const Floats*>(row + i);
#pragma unroll
      for (int j = 0; j < kWidth; ++j) x.at[j] = __fmul_rn(x.at[j], factor);
      *reinterpret_cast<Floats*>(row + i) = x;
    }
  }
}

// Whether a row whose contributions begin at `begin` has kLong of them.
__device__ __forceinline__ bool is_long(const RowUpdate& update, std::uint32_t row_number,
                                        std::uint32_t begin) {
  return update.contributions - begin >= kLong && update.rows[begin + kLong - 1] == row_number;
}

// Rows of few contributions. Without a number of blocks per multiprocessor ptxas prefers a few spilled
// registers to fewer warps.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kMaxWarps * 32, 4) update_kernel(const RowUpdate update, T* const table) {
  const std::uint32_t begin = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  if (begin >= update.contributions) return;
  const std::uint32_t row_number = update.rows[begin];
  if (row_number == kNoRow || (begin > 0 && update.rows[begin - 1] == row_number)) return;
  if (is_long(update, row_number, begin)) return;
  update_row<T, kWidth>(update, table, row_number, begin, WarpTeam());
}

// Rows of many. A block looks at every kLong-th contribution: the one at the first of those that a row has
// owns the row.
template <typename T>
__global__ void __launch_bounds__(kLongThreads, 2)
    update_long_kernel(const RowUpdate update, T* const table) {
  const std::uint32_t probe = blockIdx.x * kLong;
  const std::uint32_t row_number = update.rows[probe];
  if (row_number == kNoRow || (probe > 0 && update.rows[probe - kLong] == row_number)) return;
  const bool before =
      threadIdx.x < kLong && threadIdx.x < probe && update.rows[probe - 1 - threadIdx.x] == row_number;
  const std::uint32_t begin = probe - static_cast<std::uint32_t>(__syncthreads_count(before ? 1 : 0));
  if (!is_long(update, row_number, begin)) return;
  TAGSPACE_DYNAMIC_SHARED(BlockTeam::Shared, shared);
  update_row<T, 1>(update, table, row_number, begin, BlockTeam{shared});
}

template <typename T, int kWidth>
int launch(const RowUpdate& update, T* table, unsigned warps, CUstream_st* stream) {
  const auto kernel = update_kernel<T, kWidth>;
  TAGSPACE_LAUNCH(kernel, dim3((update.contributions - 1) / warps + 1), dim3(warps * 32), 0, stream, update,
                  table);
  if (const int error = cudaGetLastError(); error != cudaSuccess || update.contributions < kLong)
    return error;
  const auto of_long_rows = update_long_kernel<T>;
  TAGSPACE_LAUNCH(of_long_rows, dim3((update.contributions - 1) / kLong + 1), dim3(kLongThreads),
                  sizeof(BlockTeam::Shared), stream, update, table);
  return cudaGetLastError();
}

template <typename T>
int launch_for_dim(const RowUpdate& update, T* table, unsigned warps, CUstream_st* stream) {
  return update.dim % 4 == 0 ? launch<T, 4>(update, table, warps, stream)
                             : launch<T, 1>(update, table, warps, stream);
}

}  // namespace

int update_rows(const RowUpdate& update, unsigned warps, CUstream_st* stream) {
  if (warps < 1 || warps > kMaxWarps || update.dim == 0) return cudaErrorInvalidValue;
  if ((update.table.floats == nullptr) == (update.table.halves == nullptr)) return cudaErrorInvalidValue;
  if (update.optimizer.kind == OptimizerKind::adagrad && update.table.sums == nullptr) {
    return cudaErrorInvalidValue;
  }
  if (update.contributions == 0) return cudaSuccess;
  return update.table.floats != nullptr ? launch_for_dim(update, update.table.floats, warps, stream)
                                        : launch_for_dim(update, update.table.halves, warps, stream);
}

}  // namespace tagspace::kernels::cuda
