// Scores and the twofold tanh for one instruction set, with fused multiply-adds where it has them.
#include "model/kernels/simd_scoring.h"

#include "model/kernels/simd_vector.h"

namespace tagspace::kernels {
namespace {

// Rows that meet a panel at a time: as many sums as the registers hold beside the panel's vectors.
#if TAGSPACE_LANES == 16
constexpr std::size_t kRowTile = 14;
#elif TAGSPACE_LANES == 8
constexpr std::size_t kRowTile = 6;
#else
constexpr std::size_t kRowTile = 3;
#endif
static_assert(kBlock == kPanel);

template <std::size_t Rows>
struct Tile {
  Vec scores[Rows][kVecs];
};

template <std::size_t Rows>
inline Tile<Rows> multiply(const float* panel, const float* rows, std::size_t dim) {
  Tile<Rows> tile;  // cleared as PartialSums of simd_dot.h
  for (auto& of_row : tile.scores) {
    for (Vec& score : of_row) score = Vec{};
  }
  for (std::size_t d = 0; d < dim; ++d) {
    Vec q[kVecs];
    for (std::size_t j = 0; j < kVecs; ++j) q[j] = load(panel + d * kPanel + j * kLanes);
    for (std::size_t r = 0; r < Rows; ++r) {
      const Vec x = splat(rows[r * dim + d]);
      for (std::size_t j = 0; j < kVecs; ++j) tile.scores[r][j] += x * q[j];
    }
  }
  return tile;
}

// Calls visit(first row, tile) for all rows, as many at a time as fit.
template <typename Visit>
inline void for_tiles(const float* panel, const float* rows, std::size_t row_count, std::size_t dim,
                      const Visit& visit) {
  std::size_t row = 0;
  for (; row + kRowTile <= row_count; row += kRowTile) {
    visit(row, multiply<kRowTile>(panel, rows + row * dim, dim));
  }
  for (; row < row_count; ++row) visit(row, multiply<1>(panel, rows + row * dim, dim));
}

void scores(const float* panel, const float* rows, std::size_t row_count, std::size_t dim, float* out) {
  for_tiles(panel, rows, row_count, dim, [&]<std::size_t Rows>(std::size_t first, const Tile<Rows>& tile) {
    for (std::size_t r = 0; r < Rows; ++r) {
      for (std::size_t j = 0; j < kVecs; ++j) {
        store(out + (first + r) * kPanel + j * kLanes, tile.scores[r][j]);
      }
    }
  });
}

inline bool any(VecMask mask) {
  std::uint64_t words[sizeof mask / 8];
  __builtin_memcpy(words, &mask, sizeof mask);
  std::uint64_t all = 0;
  for (const std::uint64_t word : words) all |= word;
  return all != 0;
}

std::size_t hits(const float* panel, const float* rows, std::size_t row_count, std::size_t dim,
                 const float* threshold, Hit* out) {
  std::size_t count = 0;
  Vec limit[kVecs];
  for (std::size_t j = 0; j < kVecs; ++j) limit[j] = load(threshold + j * kLanes);
  for_tiles(panel, rows, row_count, dim, [&]<std::size_t Rows>(std::size_t first, const Tile<Rows>& tile) {
    VecMask through[Rows][kVecs];
    VecMask together = {};
    for (std::size_t r = 0; r < Rows; ++r) {
      for (std::size_t j = 0; j < kVecs; ++j) {
        through[r][j] = ~(tile.scores[r][j] <= limit[j]);
        together |= through[r][j];
      }
    }
    if (!any(together)) return;  // as for most tiles
    for (std::size_t r = 0; r < Rows; ++r) {
      for (std::size_t lane = 0; lane < kPanel; ++lane) {
        if (through[r][lane / kLanes][lane % kLanes] == 0) continue;
        out[count++] = {static_cast<std::uint32_t>(first + r), static_cast<std::uint32_t>(lane),
                        tile.scores[r][lane / kLanes][lane % kLanes]};
      }
    }
  });
  return count;
}

inline VecMask load_mask(const std::int32_t* p) {
  VecMask v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
inline void store_mask(std::int32_t* p, VecMask v) { __builtin_memcpy(p, &v, sizeof v); }

void count(const float* panel, const float* rows, std::size_t first_row, std::size_t row_count,
           std::size_t dim, const PanelCounts& counts) {
  for_tiles(panel, rows, row_count, dim, [&]<std::size_t Rows>(std::size_t first, const Tile<Rows>& tile) {
    for (std::size_t i = 0; i < counts.sought * kPanel; i += kPanel) {
      for (std::size_t j = 0; j < kVecs; ++j) {
        const Vec own = load(counts.own + i + j * kLanes);
        VecMask less = load_mask(counts.less + i + j * kLanes);
        for (std::size_t r = 0; r < Rows; ++r) less += tile.scores[r][j] < own;  // true is -1
        store_mask(counts.less + i + j * kLanes, less);
      }
    }
    for (std::size_t j = 0; j < kVecs; ++j) {
      Vec best = load(counts.best + j * kLanes);
      VecMask best_row = load_mask(counts.best_row + j * kLanes);
      for (std::size_t r = 0; r < Rows; ++r) {
        const Vec score = tile.scores[r][j];
        // The first number takes the place of what is none. What is none differs from itself.
        // NOLINTNEXTLINE(misc-redundant-expression)
        const VecMask better = (score > best) | ((best != best) & (score == score));
        best = better ? score : best;
        best_row = better ? static_cast<std::int32_t>(first_row + first + r) - VecMask{} : best_row;
      }
      store(counts.best + j * kLanes, best);
      store_mask(counts.best_row + j * kLanes, best_row);
    }
  });
}

void tanh_of_tanh(float* values, std::size_t count) {
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(values + i, tanh_of(tanh_of(load(values + i))));
  if (i == count) return;
  float rest[kLanes] = {};
  for (std::size_t j = 0; i + j < count; ++j) rest[j] = values[i + j];
  store(rest, tanh_of(tanh_of(load(rest))));
  for (std::size_t j = 0; i + j < count; ++j) values[i + j] = rest[j];
}

}  // namespace

namespace TAGSPACE_ISA {
extern const ScoringKernels scoring_kernels;
const ScoringKernels scoring_kernels = {scores, hits, count, tanh_of_tanh};
}  // namespace TAGSPACE_ISA

}  // namespace tagspace::kernels
