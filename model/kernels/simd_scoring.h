// The inner loops of scoring.h, compiled once for each instruction set; private to this folder.
//
// Queries lie side by side in panels, a query to a lane of the vectors, so that the table's rows are read as
// they are: [dim, kPanel]. Each value of a row meets all queries of the panel.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tagspace::kernels {

constexpr std::size_t kPanel = 16;  // queries to a panel

struct Hit {
  std::uint32_t row;
  std::uint32_t lane;
  float score;
};

// What has been counted for the queries of a panel so far.
struct PanelCounts {
  std::size_t sought;      // rows that are looked for, the most of all queries of the panel
  const float* own;        // [sought, kPanel] their scores
  std::int32_t* less;      // [sought, kPanel] minus the number of rows that score less
  float* best;             // [kPanel]
  std::int32_t* best_row;  // [kPanel]
};

// In all of them: `panel` [dim, kPanel], `rows` [row_count, dim].
struct ScoringKernels {
  // scores[r, lane], [row_count, kPanel].
  void (*scores)(const float* panel, const float* rows, std::size_t row_count, std::size_t dim,
                 float* scores);

  // Writes down every row and lane whose score is not at most threshold[lane] (a threshold that is no number
  // lets everything through), in the order of the rows, numbered from 0; at most row_count * kPanel. Returns
  // how many they are.
  std::size_t (*hits)(const float* panel, const float* rows, std::size_t row_count, std::size_t dim,
                      const float* threshold, Hit* hits);

  // Counts the rows, which are numbered from first_row on.
  void (*count)(const float* panel, const float* rows, std::size_t first_row, std::size_t row_count,
                std::size_t dim, const PanelCounts& counts);

  void (*tanh_of_tanh)(float* values, std::size_t count);
};

}  // namespace tagspace::kernels
