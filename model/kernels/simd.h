// The inner loops that are compiled once for each instruction set; private to this folder.
//
// Each function does one task on one thread. The loops around them, which share the tasks out, are in
// dispatch.cc, encoder.cc and row_update.cc; the loops themselves in simd_exact.cc (no fused multiply-adds,
// results equal on every instruction set), simd_fast.cc and simd_convolution.cc.
#pragma once

#include <cstddef>
#include <cstdint>

#include "model/kernels/encoder.h"
#include "model/kernels/row_update.h"
#include "model/kernels/skipgram.h"
#include "model/kernels/warp.h"

namespace tagspace::kernels {

struct ConvolutionKernels;  // simd_convolution.h
struct ScoringKernels;      // simd_scoring.h

// Pairs whose scores with a tile of the table are computed while it is in the cache.
constexpr std::uint32_t kPairsAtOnce = 32;

// Draws of the pool that a task makes.
constexpr std::uint32_t kPoolTask = 128;

// Words of 64 bits that hold one bit a row.
constexpr std::size_t words_of_bits(std::uint32_t rows) { return (std::size_t{rows} + 63) / 64; }

// RowGroups without its containers: code that is compiled for one instruction set must not instantiate inline
// functions of the standard library, of which the linker keeps one copy for the whole program.
struct RowGroupsView {
  const std::uint32_t* rows;
  const std::uint32_t* offsets;
  const std::uint32_t* order;
};

// The gathered draws of Negatives::shared, with the rows' vectors next to each other. Owned by the caller.
struct SharedPool {
  std::uint32_t gathered;  // first_part()
  std::uint32_t* rows;     // [gathered]
  float* vectors;          // [gathered, dim]
  float* inverses;         // [gathered], one over the vectors' lengths; with the cosine
};

// SkipgramSteps without its containers.
struct SkipgramStepsView {
  std::size_t count;
  std::size_t targets;
  const std::uint32_t* neighbors;
  const std::uint32_t* rows;
};
// `scratch` has room for skipgram_scratch(targets) floats. Returns the sum of the losses.
using SkipgramKernel = double (*)(const SkipgramStepsView&, const SkipgramTables&, float rate,
                                  float* scratch);
constexpr std::size_t skipgram_scratch(std::size_t targets) { return (targets + 15) / 16 * 16; }

struct SimdKernels {
  const char* name;  // of the instruction set
  bool (*supported)();
  const ConvolutionKernels* convolution;
  const ScoringKernels* scoring;

  // Draws [begin, end) of the pool; both are multiples of kPoolTask.
  void (*fill_pool)(const WarpConfig&, const WarpBatch&, const SharedPool&, std::uint32_t begin,
                    std::uint32_t end);
  // Posts [begin, end) of the batch. `pool` for Negatives::shared only; `bits` [kPairsAtOnce,
  // words_of_bits(rows)] for Negatives::exact only.
  void (*warp_posts)(const WarpConfig&, const WarpBatch&, float gradient_scale, const WarpResult&,
                     std::size_t begin, std::size_t end, const SharedPool& pool, std::uint64_t* bits);

  // Posts [begin, end).
  void (*bag_posts)(const PackedTokens&, const float* word_vectors, std::size_t dim, float* post_vectors,
                    float* scales, std::size_t begin, std::size_t end);

  // Of posts [begin, end), or of one post: see encoder.h.
  void (*draw_kept)(const Dropout&, std::size_t begin, std::size_t end, std::size_t columns,
                    std::uint8_t* kept);
  // Of tokens [begin, end).
  void (*drop_words)(const Dropout&, const std::uint32_t* from, std::size_t begin, std::size_t end,
                     std::uint32_t* words);
  void (*draw_positives)(std::uint64_t seed, std::uint64_t step, const std::uint32_t* hashtags,
                         const std::uint32_t* offsets, std::size_t begin, std::size_t end,
                         std::uint32_t* positives);
  void (*drop_values)(const Dropout&, const std::uint8_t* kept, std::size_t columns, float* values);
  void (*features_forward)(const Dropout&, const std::uint8_t* kept, std::size_t columns, float* maxima,
                           float* features);
  void (*features_backward)(const Dropout&, const std::uint8_t* kept, std::size_t columns, const float* once,
                            const float* features, float* gradient);

  // Groups [begin, end).
  void (*update_row_groups)(const Optimizer&, const RowGroupsView&, const RowContributions&, std::size_t dim,
                            float* table, float* sums, std::size_t begin, std::size_t end);
  // Elements [begin, end).
  void (*update_elements)(const Optimizer&, const float* gradient, float* values, float* sums,
                          std::size_t begin, std::size_t end);

  SkipgramKernel skipgram;
};

}  // namespace tagspace::kernels
