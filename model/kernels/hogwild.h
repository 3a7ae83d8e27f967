// WARP with the optimiser's step in it: each pair changes its two rows of the table as soon as it has found
// its violator (cuda/warp.cuh). On a GPU many pairs do so at once; here they take turns, which is what a
// kernel must equal when it is given one post after the other, and the meaning of each pair's step.
#pragma once

#include "model/kernels/row_update.h"
#include "model/kernels/warp.h"

namespace tagspace::kernels {

// For each pair in its order: warp_reference on the table as the pairs before it left it, then
// update_rows_reference on the row of its positive, then on that of its violator. A pair without one changes
// nothing.
//
// `table` [rows, dim] takes the place of `batch.table`, which is not read; `sums` [rows, dim], null under
// sgd. `bfloat16`: the table holds only what bfloat16 can, and each write of an element is rounded at random:
// that of the step with word i % 4 of block i / 4, that of a cut to max_norm with word 0 of block dim + i.
// The item is 2 p for the positive and 2 p + 1 for the violator of pair p, counted within the global batch.
void hogwild_reference(const WarpConfig& config, const WarpBatch& batch, float gradient_scale,
                       const Optimizer& optimizer, bool bfloat16, float* table, float* sums,
                       const WarpResult& result);

}  // namespace tagspace::kernels
