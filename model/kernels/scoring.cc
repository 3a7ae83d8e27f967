// The loops around simd_scoring.h: panels of queries, tiles of rows, threads. How the work is shared out
// depends on the number of threads; what comes out does not, as each score stands for itself and the best of
// several parts, and sums of counts, are the same in any order.
#include "model/kernels/scoring.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <vector>

#include "model/kernels/cpu_context.h"
#include "model/kernels/simd.h"
#include "model/kernels/simd_scoring.h"

namespace tagspace::kernels {
namespace {

// A tile of rows stays in a core's second cache while the panels of a task pass over it.
constexpr std::size_t kTileFloats = 32768;
// Between two looks at the thresholds: the fewer rows, the fewer that a stale threshold lets through.
constexpr std::size_t kRowsAtOnce = 42;
constexpr std::size_t kPanelsPerTask = 16;
// Rows are divided among threads only where each then has at least this many values to multiply.
constexpr std::size_t kLeastFloatsPerTask = std::size_t{1} << 17;
constexpr std::size_t kFeaturesPerTask = 16384;

std::size_t parts(std::size_t count, std::size_t each) { return (count + each - 1) / each; }

struct Range {
  std::size_t begin;
  std::size_t end;
};

Range part_of(std::size_t count, std::size_t part, std::size_t all) {
  return {count * part / all, count * (part + 1) / all};
}

// Queries in panels, and the tasks that panels and rows are divided into.
class Panels {
 public:
  Panels(const VectorArray& queries, const VectorArray& rows, CpuContext& context)
      : dim_(rows.dim),
        queries_(queries.count),
        packed_(std::make_unique_for_overwrite<float[]>(panels() * kPanel * dim_)) {
    context.pool.run(panels(), [&](std::size_t i, std::size_t) { pack(queries, i); });
    const std::size_t threads = context.pool.threads();
    groups_ = std::max(parts(panels(), kPanelsPerTask), std::min(threads, panels()));
    if (groups_ > 0 && groups_ < threads) {
      chunks_ = std::clamp<std::size_t>(rows.count * dim_ / kLeastFloatsPerTask, 1, parts(threads, groups_));
    }
  }

  [[nodiscard]] std::size_t panels() const { return parts(queries_, kPanel); }
  [[nodiscard]] const float* panel(std::size_t i) const { return packed_.get() + i * kPanel * dim_; }
  [[nodiscard]] std::size_t lanes(std::size_t panel) const {
    return std::min(kPanel, queries_ - panel * kPanel);
  }

  // A task is a group of panels and a chunk of the rows; tasks of one chunk follow each other.
  [[nodiscard]] std::size_t chunks() const { return chunks_; }
  [[nodiscard]] std::size_t tasks() const { return groups_ * chunks_; }
  [[nodiscard]] std::size_t chunk(std::size_t task) const { return task / groups_; }
  [[nodiscard]] Range panels_of(std::size_t task) const { return part_of(panels(), task % groups_, groups_); }

  // Calls visit(panel, rows) for the panels of a task and its chunk of `row_count` rows, a tile at a time.
  template <typename Visit>
  void for_tiles(std::size_t task, std::size_t row_count, const Visit& visit) const {
    const std::size_t tile = std::max(kRowsAtOnce, kTileFloats / dim_ / kRowsAtOnce * kRowsAtOnce);
    const Range group = panels_of(task);
    const Range chunk_rows = part_of(row_count, chunk(task), chunks_);
    for (std::size_t row = chunk_rows.begin; row < chunk_rows.end; row += tile) {
      for (std::size_t panel = group.begin; panel < group.end; ++panel) {
        visit(panel, Range{row, std::min(chunk_rows.end, row + tile)});
      }
    }
  }

 private:
  // Some values of all queries after the other, so that what they are written to stays in the first cache.
  void pack(const VectorArray& queries, std::size_t panel) {
    constexpr std::size_t kValues = 16;
    float* const to = packed_.get() + panel * kPanel * dim_;
    if (lanes(panel) < kPanel) std::fill_n(to, kPanel * dim_, 0.0F);
    const float* const from = queries.data + panel * kPanel * dim_;
    for (std::size_t first = 0; first < dim_; first += kValues) {
      const std::size_t last = std::min(dim_, first + kValues);
      for (std::size_t lane = 0; lane < lanes(panel); ++lane) {
        for (std::size_t i = first; i < last; ++i) to[i * kPanel + lane] = from[lane * dim_ + i];
      }
    }
  }

  std::size_t dim_;
  std::size_t queries_;
  std::unique_ptr<float[]> packed_;  // [panels, dim, kPanel]; zeros where there is no query
  std::size_t groups_ = 0;
  std::size_t chunks_ = 1;
};

// The k best rows so far: a heap with the worst of them in front.
void offer(std::vector<ScoredRow>& heap, std::size_t k, const ScoredRow& row) {
  if (heap.size() == k) {
    if (!is_better(row, heap.front())) return;
    std::pop_heap(heap.begin(), heap.end(), is_better);
    heap.back() = row;
  } else {
    heap.push_back(row);
  }
  std::push_heap(heap.begin(), heap.end(), is_better);
}

}  // namespace

void products(const VectorArray& queries, const VectorArray& rows, const float* bias, float* out,
              CpuContext& context) {
  const Panels panels(queries, rows, context);
  context.pool.run(panels.tasks(), [&](std::size_t task, std::size_t) {
    float scores[kRowsAtOnce * kPanel];
    panels.for_tiles(task, rows.count, [&](std::size_t panel, Range tile) {
      for (std::size_t row = tile.begin; row < tile.end; row += kRowsAtOnce) {
        const std::size_t count = std::min(kRowsAtOnce, tile.end - row);
        context.simd->scoring->scores(panels.panel(panel), rows.data + row * rows.dim, count, rows.dim,
                                      scores);
        for (std::size_t lane = 0; lane < panels.lanes(panel); ++lane) {
          float* to = out + (panel * kPanel + lane) * rows.count + row;
          for (std::size_t r = 0; r < count; ++r) {
            to[r] = scores[r * kPanel + lane] + (bias == nullptr ? 0 : bias[row + r]);
          }
        }
      }
    });
  });
}

void top_k(const VectorArray& queries, const VectorArray& rows, std::size_t k, ScoredRow* best,
           CpuContext& context) {
  k = std::min(k, rows.count);
  if (k == 0) return;
  const Panels panels(queries, rows, context);
  // Of each query, one for each chunk of the rows.
  std::vector<std::vector<ScoredRow>> heaps(queries.count * panels.chunks());
  context.pool.run(panels.tasks(), [&](std::size_t task, std::size_t) {
    const Range group = panels.panels_of(task);
    const auto heap = [&](std::size_t query) -> std::vector<ScoredRow>& {
      return heaps[query * panels.chunks() + panels.chunk(task)];
    };
    // Everything passes until a heap is full, and no number where there is no query.
    std::vector<float> thresholds((group.end - group.begin) * kPanel,
                                  std::numeric_limits<float>::quiet_NaN());
    for (std::size_t lane = panels.lanes(group.end - 1); lane < kPanel; ++lane) {
      thresholds[(group.end - group.begin - 1) * kPanel + lane] = std::numeric_limits<float>::infinity();
    }
    Hit hits[kRowsAtOnce * kPanel];
    panels.for_tiles(task, rows.count, [&](std::size_t panel, Range tile) {
      float* threshold = thresholds.data() + (panel - group.begin) * kPanel;
      for (std::size_t row = tile.begin; row < tile.end; row += kRowsAtOnce) {
        const std::size_t count =
            context.simd->scoring->hits(panels.panel(panel), rows.data + row * rows.dim,
                                        std::min(kRowsAtOnce, tile.end - row), rows.dim, threshold, hits);
        for (const Hit* hit = hits; hit < hits + count; ++hit) {
          if (hit->lane >= panels.lanes(panel)) continue;  // zero times infinity
          auto& kept = heap(panel * kPanel + hit->lane);
          offer(kept, k, {static_cast<std::uint32_t>(row + hit->row), hit->score});
          if (kept.size() == k) threshold[hit->lane] = kept.front().score;
        }
      }
    });
  });
  context.pool.run(panels.panels(), [&](std::size_t panel, std::size_t) {
    for (std::size_t lane = 0; lane < panels.lanes(panel); ++lane) {
      const std::size_t query = panel * kPanel + lane;
      auto& all = heaps[query * panels.chunks()];
      for (std::size_t chunk = 1; chunk < panels.chunks(); ++chunk) {
        for (const ScoredRow& row : heaps[query * panels.chunks() + chunk]) offer(all, k, row);
      }
      std::sort_heap(all.begin(), all.end(), is_better);
      std::copy_n(all.begin(), k, best + query * k);
    }
  });
}

void ranks(const VectorArray& queries, const VectorArray& rows, const SoughtRows& sought,
           std::uint32_t* ranks, std::uint32_t* first, CpuContext& context) {
  if (queries.count == 0) return;
  // Queries with as many sought rows as their neighbours, so that a panel with many has no query with few.
  std::vector<std::uint32_t> order(queries.count);
  for (std::uint32_t query = 0; query < queries.count; ++query) order[query] = query;
  const auto sought_of = [&](std::uint32_t query) {
    return sought.offsets[query + 1] - sought.offsets[query];
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](std::uint32_t a, std::uint32_t b) { return sought_of(a) < sought_of(b); });
  std::vector<float> ordered(queries.count * queries.dim);
  for (std::size_t i = 0; i < order.size(); ++i) {
    std::copy_n(queries.data + order[i] * queries.dim, queries.dim, ordered.data() + i * queries.dim);
  }
  const Panels panels({ordered.data(), queries.count, queries.dim}, rows, context);

  struct Counts {
    std::size_t sought = 0;
    std::vector<float> own;          // [sought, kPanel]
    std::vector<std::int32_t> less;  // [sought, kPanel]
    float best[kPanel];
    std::int32_t best_row[kPanel] = {};
  };
  std::vector<Counts> counts(panels.panels() * panels.chunks());
  context.pool.run(panels.tasks(), [&](std::size_t task, std::size_t) {
    const Range group = panels.panels_of(task);
    const auto counts_of = [&](std::size_t panel) -> Counts& {
      return counts[panel * panels.chunks() + panels.chunk(task)];
    };
    for (std::size_t panel = group.begin; panel < group.end; ++panel) {
      Counts& c = counts_of(panel);
      c.sought = sought_of(order[panel * kPanel + panels.lanes(panel) - 1]);
      c.own.assign(c.sought * kPanel, 0);
      c.less.assign(c.sought * kPanel, 0);
      std::fill_n(c.best, kPanel, std::numeric_limits<float>::quiet_NaN());
      for (std::size_t lane = 0; lane < panels.lanes(panel); ++lane) {
        const std::uint32_t query = order[panel * kPanel + lane];
        for (std::size_t i = 0; i < sought_of(query); ++i) {
          float scores[kPanel];
          const std::size_t row = sought.rows[sought.offsets[query] + i];
          context.simd->scoring->scores(panels.panel(panel), rows.data + row * rows.dim, 1, rows.dim, scores);
          c.own[i * kPanel + lane] = scores[lane];
        }
      }
    }
    panels.for_tiles(task, rows.count, [&](std::size_t panel, Range tile) {
      Counts& c = counts_of(panel);
      context.simd->scoring->count(panels.panel(panel), rows.data + tile.begin * rows.dim, tile.begin,
                                   tile.end - tile.begin, rows.dim,
                                   {c.sought, c.own.data(), c.less.data(), c.best, c.best_row});
    });
  });
  for (std::size_t i = 0; i < order.size(); ++i) {
    const std::uint32_t query = order[i];
    const std::size_t lane = i % kPanel;
    const Counts* c = counts.data() + i / kPanel * panels.chunks();
    ScoredRow best{static_cast<std::uint32_t>(c->best_row[lane]), c->best[lane]};
    for (std::size_t chunk = 1; chunk < panels.chunks(); ++chunk) {
      const ScoredRow other{static_cast<std::uint32_t>(c[chunk].best_row[lane]), c[chunk].best[lane]};
      if (is_better(other, best)) best = other;
    }
    first[query] = best.id;
    for (std::size_t j = 0; j < sought_of(query); ++j) {
      auto rank = static_cast<std::int64_t>(rows.count);
      for (std::size_t chunk = 0; chunk < panels.chunks(); ++chunk) rank += c[chunk].less[j * kPanel + lane];
      ranks[sought.offsets[query] + j] = static_cast<std::uint32_t>(rank);
    }
  }
}

void tanh_of_tanh(float* values, std::size_t count, CpuContext& context) {
  context.pool.run(parts(count, kFeaturesPerTask), [&](std::size_t task, std::size_t) {
    const std::size_t begin = task * kFeaturesPerTask;
    context.simd->scoring->tanh_of_tanh(values + begin, std::min(kFeaturesPerTask, count - begin));
  });
}

}  // namespace tagspace::kernels
