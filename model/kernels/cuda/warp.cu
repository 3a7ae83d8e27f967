// The WARP search on a GPU. The same violators, tries, losses and gradients as warp_reference, bit for bit.
//
// How it works. A group of 8, 16 or 32 lanes of a warp takes a post and its pairs, one after the other. For a
// pair,
//
//   1. each lane makes one draw (Philox: draw t is a pure function of seed, step, pair and t) and looks
//   whether the post carries that hashtag, by bisection of the ascending list; a ballot gives the draws that
//   count as tries, as bits in the order of the draws;
//   2. the group's quads (4 lanes each) take the next tries off these bits, the first quad the first try and
//   so on, and score them at the same time: 2, 4 or 8 rows of the table are under way for each pair;
//   3. a ballot gives the quads that found a violator; the lowest of them has the first violator, since quads
//   hold tries in order. Tries scored beyond it are thrown away, not counted. None: back to 2, or to 1 when
//   the draws are used up;
//   4. the group computes loss, weight and the post's gradient, and either writes what the two rows receive,
//   for update_rows() to apply after a sort by row, or (hogwild) applies it at once, optimiser included.
//
// Why a quad. A score has 16 partial sums, element i in number i mod 16, each summed up in ascending order,
// and then added in halves: 8 to 8, 4 to 4, 2 to 2, 1 to 1. Lane q of a quad holds the sums 4q .. 4q + 3, so
// one 16-byte load a lane feeds them all, four lanes read 64 contiguous bytes, and no more than four lanes
// could share in a row without another order of additions. The halves of 8 and 4 are exchanges between lanes,
// those of 2 and 1 are within a lane; a + b equals b + a, so that all four lanes end with the same score.
// Multiplications and additions are intrinsics that nvcc never contracts to fused ones. Denormal numbers are
// kept (not with -ftz=true or -use_fast_math), but for hogwild's atomic additions, which take them for zero.
// Rows kept in bfloat16 are widened, which is exact: scores are those of the widened table.
//
// Memory. Read for each try: the row, once, in order, 64 bytes (bfloat16: 32) at a time, four loads in flight
// a lane; rows are at random places, so that the table's size does not matter beyond the L2 cache. The post
// vector is read once, into shared memory. Reads of 16 bytes are served for a quarter of a warp at a time,
// two quads of one group, which read the same 64 bytes: without bank conflicts. (Registers for it would leave
// room for fewer warps.) Per pair, rows of the positive and the violator are read once more for the gradient,
// soon after the search and thus from a cache. Written: the pair's result by lane 0, the post's gradient, and
// under hogwild the two rows and their sums, 16 bytes a lane of each at a time. With max_norm each of the two
// rows is then read once more, in the post vector's place, and one that is too long a second time before it
// is written; the post vector comes back from a cache. A dim that 4 does not divide has rows that are not
// aligned to 16 bytes, and is read 4 (2) bytes at a time. Row offsets have 64 bits.
//
// Why it is deterministic without hogwild. The table stands still during the launch. All that is written
// belongs to a post, and one group owns the post: there are no atomics. Each element of the post's gradient
// is read and written by one lane of the group alone, which adds the pairs in their order. Which tries are
// scored at the same time changes nothing, because the first violator in the order of draws is kept. So the
// result depends neither on the shape nor on the schedule.
//
// Divergence. Groups of a warp search for different lengths; every collective is among the lanes of one
// group, all of whose conditions around collectives are the same in all its lanes.
#include <type_traits>

#include "model/kernels/cuda/device.cuh"
#include "model/kernels/cuda/memory.cuh"
#include "model/kernels/cuda/warp.cuh"
#include "model/kernels/philox.h"
#include "model/kernels/warp_draws.h"

namespace tagspace::kernels::cuda {
namespace {

constexpr unsigned kQuad = 4;               // lanes that score one row
constexpr unsigned kBlock = 4 * kQuad;      // elements that a quad reads at once: the number of partial sums
constexpr unsigned kBatch = 4;              // loads in flight a lane
constexpr unsigned kMaxTries = 32 / kQuad;  // scored at once
constexpr unsigned kMaxWarps = 8;
constexpr std::size_t kSharedLimit = 48 * 1024;
constexpr int kMostCopies = 8;  // of a row that is to be cut, until there is one of a single moment
constexpr std::uint32_t kMostTries = 1U << 29;  // so that the draws are counted in 32 bits

// Blocks of kMaxWarps warps that a multiprocessor shall hold, as many as registers allow without spilling
// any: half of the 64 warps (the 48 of compute capability 12) that there is room for, with the dot product.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1200
constexpr int kBlocksOfHalf = 3;
#else
constexpr int kBlocksOfHalf = 4;
#endif
template <bool kCosine, bool kAligned>
constexpr int kMinBlocks = !kAligned ? 2
                           : kCosine ? 3
                                     : kBlocksOfHalf;

// Post vectors, in shared memory, end with zeros up to a whole read of 16 bytes.
__host__ __device__ __forceinline__ unsigned padded(unsigned dim) {
  return (dim + kQuad - 1) / kQuad * kQuad;
}

// A lane's 4 of the 16 partial sums.
struct PartialSums {
  float sum[4] = {0, 0, 0, 0};

  __device__ __forceinline__ void add_products(const float4& a, const float4& b) {
    sum[0] = __fadd_rn(sum[0], __fmul_rn(a.x, b.x));
    sum[1] = __fadd_rn(sum[1], __fmul_rn(a.y, b.y));
    sum[2] = __fadd_rn(sum[2], __fmul_rn(a.z, b.z));
    sum[3] = __fadd_rn(sum[3], __fmul_rn(a.w, b.w));
  }

  // The inner product, in all four lanes of the quad.
  __device__ __forceinline__ float total(unsigned mask) {
#pragma unroll
    for (int lanes = 2; lanes > 0; lanes /= 2) {
#pragma unroll
      for (int j = 0; j < 4; ++j) sum[j] = __fadd_rn(sum[j], __shfl_xor_sync(mask, sum[j], lanes));
    }
    return __fadd_rn(__fadd_rn(sum[0], sum[2]), __fadd_rn(sum[1], sum[3]));
  }
};

__device__ __forceinline__ float inverse_norm(float squared_norm) {
  return squared_norm == 0 ? 0.0F : __fdiv_rn(1, __fsqrt_rn(squared_norm));
}

struct RowScore {
  float score;
  float inverse;  // 1 / |row| with the cosine, else 1
};

// The score of one row for each quad of the group; a quad that is not `active` reads nothing. All lanes of
// `mask` take part.
template <typename T, bool kLive, bool kCosine, bool kAligned>
__device__ __forceinline__ RowScore score_row(const float* post, float post_inverse, const T* row,
                                              bool active, unsigned dim, unsigned quad_lane, unsigned mask) {
  constexpr unsigned kTurn = kBatch * kBlock;
  PartialSums products;
  PartialSums squares;
  const auto add = [&](const float* of_post, const float4& values) {
    products.add_products(*reinterpret_cast<const float4*>(of_post), values);
    if (kCosine) squares.add_products(values, values);
  };
  if (active) {
    const T* from = row + kQuad * quad_lane;
    const float* with = post + kQuad * quad_lane;
    // Whole turns without a look at the end of the row, and pointers that advance: fewer instructions a row.
#pragma unroll 1
    for (unsigned turns = dim / kTurn; turns != 0; --turns, from += kTurn, with += kTurn) {
      float4 values[kBatch];
#pragma unroll
      for (unsigned k = 0; k < kBatch; ++k) values[k] = load4<kAligned, kLive>(from, k * kBlock, kTurn);
#pragma unroll
      for (unsigned k = 0; k < kBatch; ++k) add(with + k * kBlock, values[k]);
    }
#pragma unroll 1
    for (unsigned left = dim % kTurn; kQuad * quad_lane < left;
         left -= left < kBlock ? left : kBlock, from += kBlock, with += kBlock) {
      add(with, load4<kAligned, kLive>(from, 0, left - kQuad * quad_lane));
    }
  }
  RowScore result;
  result.score = products.total(mask);
  result.inverse = 1;
  if (kCosine) {
    result.inverse = inverse_norm(squares.total(mask));
    result.score = __fmul_rn(__fmul_rn(result.score, post_inverse), result.inverse);
  }
  return result;
}

// Whether `row` is in the ascending list [begin, end).
__device__ __forceinline__ bool contains(const std::uint32_t* begin, const std::uint32_t* end,
                                         std::uint32_t row) {
#pragma unroll 1
  while (begin < end) {
    const std::uint32_t* middle = begin + (end - begin) / 2;
    const std::uint32_t found = __ldg(middle);
    if (found == row) return true;
    if (found < row) {
      begin = middle + 1;
    } else {
      end = middle;
    }
  }
  return false;
}

// `bits` without its lowest `count` ones, kMaxTries at most.
__device__ __forceinline__ unsigned without_lowest(unsigned bits, unsigned count) {
#pragma unroll
  for (unsigned n = 0; n < kMaxTries; ++n) {
    if (n < count) bits &= bits - 1;
  }
  return bits;
}

// The hogwild step on four elements of a row: `gradient`[j] is that of element i + j, of which `count` exist.
// The four exchanges with the sums are under way at the same time.
__device__ __forceinline__ void moves_of(const Optimizer& optimizer, float* sums, unsigned i, unsigned count,
                                         const float (&gradient)[4], float (&moves)[4]) {
  if (optimizer.kind != OptimizerKind::adagrad) {
#pragma unroll
    for (unsigned j = 0; j < 4; ++j) moves[j] = __fmul_rn(optimizer.learning_rate, gradient[j]);
    return;
  }
  float before[4] = {};
#pragma unroll
  for (unsigned j = 0; j < 4; ++j) {
    if (j < count) before[j] = atomicAdd(sums + i + j, __fmul_rn(gradient[j], gradient[j]));
  }
#pragma unroll
  for (unsigned j = 0; j < 4; ++j) {
    const float sum = __fadd_rn(before[j], __fmul_rn(gradient[j], gradient[j]));
    moves[j] = adagrad_move(optimizer.learning_rate, gradient[j], sum);
  }
}
__device__ __forceinline__ void apply(const Optimizer& optimizer, float* row, float* sums, unsigned i,
                                      unsigned count, const float (&gradient)[4], const Philox4& /*random*/) {
  float moves[4];
  moves_of(optimizer, sums, i, count, gradient, moves);
#pragma unroll
  for (unsigned j = 0; j < 4; ++j) {
    if (j < count) atomicAdd(row + i + j, -moves[j]);
  }
}
__device__ __forceinline__ void apply(const Optimizer& optimizer, Bfloat16* row, float* sums, unsigned i,
                                      unsigned count, const float (&gradient)[4], const Philox4& random) {
  float moves[4];
  moves_of(optimizer, sums, i, count, gradient, moves);
#pragma unroll
  for (unsigned j = 0; j < 4; ++j) {
    if (j >= count) continue;
    const float moved = __fsub_rn(read_element<true>(row + i + j), moves[j]);
    store_relaxed(reinterpret_cast<unsigned short*>(row + i + j),
                  round_at_random(moved, random.word[j]).bits);
  }
}

// Multiplies by `factor` those elements of a row that are still as in `copy`, by the lanes of a group
// together.
__device__ __forceinline__ void cut(float* row, const float* copy, unsigned dim, float factor, unsigned lane,
                                    unsigned lanes, unsigned /*mask*/, const RoundingSource& /*rounding*/,
                                    std::uint32_t /*item*/) {
  for (unsigned i = lane; i < dim; i += lanes) {
    atomicCAS(reinterpret_cast<unsigned*>(row + i), __float_as_uint(copy[i]),
              __float_as_uint(__fmul_rn(copy[i], factor)));
  }
}
// Two neighbours at once, where 2 divides dim: an exchange of 16 bits is a loop around one of the 32 bits
// that they are in, in which neighbouring lanes would hold each other up. A pair of which another group has
// changed one is left to that group.
__device__ __forceinline__ void cut(Bfloat16* row, const float* copy, unsigned dim, float factor,
                                    unsigned lane, unsigned lanes, unsigned mask,
                                    const RoundingSource& rounding, std::uint32_t item) {
  const auto old_bits = [&](unsigned i) { return __float_as_uint(copy[i]) >> 16; };
  const auto cut_bits = [&](unsigned i) {
    // A block of random words of its own for each element, beyond those of the step itself.
    const std::uint32_t random = rounding_words(rounding, item, dim + i).word[0];
    return std::uint32_t{round_at_random(__fmul_rn(copy[i], factor), random).bits};
  };
  if (dim % 2 != 0) {
    for (unsigned i = lane; i < dim; i += lanes) {
      atomicCAS(reinterpret_cast<unsigned short*>(row + i), static_cast<unsigned short>(old_bits(i)),
                static_cast<unsigned short>(cut_bits(i)));
    }
    return;
  }
  __syncwarp(mask);  // half of a pair was copied by another lane
  for (unsigned i = 2 * lane; i < dim; i += 2 * lanes) {
    atomicCAS(reinterpret_cast<unsigned*>(row + i), old_bits(i) | old_bits(i + 1) << 16,
              cut_bits(i) | cut_bits(i + 1) << 16);
  }
  __syncwarp(mask);  // the copy may be overwritten
}

// Cuts a row that is too long, by the lanes of a group together; `copy` [dim], of the group's own, is
// overwritten.
//
// Groups that have made a row longer at the same time see it too long at the same time, and one of them alone
// may cut it: else the cuts would multiply. So the row is copied, found to be still as the copy, and an
// element is cut if it is still the copy's; one that another group has changed meanwhile is that group's to
// cut. A row that changes again and again is left to those that change it.
template <typename T>
__device__ __forceinline__ void limit_norm(T* row, float* copy, unsigned dim, float max_norm, unsigned lane,
                                           unsigned lanes, unsigned mask, const RoundingSource& rounding,
                                           std::uint32_t item) {
#pragma unroll 1
  for (int attempt = 0; attempt < kMostCopies; ++attempt) {
    float squared_norm = 0;
    for (unsigned i = lane; i < dim; i += lanes) {
      const float x = read_element<true>(row + i);
      copy[i] = x;
      squared_norm = __fadd_rn(squared_norm, __fmul_rn(x, x));
    }
    for (unsigned other = lanes / 2; other > 0; other /= 2) {
      squared_norm = __fadd_rn(squared_norm, __shfl_xor_sync(mask, squared_norm, static_cast<int>(other)));
    }
    const float norm = __fsqrt_rn(squared_norm);
    if (!(norm > max_norm)) return;
    bool changed = false;
    for (unsigned i = lane; i < dim; i += lanes) changed |= read_element<true>(row + i) != copy[i];
    if (__any_sync(mask, changed) != 0) continue;
    cut(row, copy, dim, __fdiv_rn(max_norm, norm), lane, lanes, mask, rounding, item);
    return;
  }
}

template <typename T>
__device__ __forceinline__ T* values_of(const Table& table) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return table.floats;
  } else {
    return table.halves;
  }
}

template <typename T, bool kHogwild, bool kCosine, bool kAligned>
__global__ void __launch_bounds__(kMaxWarps * 32, kMinBlocks<kCosine, kAligned>)
    search_kernel(const WarpSearch search, unsigned lanes) {
  const WarpConfig& config = search.config;
  const WarpBatch& batch = search.batch;
  const unsigned all_tries = lanes / kQuad;  // scored at once
  const auto dim = static_cast<unsigned>(batch.dim);
  const unsigned lane = threadIdx.x & (lanes - 1);
  const unsigned group = threadIdx.x / lanes;
  const unsigned quad = lane / kQuad;
  const unsigned quad_lane = lane % kQuad;
  const unsigned first_lane = threadIdx.x % 32 - lane;  // of the group, within the warp
  const unsigned mask = (0xFFFFFFFFU >> (32 - lanes)) << first_lane;
  const std::uint32_t post = blockIdx.x * (blockDim.x / lanes) + group;
  if (post >= batch.posts) return;

  const float* const p = batch.post_vectors + std::size_t{post} * dim;
  TAGSPACE_DYNAMIC_SHARED(float, shared);
  float* const vector = shared + group * padded(dim);
  const auto share_post = [&] {
#pragma unroll 1
    for (unsigned i = lane; i < padded(dim); i += lanes) vector[i] = i < dim ? __ldg(p + i) : 0.0F;
    __syncwarp(mask);
  };
  share_post();
  T* const table = values_of<T>(search.table);
  const auto score = [&](const auto* row, bool active, float post_inverse) {
    using Row = std::remove_const_t<std::remove_pointer_t<decltype(row)>>;
    return score_row<Row, kHogwild, kCosine, kAligned>(vector, post_inverse, row, active, dim, quad_lane,
                                                       mask);
  };
  // Of the post vector the score is not needed, but the norm that comes with it.
  const float p_inverse = kCosine ? score(p, true, 1).inverse : 1;

  float* const gradient = search.output.post_gradient + std::size_t{post} * dim;
#pragma unroll 1
  for (unsigned i = kQuad * lane; i < dim; i += kQuad * lanes) {
    for (unsigned j = i; j < i + kQuad && (kAligned || j < dim); ++j) gradient[j] = 0;
  }
  const std::uint32_t* const own_begin = batch.own + batch.own_offsets[post];
  const std::uint32_t* const own_end = batch.own + batch.own_offsets[post + 1];
  const std::uint32_t last_draw =
      static_cast<std::size_t>(own_end - own_begin) < batch.rows ? max_draws(config) : 0;
  const std::uint32_t last_pair = batch.positive_offsets[post + 1];

  for (std::uint32_t pair = batch.positive_offsets[post]; pair < last_pair; ++pair) {
    const std::uint32_t positive_row = batch.positives[pair];
    T* const positive = table + std::size_t{positive_row} * dim;
    const RowScore y = score(positive, true, p_inverse);
    const float threshold = violation_threshold(config, y.score);

    std::uint32_t violator = kNoViolator;
    RowScore n = {0, 1};
    std::uint32_t tries = 0;
    for (std::uint32_t first_draw = 0;
         violator == kNoViolator && first_draw < last_draw && tries < config.max_tries; first_draw += lanes) {
      const std::uint32_t draw = first_draw + lane;
      const std::uint32_t row = proposed_row(config, batch.step, batch.first_pair + pair, draw, batch.rows);
      const bool is_try = draw < last_draw && !contains(own_begin, own_end, row);
      unsigned left = __ballot_sync(mask, is_try) >> first_lane;
#pragma unroll 1
      while (left != 0 && tries < config.max_tries) {
        unsigned in_flight = __popc(left);
        if (in_flight > all_tries) in_flight = all_tries;
        if (in_flight > config.max_tries - tries) in_flight = config.max_tries - tries;
        const bool active = quad < in_flight;
        const unsigned mine = without_lowest(left, quad);
        const std::uint32_t candidate =
            __shfl_sync(mask, row, active ? __ffs(mine) - 1 : 0, static_cast<int>(lanes));
        const RowScore s = score(table + std::size_t{candidate} * dim, active, p_inverse);
        // Not "s > threshold": a score that is not a number is a violation.
        const unsigned violating = __ballot_sync(mask, active && !(s.score <= threshold)) >> first_lane;
        if (violating != 0) {
          const int winner = __ffs(violating) - 1;  // a lane; the first of its quad
          violator = __shfl_sync(mask, candidate, winner, static_cast<int>(lanes));
          n.score = __shfl_sync(mask, s.score, winner, static_cast<int>(lanes));
          if (kCosine) n.inverse = __shfl_sync(mask, s.inverse, winner, static_cast<int>(lanes));
          tries += winner / kQuad + 1;
          break;
        }
        tries += in_flight;
        left = without_lowest(left, in_flight);
      }
    }

    // See warp_reference for the derivative.
    float loss = 0;
    float to_positive = 0;
    float to_negative = 0;
    float positive_self = 0;
    float negative_self = 0;
    if (violator != kNoViolator) {
      const float weight = config.weight_of_tries[tries - 1];
      const LossOfPair of_pair = loss_of_pair(config, y.score, n.score);
      loss = __fmul_rn(weight, of_pair.loss);
      const float w = __fmul_rn(__fmul_rn(weight, of_pair.slope), search.gradient_scale);
      to_positive = __fmul_rn(__fmul_rn(-w, p_inverse), y.inverse);
      to_negative = __fmul_rn(__fmul_rn(w, p_inverse), n.inverse);
      float p_self = 0;
      if (kCosine) {
        positive_self = __fmul_rn(__fmul_rn(__fmul_rn(w, y.score), y.inverse), y.inverse);
        negative_self = __fmul_rn(__fmul_rn(__fmul_rn(-w, n.score), n.inverse), n.inverse);
        p_self = __fmul_rn(__fmul_rn(__fmul_rn(w, __fsub_rn(y.score, n.score)), p_inverse), p_inverse);
      }
      T* const negative = table + std::size_t{violator} * dim;
      const RoundingSource rounding = {config.seed, RandomStream::hashtag_rounding, batch.step};
      const std::uint32_t update = 2 * (batch.first_pair + pair);  // the positive's; the violator's is next
#pragma unroll 1
      for (unsigned i = kQuad * lane; i < dim; i += kQuad * lanes) {
        const float4 of_negative = load4<kAligned, kHogwild>(negative, i, dim);
        const float4 of_positive = load4<kAligned, kHogwild>(positive, i, dim);
        const float4 of_post = load4<kAligned, false>(p, i, dim);
        const unsigned count = kAligned || dim - i > kQuad ? kQuad : dim - i;
        const auto summand = [&](unsigned j) {
          const float of_rows = __fadd_rn(__fmul_rn(to_negative, at(of_negative, j)),
                                          __fmul_rn(to_positive, at(of_positive, j)));
          return __fadd_rn(of_rows, __fmul_rn(p_self, at(of_post, j)));
        };
        if constexpr (kAligned) {
          auto* const target = reinterpret_cast<float4*>(gradient + i);
          const float4 sum = *target;
          *target = make_float4(__fadd_rn(sum.x, summand(0)), __fadd_rn(sum.y, summand(1)),
                                __fadd_rn(sum.z, summand(2)), __fadd_rn(sum.w, summand(3)));
        } else {
          for (unsigned j = 0; j < count; ++j) gradient[i + j] = __fadd_rn(gradient[i + j], summand(j));
        }
        if constexpr (kHogwild) {
          const auto step_on = [&](T* row, std::uint32_t number, const float4& values, float to_row,
                                   float self, std::uint32_t item) {
            float of_row[kQuad];
#pragma unroll
            for (unsigned j = 0; j < kQuad; ++j) {
              of_row[j] = __fadd_rn(__fmul_rn(to_row, at(of_post, j)), __fmul_rn(self, at(values, j)));
            }
            const Philox4 random = sizeof(T) == 2 ? rounding_words(rounding, item, i / kQuad) : Philox4{};
            apply(search.optimizer, row, search.table.sums + std::size_t{number} * dim, i, count, of_row,
                  random);
          };
          step_on(positive, positive_row, of_positive, to_positive, positive_self, update);
          step_on(negative, violator, of_negative, to_negative, negative_self, update + 1);
        }
      }
      if constexpr (kHogwild) {
        // limit_norm and the post's next pair read what other lanes have written; shuffles alone do not order
        // memory.
        __syncwarp(mask);
        if (search.optimizer.max_norm > 0) {
          // In the place of the post vector, which comes back afterwards.
#pragma unroll 1
          for (std::uint32_t which = 0; which < 2; ++which) {
            limit_norm(which == 0 ? positive : negative, vector, dim, search.optimizer.max_norm, lane, lanes,
                       mask, rounding, update + which);
          }
          share_post();
        }
      }
    }
    if (lane == 0) {
      const WarpOutput& output = search.output;
      output.violator[pair] = violator;
      output.tries[pair] = tries;
      output.loss[pair] = loss;
      if constexpr (!kHogwild) {
        const std::size_t c = std::size_t{2} * pair;
        output.rows[c] = violator == kNoViolator ? kNoRow : positive_row;
        output.rows[c + 1] = violator;
        output.sources[c] = post;
        output.sources[c + 1] = post;
        output.coefficients[c] = to_positive;
        output.coefficients[c + 1] = to_negative;
        output.selves[c] = positive_self;
        output.selves[c + 1] = negative_self;
      }
    }
  }
}

template <typename T, bool kHogwild, bool kCosine, bool kAligned>
int launch(const WarpSearch& search, const WarpShape& shape, CUstream_st* stream) {
  const unsigned groups = shape.warps * 32 / shape.lanes;
  const auto posts = static_cast<unsigned>(search.batch.posts);
  const std::size_t shared_bytes = groups * padded(static_cast<unsigned>(search.batch.dim)) * sizeof(float);
  if (shared_bytes > kSharedLimit) return cudaErrorInvalidValue;
  const auto kernel = search_kernel<T, kHogwild, kCosine, kAligned>;
  TAGSPACE_LAUNCH(kernel, dim3((posts - 1) / groups + 1), dim3(shape.warps * 32), shared_bytes, stream,
                  search, shape.lanes);
  return cudaGetLastError();
}

template <typename T, bool kHogwild, bool kCosine>
int launch_for_dim(const WarpSearch& search, const WarpShape& shape, CUstream_st* stream) {
  return search.batch.dim % kQuad == 0 ? launch<T, kHogwild, kCosine, true>(search, shape, stream)
                                       : launch<T, kHogwild, kCosine, false>(search, shape, stream);
}

template <typename T, bool kHogwild>
int launch_for_score(const WarpSearch& search, const WarpShape& shape, CUstream_st* stream) {
  return search.config.score == Score::cosine ? launch_for_dim<T, kHogwild, true>(search, shape, stream)
                                              : launch_for_dim<T, kHogwild, false>(search, shape, stream);
}

template <typename T>
int launch_for_mode(const WarpSearch& search, const WarpShape& shape, CUstream_st* stream) {
  return search.hogwild ? launch_for_score<T, true>(search, shape, stream)
                        : launch_for_score<T, false>(search, shape, stream);
}

}  // namespace

WarpShape warp_shape(std::uint32_t dim, float mean_tries) {
  WarpShape shape;
  // Of the tries that are scored at once, those beyond the first violator are in vain.
  shape.lanes = mean_tries < 3 ? 8 : mean_tries < 8 ? 16 : 32;
  const auto warp_bytes = [&] { return std::size_t{32} / shape.lanes * padded(dim) * sizeof(float); };
  while (shape.lanes < 32 && warp_bytes() > kSharedLimit) shape.lanes *= 2;
  while (shape.warps > 1 && shape.warps * warp_bytes() > kSharedLimit) shape.warps /= 2;
  return shape;
}

int warp_search(const WarpSearch& search, const WarpShape& shape, CUstream_st* stream) {
  const bool lanes_can_be = shape.lanes == 8 || shape.lanes == 16 || shape.lanes == 32;
  if (!lanes_can_be || shape.warps < 1 || shape.warps > kMaxWarps) return cudaErrorInvalidValue;
  if (search.batch.dim == 0 || search.batch.rows < 2) return cudaErrorInvalidValue;
  if (search.config.max_tries > kMostTries) return cudaErrorInvalidValue;
  if (search.config.negatives == Negatives::exact) return cudaErrorInvalidValue;
  const std::uint32_t pool = search.config.pool;
  if (pool < kSmallestPool || (pool & (pool - 1)) != 0) return cudaErrorInvalidValue;
  if ((search.table.floats == nullptr) == (search.table.halves == nullptr)) return cudaErrorInvalidValue;
  if (search.hogwild && search.optimizer.kind == OptimizerKind::adagrad && search.table.sums == nullptr) {
    return cudaErrorInvalidValue;
  }
  if (search.batch.posts == 0) return cudaSuccess;
  return search.table.floats != nullptr ? launch_for_mode<float>(search, shape, stream)
                                        : launch_for_mode<Bfloat16>(search, shape, stream);
}

}  // namespace tagspace::kernels::cuda
