// The kernel of row updates, on the emulator or on a GPU, against the plain reference: bit for bit, but for
// the norm's additions.
#include <algorithm>
#include <bit>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "model/kernels/cuda/row_update.cuh"
#include "model/kernels/row_update.h"
#include "tests/simt/kernel_arrays.h"
#include "tests/simt/sparse_array.h"

namespace tagspace::kernels {
namespace {

// Random contributions to the rows of a table, many to the first rows and few to the others. Row 0 has more
// than 64 of them, row 1 has 32, if there are enough.
struct Problem {
  std::size_t dim;
  Array<float> table, sums, vectors, coefficients, selves;
  Array<std::uint32_t> sources, sorted_rows, order;
  RowGroups groups;

  // With `counts`, row i has counts[i] of the contributions, and what is left over goes to none.
  Problem(std::size_t dimension, std::uint32_t rows, std::size_t contributions, std::uint64_t seed,
          const std::vector<std::size_t>& counts = {})
      : dim(dimension) {
    constexpr std::uint32_t kSources = 23;
    std::mt19937_64 engine(seed);
    const auto normals = [&](std::size_t count, float scale) {
      std::normal_distribution<float> normal(0, scale);
      Array<float> values(count);
      for (auto& value : values) value = normal(engine);
      return values;
    };
    table = normals(rows * dim, 0.3F);
    sums = normals(rows * dim, 0.3F);
    for (auto& sum : sums) sum = std::abs(sum);
    vectors = normals(kSources * dim, 0.3F);
    coefficients = normals(contributions, 1);
    selves = normals(contributions, 0.1F);
    Array<std::uint32_t> keys(contributions);
    for (std::size_t i = 0; i < contributions; ++i) {
      sources.push_back(static_cast<std::uint32_t>(engine() % kSources));
      const std::uint64_t draw = engine();
      keys[i] = draw % 7 == 0 ? kNoRow : static_cast<std::uint32_t>(draw / 7 % (1 + draw / 1000 % rows));
    }
    if (!counts.empty()) {
      std::fill(keys.begin(), keys.end(), kNoRow);
      auto end = keys.begin();
      for (std::size_t row = 0; row < counts.size(); ++row) {
        end = std::fill_n(end, counts[row], static_cast<std::uint32_t>(row));
      }
      std::shuffle(keys.begin(), keys.end(), engine);
    } else if (contributions >= 200) {
      std::replace(keys.begin(), keys.end(), 1U, 2U);
      for (std::size_t i = 0; i < 66; ++i) keys[3 * i] = 0;
      for (std::size_t i = 0; i < 32; ++i) keys[3 * i + 1] = 1;
    }
    RowGrouper().group(keys.data(), contributions, groups);
    sorted_rows.resize(contributions);
    order.resize(contributions);
    std::size_t bytes = 0;
    const auto sort = [&](void* scratch) {
      return cuda::sort_by_row(keys.data(), static_cast<std::uint32_t>(contributions), rows,
                               sorted_rows.data(), order.data(), scratch, bytes, nullptr);
    };
    EXPECT_EQ(sort(nullptr), 0);
    Array<char> scratch(bytes);
    EXPECT_EQ(sort(scratch.data()), 0);
  }
};

struct Case {
  OptimizerKind kind;
  float max_norm;
  bool has_coefficients;
};

cuda::RowUpdate update_of(const Problem& problem, const Case& kase) {
  cuda::RowUpdate update;
  update.optimizer = {kase.kind, 0.05F, kase.max_norm};
  update.contributions = static_cast<std::uint32_t>(problem.order.size());
  update.rows = problem.sorted_rows.data();
  update.order = problem.order.data();
  update.from = {problem.vectors.data(), problem.sources.data(),
                 kase.has_coefficients ? problem.coefficients.data() : nullptr,
                 kase.has_coefficients ? problem.selves.data() : nullptr};
  update.dim = static_cast<std::uint32_t>(problem.dim);
  return update;
}

std::vector<Case> cases_of(std::size_t dim) {
  const float max_norm = 0.3F * std::sqrt(static_cast<float>(dim));
  return {{OptimizerKind::adagrad, 0, true},        {OptimizerKind::adagrad, 0, false},
          {OptimizerKind::adagrad, max_norm, true}, {OptimizerKind::sgd, 0, true},
          {OptimizerKind::sgd, 0, false},           {OptimizerKind::sgd, max_norm, true}};
}

// With the warps that are given, and with as many as `seed`, which is counted up, makes of it.
void expect_the_reference(const Problem& problem, const std::vector<unsigned>& given, std::uint64_t& seed) {
  const std::size_t dim = problem.dim;
  for (const Case& kase : cases_of(dim)) {
    const bool adagrad = kase.kind == OptimizerKind::adagrad;
    cuda::RowUpdate update = update_of(problem, kase);
    auto expected = problem.table;
    auto expected_sums = problem.sums;
    update_rows_reference(update.optimizer, problem.groups, update.from, dim, expected.data(),
                          adagrad ? expected_sums.data() : nullptr);
    Array<float> first;
    std::vector<unsigned> several = given;
    several.push_back(static_cast<unsigned>(2 + seed % 7));
    for (const unsigned warps : several) {
      SCOPED_TRACE("dim " + std::to_string(dim) + ", warps " + std::to_string(warps) + ", schedule " +
                   std::to_string(seed));
      auto actual = problem.table;
      auto sums = problem.sums;
      update.table = {actual.data(), nullptr, adagrad ? sums.data() : nullptr};
      set_schedule(seed++);
      ASSERT_EQ(cuda::update_rows(update, warps, nullptr), 0);
      set_schedule(0);
      EXPECT_EQ(sums, expected_sums);
      if (kase.max_norm == 0) {
        EXPECT_EQ(actual, expected);
      } else {
        for (std::size_t i = 0; i < actual.size(); ++i) {
          ASSERT_TRUE(std::abs(actual[i] - expected[i]) <= 1e-6F * std::abs(expected[i])) << i;
        }
        EXPECT_NE(actual, problem.table);
      }
      if (first.empty()) first = actual;
      EXPECT_EQ(actual, first);
    }
  }
}

TEST(RowUpdateKernel, EqualsTheReference) {
  std::uint64_t seed = 0;
  for (const std::size_t dim : {1, 3, 6, 16, 20, 64, 100, 128, 132, 256, 1021, 1024}) {
    expect_the_reference(Problem(dim, 30, 200, dim), {1, 3}, seed);
  }
}

// Rows of so many contributions that a block takes them, and of one less; as many as it stages at a time,
// loads at a time, and one more or less. More than enough go to none.
const std::vector<std::size_t> kLongRows = {63, 64, 65, 1, 255, 256, 257, 0, 63, 545, 96};

TEST(RowUpdateKernel, RowsOfManyContributionsEqualTheReference) {
  std::uint64_t seed = 0;
  for (const std::size_t dim : {1, 100, 256, 300}) {
    expect_the_reference(Problem(dim, 11, 1800, dim, kLongRows), {}, seed);
  }
}

// A bfloat16 table: the step on the widened row, rounded once, at random, by the bits that the row's number
// and the step say.
TEST(RowUpdateKernel, HalfTablesAreRoundedAtRandom) {
  for (const std::size_t dim : {1, 3, 20, 64, 132, 256, 257}) {
    const Problem problem = dim == 257 ? Problem(dim, 30, 1800, dim, kLongRows) : Problem(dim, 30, 200, dim);
    Array<Bfloat16> halves;
    Array<float> widened;
    for (const float value : problem.table) {
      halves.push_back(round_to_nearest(value));
      widened.push_back(to_float(halves.back()));
    }
    const RoundingSource rounding{5, RandomStream::word_rounding, 77};
    for (const Case& kase : cases_of(dim)) {
      SCOPED_TRACE("dim " + std::to_string(dim) + ", max_norm " + std::to_string(kase.max_norm));
      const bool adagrad = kase.kind == OptimizerKind::adagrad;
      cuda::RowUpdate update = update_of(problem, kase);
      update.rounding = rounding;
      auto expected = widened;
      auto expected_sums = problem.sums;
      update_rows_reference(update.optimizer, problem.groups, update.from, dim, expected.data(),
                            adagrad ? expected_sums.data() : nullptr);
      auto actual = halves;
      auto sums = problem.sums;
      update.table = {nullptr, actual.data(), adagrad ? sums.data() : nullptr};
      ASSERT_EQ(cuda::update_rows(update, 3, nullptr), 0);
      EXPECT_EQ(sums, expected_sums);
      std::size_t differing = 0;
      for (std::uint32_t row = 0; row < 30; ++row) {
        const bool touched = std::count(problem.groups.rows.begin(), problem.groups.rows.end(), row) > 0;
        for (std::uint32_t i = 0; i < dim; ++i) {
          const std::size_t at = row * dim + i;
          const Bfloat16 rounded =
              touched ? round_at_random(expected[at], rounding_words(rounding, row, i / 4).word[i % 4])
                      : halves[at];
          if (actual[at].bits != rounded.bits) ++differing;
        }
      }
      // The norm is added up in another order, and may tip a rounding.
      EXPECT_LE(differing, kase.max_norm == 0 ? 0 : 1 + actual.size() / 1000);
    }
  }
}

TEST(Bfloat16, RoundsAtRandomAsOftenAsItShould) {
  // 1 + 3/4 of the distance to the next number: three quarters of all random numbers round up.
  const float value = 1 + 0.75F / 128;
  unsigned up = 0;
  for (std::uint32_t random = 0; random < 65536; ++random) {
    const float rounded = to_float(round_at_random(value, random));
    ASSERT_TRUE(rounded == 1 || rounded == 1 + 1.0F / 128);
    up += rounded > 1 ? 1 : 0;
  }
  EXPECT_EQ(up, 49152U);
  EXPECT_EQ(to_float(round_at_random(-1.5F, 65535)), -1.5F);
  EXPECT_EQ(to_float(round_to_nearest(value)), 1 + 1.0F / 128);
  EXPECT_EQ(to_float(round_to_nearest(1 + 0.5F / 128)), 1);  // ties to even
  EXPECT_EQ(to_float(round_to_nearest(1 + 1.5F / 128)), 1 + 2.0F / 128);
  EXPECT_EQ(to_float(round_at_random(1, 0xFFFF0000)), 1);  // the low half counts
  EXPECT_TRUE(std::isnan(to_float(round_at_random(std::numeric_limits<float>::quiet_NaN(), 65535))));
  // Its upper half alone would be infinity.
  const auto no_number = std::bit_cast<float>(0x7F800001U);
  EXPECT_TRUE(std::isnan(to_float(round_at_random(no_number, 0))));
  EXPECT_EQ(to_float(round_at_random(std::numeric_limits<float>::infinity(), 65535)),
            std::numeric_limits<float>::infinity());
}

// Without `source`, contribution c is vector c.
TEST(RowUpdateKernel, EachContributionMayHaveAVectorOfItsOwn) {
  Problem problem(20, 30, 23, 1);
  ASSERT_EQ(problem.vectors.size(), 23U * 20);
  for (std::uint32_t i = 0; i < 23; ++i) problem.sources[i] = i;
  cuda::RowUpdate update = update_of(problem, {OptimizerKind::sgd, 0, true});
  auto expected = problem.table;
  update_rows_reference(update.optimizer, problem.groups, update.from, 20, expected.data(), nullptr);
  auto actual = problem.table;
  update.table.floats = actual.data();
  update.from.source = nullptr;
  ASSERT_EQ(cuda::update_rows(update, 2, nullptr), 0);
  EXPECT_EQ(actual, expected);
  EXPECT_NE(actual, problem.table);
}

// Rows and vectors whose offsets do not fit into 32 bits.
TEST(RowUpdateKernel, OffsetsHave64Bits) {
  constexpr std::uint32_t kLast = 20'000'000;
  for (const std::uint32_t dim : {256U, 255U}) {
    SparseArray<float> table((std::size_t{kLast} + 1) * dim);
    SparseArray<float> sums((std::size_t{kLast} + 1) * dim);
    SparseArray<float> vectors((std::size_t{kLast} + 1) * dim);
    if (!table.exists() || !sums.exists() || !vectors.exists()) {
      GTEST_SKIP() << "no sparse arrays of 20 GB here";
    }
    const std::size_t last = std::size_t{kLast} * dim;
    std::fill_n(table.data() + last, dim, 0.0F);
    std::fill_n(sums.data() + last, dim, 0.0F);
    std::fill_n(vectors.data() + last, dim, 4.0F);
    const Array<std::uint32_t> row = {kLast};
    const Array<std::uint32_t> order = {0};
    const Array<std::uint32_t> source = {kLast};
    cuda::RowUpdate update;
    update.optimizer.learning_rate = 0.5F;
    update.contributions = 1;
    update.rows = row.data();
    update.order = order.data();
    update.from = {vectors.data(), source.data(), nullptr, nullptr};
    update.dim = dim;
    update.table = {table.data(), nullptr, sums.data()};
    ASSERT_EQ(cuda::update_rows(update, 2, nullptr), 0);
    const auto count_of = [&](SparseArray<float>& array, float value) {
      const float* const begin = array.data() + last;
      return std::count(begin, begin + dim, value);
    };
    EXPECT_EQ(count_of(table, -0.5F), dim);
    EXPECT_EQ(count_of(sums, 16), dim);
  }
}

TEST(Bfloat16, EachElementHasARandomNumberOfItsOwn) {
  for (const auto stream : {RandomStream::hashtag_rounding, RandomStream::word_rounding}) {
    const Philox4 words = rounding_words({5, stream, 77}, 9, 3);
    const Philox4 expected = random_words(5, stream, 77, 9, 3);
    EXPECT_TRUE(std::equal(words.word, words.word + 4, expected.word));
  }
}

TEST(RowUpdateKernel, NothingToUpdate) {
  cuda::RowUpdate update;
  float value = 1;
  update.optimizer.kind = OptimizerKind::sgd;
  update.dim = 4;
  update.table.floats = &value;
  EXPECT_EQ(cuda::update_rows(update, 4, nullptr), 0);
}

TEST(RowUpdateKernel, RefusesWhatCannotBe) {
  const int invalid = cudaErrorInvalidValue;
  float value = 1;
  Bfloat16 half{};
  cuda::RowUpdate update;
  update.contributions = 1;
  update.dim = 4;
  update.table.floats = &value;
  EXPECT_EQ(cuda::update_rows(update, 4, nullptr), invalid);  // adagrad without sums
  update.optimizer.kind = OptimizerKind::sgd;
  EXPECT_EQ(cuda::update_rows(update, 0, nullptr), invalid);
  EXPECT_EQ(cuda::update_rows(update, 9, nullptr), invalid);
  update.table.halves = &half;
  EXPECT_EQ(cuda::update_rows(update, 4, nullptr), invalid);  // two tables
  update.table = {};
  EXPECT_EQ(cuda::update_rows(update, 4, nullptr), invalid);  // none
  update.table.floats = &value;
  update.dim = 0;
  EXPECT_EQ(cuda::update_rows(update, 4, nullptr), invalid);
}

// Stable, kNoRow last, whatever the number of rows: also where it, or the last row, is all ones in the bits
// that are looked at.
TEST(RowSort, IsStableAndPutsWhatIsNoRowLast) {
  std::mt19937_64 engine(4);
  for (const std::uint32_t table_rows : {1U, 2U, 3U, 255U, 256U, 257U, 65536U, 100'000U, 0xFFFFFFFEU}) {
    for (const std::uint32_t count : {0U, 1U, 2U, 255U, 256U, 257U, 3000U}) {
      Array<std::uint32_t> rows(count);
      for (auto& row : rows) {
        const auto kind = engine() % 4;
        row = kind == 0   ? kNoRow
              : kind == 1 ? table_rows - 1
                          : static_cast<std::uint32_t>(engine() % table_rows);
      }
      Array<std::uint32_t> expected_order(count);
      for (std::uint32_t i = 0; i < count; ++i) expected_order[i] = i;
      std::stable_sort(expected_order.begin(), expected_order.end(),
                       [&](auto a, auto b) { return rows[a] < rows[b]; });
      Array<std::uint32_t> expected_rows(count);
      std::transform(expected_order.begin(), expected_order.end(), expected_rows.begin(),
                     [&](auto i) { return rows[i]; });

      Array<std::uint32_t> sorted(count);
      Array<std::uint32_t> order(count);
      std::size_t bytes = 0;
      ASSERT_EQ(cuda::sort_by_row(rows.data(), count, table_rows, sorted.data(), order.data(), nullptr, bytes,
                                  nullptr),
                0);
      Array<std::uint64_t> scratch((bytes + 7) / 8);
      ASSERT_EQ(cuda::sort_by_row(rows.data(), count, table_rows, sorted.data(), order.data(), scratch.data(),
                                  bytes, nullptr),
                0);
      ASSERT_EQ(sorted, expected_rows) << table_rows << " rows, " << count << " contributions";
      ASSERT_EQ(order, expected_order) << table_rows << " rows, " << count << " contributions";
    }
  }
}

}  // namespace
}  // namespace tagspace::kernels
