// The WARP search on a GPU. The same violators, tries, losses and gradients as warp_reference, bit for bit.
//
// How it works. A group of 8, 16 or 32 lanes of a warp takes a post and its pairs, one after the other. For a
// pair,
//
//   1. each lane makes one draw (Philox: draw t is a pure function of seed, step, pair and t) and looks
//   whether the post
//      carries that hashtag, by bisection of the ascending list; a ballot gives the draws that count as
//      tries, as bits in the order of the draws;
//   2. the group's quads (4 lanes each) take the next tries off these bits, the first quad the first try and
//   so on, and
//      score them at the same time: 2, 4 or 8 rows of the table are under way for each pair;
//   3. a ballot gives the quads that found a violator; the lowest of them has the first violator, since quads
//   hold tries
//      in order. Tries scored beyond it are thrown away, not counted. None: back to 2, or to 1 when the draws
//      are used up.
//
// Why a quad. A score has 16 partial sums, element i in number i mod 16, each summed up in ascending order,
// and then added in halves: 8 to 8, 4 to 4, 2 to 2, 1 to 1. Lane q of a quad holds the sums 4q .. 4q + 3, so
// one 16-byte load a lane feeds them all, four lanes read 64 contiguous bytes, and no more than four lanes
// could share in a row without another order of additions. The halves of 8 and 4 are exchanges between lanes,
// those of 2 and 1 are within a lane; a + b equals b + a, so that all four lanes end with the same score.
// Multiplications and additions are intrinsics that nvcc never contracts to fused ones. Denormal numbers are
// kept (not with -ftz=true or -use_fast_math).
//
// Memory. Read for each try: the row, once, in order, 64 bytes at a time, four loads in flight a lane; rows
// are at random places, so that the table's size does not matter beyond the L2 cache. The post vector is read
// once: up to 128 dimensions into registers, else, padded with zeros, into shared memory, where the quads of
// a group read the same address. Per pair, rows of the positive and the violator are read once more for the
// gradient, soon after the search and thus from a cache. Written: the pair's result by lane 0, and the post's
// gradient. A dim that 4 does not divide has rows that are not aligned to 16 bytes, and is read 4 bytes at a
// time. Row offsets have 64 bits.
//
// Why it is deterministic. The table stands still during the launch. All that is written belongs to a post,
// and one group owns the post: there are no atomics. Lane i of the group alone reads and writes the elements
// i, i + lanes, ... of the post's gradient, and adds the pairs in their order. Which tries are scored at the
// same time changes nothing, because the first violator in the order of draws is kept. So the result depends
// neither on the shape nor on the schedule.
//
// Divergence. Groups of a warp search for different lengths; every collective is among the lanes of one
// group, all of whose conditions around collectives are the same in all its lanes.
#include "model/kernels/cuda/device.cuh"
#include "model/kernels/cuda/warp.cuh"
#include "model/kernels/philox.h"

namespace tagspace::kernels::cuda {
namespace {

constexpr unsigned kQuad = 4;           // lanes that score one row
constexpr unsigned kBlock = 4 * kQuad;  // elements that a quad reads at once: the number of partial sums
constexpr unsigned kBatch = 4;          // loads in flight a lane
constexpr unsigned kMaxWarps = 8;
constexpr std::size_t kSharedLimit = 48 * 1024;
constexpr std::uint32_t kNone = 0xFFFFFFFF;  // kNoViolator

// Post vectors that live in shared memory are padded to whole batches of loads.
__host__ __device__ __forceinline__ unsigned padded(unsigned dim) {
  return (dim + kBatch * kBlock - 1) / (kBatch * kBlock) * (kBatch * kBlock);
}

// Elements i .. i + 3 of a vector; zeros beyond its end.
template <bool kAligned>
__device__ __forceinline__ float4 load4(const float* vector, unsigned i, unsigned dim) {
  if (kAligned) {
    return i < dim ? __ldg(reinterpret_cast<const float4*>(vector + i)) : make_float4(0, 0, 0, 0);
  }
  return make_float4(i < dim ? __ldg(vector + i) : 0.0F, i + 1 < dim ? __ldg(vector + i + 1) : 0.0F,
                     i + 2 < dim ? __ldg(vector + i + 2) : 0.0F, i + 3 < dim ? __ldg(vector + i + 3) : 0.0F);
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

// The lane's share of the post vector: elements 16 c + 4 q .. + 3 for all c, with q the lane's number in its
// quad. kChunks of them in registers, or, with 0, in shared memory.
template <int kChunks>
struct PostVector {
  float4 chunk[kChunks];

  __device__ __forceinline__ float4 at(unsigned c, unsigned /*quad_lane*/) const { return chunk[c]; }
};
template <>
struct PostVector<0> {
  const float* values;

  __device__ __forceinline__ float4 at(unsigned c, unsigned quad_lane) const {
    return *reinterpret_cast<const float4*>(values + c * kBlock + kQuad * quad_lane);
  }
};

struct RowScore {
  float score;
  float inverse;  // 1 / |row| with the cosine, else 1
};

// The score of one row for each quad of the group; a quad that is not `active` reads nothing. All lanes of
// `mask` take part.
template <bool kCosine, int kChunks, bool kAligned>
__device__ __forceinline__ RowScore score_row(const PostVector<kChunks>& post, float post_inverse,
                                              const float* row, bool active, unsigned dim, unsigned quad_lane,
                                              unsigned mask) {
  PartialSums products;
  PartialSums squares;
  const unsigned chunks = kChunks > 0 ? kChunks : padded(dim) / kBlock;
#pragma unroll(kChunks > 0 ? 2 : 1)
  for (unsigned first = 0; first < chunks; first += kBatch) {
    float4 values[kBatch];
#pragma unroll
    for (unsigned k = 0; k < kBatch; ++k) {
      values[k] = load4<kAligned>(row, (first + k) * kBlock + kQuad * quad_lane, active ? dim : 0);
    }
#pragma unroll
    for (unsigned k = 0; k < kBatch; ++k) {
      products.add_products(post.at(first + k, quad_lane), values[k]);
      if (kCosine) squares.add_products(values[k], values[k]);
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

__device__ __forceinline__ std::uint32_t draw_row(const WarpSearch& search, std::uint32_t pair,
                                                  std::uint64_t draw) {
  Philox4 words = random_words(search.seed, RandomStream::negatives, search.step, search.first_pair + pair,
                               static_cast<std::uint32_t>(draw / 2));
  // The second half is moved to the first, for an index that is not known to the compiler would put it in
  // memory.
  if (draw % 2 != 0) {
    words.word[0] = words.word[2];
    words.word[1] = words.word[3];
  }
  return negative_of_words(words, 0, search.rows);
}

// `bits` without its lowest `count` ones.
template <unsigned kMax>
__device__ __forceinline__ unsigned without_lowest(unsigned bits, unsigned count) {
#pragma unroll
  for (unsigned n = 0; n < kMax; ++n) {
    if (n < count) bits &= bits - 1;
  }
  return bits;
}

// Without a number of blocks per multiprocessor ptxas prefers a few spilled registers to fewer warps.
template <int kLanes, bool kCosine, int kChunks, bool kAligned>
__global__ void __launch_bounds__(kMaxWarps * 32, kAligned && !kCosine && kChunks < 8 ? 3 : 2)
    search_kernel(const WarpSearch search) {
  constexpr unsigned kTries = kLanes / kQuad;  // scored at once
  const unsigned dim = search.dim;
  const unsigned lane = threadIdx.x % kLanes;
  const unsigned group = threadIdx.x / kLanes;
  const unsigned quad = lane / kQuad;
  const unsigned quad_lane = lane % kQuad;
  const unsigned first_lane = threadIdx.x % 32 - lane;  // of the group, within the warp
  const unsigned mask = (0xFFFFFFFFU >> (32 - kLanes)) << first_lane;
  const std::uint32_t post = blockIdx.x * (blockDim.x / kLanes) + group;
  if (post >= search.posts) return;

  const float* const p = search.post_vectors + std::size_t{post} * dim;
  PostVector<kChunks> vector;
  if constexpr (kChunks > 0) {
#pragma unroll
    for (unsigned c = 0; c < kChunks; ++c) {
      vector.chunk[c] = load4<kAligned>(p, c * kBlock + kQuad * quad_lane, dim);
    }
  } else {
    TAGSPACE_DYNAMIC_SHARED(float, shared);
    float* const values = shared + group * padded(dim);
    for (unsigned i = lane; i < padded(dim); i += kLanes) values[i] = i < dim ? __ldg(p + i) : 0.0F;
    __syncwarp(mask);
    vector.values = values;
  }
  const auto score = [&](const float* row, bool active, float post_inverse) {
    return score_row<kCosine, kChunks, kAligned>(vector, post_inverse, row, active, dim, quad_lane, mask);
  };
  const float p_inverse = kCosine ? score(p, true, 1).inverse : 1;

  float* const gradient = search.post_gradient + std::size_t{post} * dim;
  for (unsigned i = lane; i < dim; i += kLanes) gradient[i] = 0;
  const std::uint32_t* const own_begin = search.own + search.own_offsets[post];
  const std::uint32_t* const own_end = search.own + search.own_offsets[post + 1];
  const std::uint64_t max_draws = static_cast<std::size_t>(own_end - own_begin) < search.rows
                                      ? 4 * std::uint64_t{search.max_tries} + 64
                                      : 0;
  const std::uint32_t last_pair = search.positive_offsets[post + 1];

  for (std::uint32_t pair = search.positive_offsets[post]; pair < last_pair; ++pair) {
    const float* const positive = search.table + std::size_t{search.positives[pair]} * dim;
    const RowScore y = score(positive, true, p_inverse);
    const float threshold = __fsub_rn(y.score, search.margin);

    std::uint32_t violator = kNone;
    RowScore n = {0, 0};
    std::uint32_t tries = 0;
    for (std::uint64_t first_draw = 0;
         violator == kNone && first_draw < max_draws && tries < search.max_tries; first_draw += kLanes) {
      const std::uint64_t draw = first_draw + lane;
      const std::uint32_t row = draw_row(search, pair, draw);
      const bool is_try = draw < max_draws && !contains(own_begin, own_end, row);
      unsigned left = __ballot_sync(mask, is_try) >> first_lane;
      while (left != 0 && tries < search.max_tries) {
        unsigned in_flight = __popc(left);
        if (in_flight > kTries) in_flight = kTries;
        if (in_flight > search.max_tries - tries) in_flight = search.max_tries - tries;
        const bool active = quad < in_flight;
        const unsigned mine = without_lowest<kTries>(left, quad);
        const std::uint32_t candidate = __shfl_sync(mask, row, active ? __ffs(mine) - 1 : 0, kLanes);
        const RowScore s = score(search.table + std::size_t{candidate} * dim, active, p_inverse);
        // Not "s > threshold": a score that is not a number is a violation.
        const unsigned violating = __ballot_sync(mask, active && !(s.score <= threshold)) >> first_lane;
        if (violating != 0) {
          const int winner = __ffs(violating) - 1;  // a lane; the first of its quad
          violator = __shfl_sync(mask, candidate, winner, kLanes);
          n.score = __shfl_sync(mask, s.score, winner, kLanes);
          n.inverse = __shfl_sync(mask, s.inverse, winner, kLanes);
          tries += winner / kQuad + 1;
          break;
        }
        tries += in_flight;
        left = without_lowest<kTries>(left, in_flight);
      }
    }

    // See warp_reference for the derivative.
    float loss = 0;
    float to_positive = 0;
    float to_negative = 0;
    float positive_self = 0;
    float negative_self = 0;
    if (violator != kNone) {
      const float weight = search.weight_of_tries[tries - 1];
      loss = __fmul_rn(weight, __fadd_rn(__fsub_rn(search.margin, y.score), n.score));
      const float w = __fmul_rn(weight, search.gradient_scale);
      to_positive = __fmul_rn(__fmul_rn(-w, p_inverse), y.inverse);
      to_negative = __fmul_rn(__fmul_rn(w, p_inverse), n.inverse);
      float p_self = 0;
      if (kCosine) {
        positive_self = __fmul_rn(__fmul_rn(__fmul_rn(w, y.score), y.inverse), y.inverse);
        negative_self = __fmul_rn(__fmul_rn(__fmul_rn(-w, n.score), n.inverse), n.inverse);
        p_self = __fmul_rn(__fmul_rn(__fmul_rn(w, __fsub_rn(y.score, n.score)), p_inverse), p_inverse);
      }
      const float* const negative = search.table + std::size_t{violator} * dim;
      for (unsigned i = lane; i < dim; i += kLanes) {
        const float of_rows = __fadd_rn(__fmul_rn(to_negative, __ldg(negative + i)),
                                        __fmul_rn(to_positive, __ldg(positive + i)));
        gradient[i] = __fadd_rn(gradient[i], __fadd_rn(of_rows, __fmul_rn(p_self, __ldg(p + i))));
      }
    }
    if (lane == 0) {
      search.violator[pair] = violator;
      search.tries[pair] = tries;
      search.loss[pair] = loss;
      float* const of_positive = search.positive_gradient + std::size_t{2} * pair;
      float* const of_negative = search.negative_gradient + std::size_t{2} * pair;
      of_positive[0] = to_positive;
      of_positive[1] = positive_self;
      of_negative[0] = to_negative;
      of_negative[1] = negative_self;
    }
  }
}

template <int kLanes, bool kCosine, int kChunks, bool kAligned>
int launch(const WarpSearch& search, unsigned warps, CUstream_st* stream) {
  const unsigned groups = warps * 32 / kLanes;
  const std::size_t shared_bytes = kChunks > 0 ? 0 : std::size_t{groups} * padded(search.dim) * sizeof(float);
  if (shared_bytes > kSharedLimit) return cudaErrorInvalidValue;
  const auto kernel = search_kernel<kLanes, kCosine, kChunks, kAligned>;
  TAGSPACE_LAUNCH(kernel, dim3((search.posts - 1) / groups + 1), dim3(warps * 32), shared_bytes, stream,
                  search);
  return cudaGetLastError();
}

template <int kLanes, bool kCosine>
int launch_for_dim(const WarpSearch& search, unsigned warps, CUstream_st* stream) {
  if (search.dim % 4 != 0) return launch<kLanes, kCosine, 0, false>(search, warps, stream);
  if (search.dim <= 64) return launch<kLanes, kCosine, 4, true>(search, warps, stream);
  if (search.dim <= 128) return launch<kLanes, kCosine, 8, true>(search, warps, stream);
  return launch<kLanes, kCosine, 0, true>(search, warps, stream);
}

template <int kLanes>
int launch_for_score(const WarpSearch& search, unsigned warps, CUstream_st* stream) {
  return search.cosine ? launch_for_dim<kLanes, true>(search, warps, stream)
                       : launch_for_dim<kLanes, false>(search, warps, stream);
}

}  // namespace

WarpShape warp_shape(std::uint32_t dim, float mean_tries) {
  WarpShape shape;
  // Of the tries that are scored at once, those beyond the first violator are in vain.
  shape.lanes = mean_tries < 3 ? 8 : mean_tries < 8 ? 16 : 32;
  const std::size_t warp_bytes = std::size_t{32} / shape.lanes * padded(dim) * sizeof(float);
  while (shape.warps > 1 && shape.warps * warp_bytes > kSharedLimit) shape.warps /= 2;
  return shape;
}

int warp_search(const WarpSearch& search, const WarpShape& shape, CUstream_st* stream) {
  if (shape.warps < 1 || shape.warps > kMaxWarps || search.dim == 0 || search.rows < 2)
    return cudaErrorInvalidValue;
  if (search.posts == 0) return cudaSuccess;
  switch (shape.lanes) {
    case 8:
      return launch_for_score<8>(search, shape.warps, stream);
    case 16:
      return launch_for_score<16>(search, shape.warps, stream);
    case 32:
      return launch_for_score<32>(search, shape.warps, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace tagspace::kernels::cuda
