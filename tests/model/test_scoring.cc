#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "model/kernels/scoring.h"
#include "tests/model/kernel_cases.h"

namespace tagspace::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

struct Shape {
  std::size_t queries, rows, dim;
};
const std::vector<Shape>& shapes() {
  static const std::vector<Shape> all = {{1, 1, 1},     {1, 2, 3},    {2, 41, 5},    {15, 43, 64},
                                         {16, 84, 7},   {17, 100, 1}, {300, 500, 9}, {40, 3, 100},
                                         {1, 7000, 64}, {3, 50, 1000}};
  return all;
}

// Small whole numbers, whose products and sums are exact in any order: many ties, and no rounding to forgive.
std::vector<float> whole_numbers(std::size_t count, Random& random) {
  std::vector<float> values(count);
  for (auto& value : values) value = static_cast<float>(random.below(5)) - 2;
  return values;
}

bool operator_equal(const ScoredRow& a, const ScoredRow& b) {
  return a.id == b.id && std::memcmp(&a.score, &b.score, sizeof a.score) == 0;
}
void expect_equal(const std::vector<ScoredRow>& actual, const std::vector<ScoredRow>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    ASSERT_TRUE(operator_equal(actual[i], expected[i]))
        << "at " << i << ": " << actual[i].id << " (" << actual[i].score << ") instead of " << expected[i].id
        << " (" << expected[i].score << ")";
  }
}

// Sought rows, none for some queries and many for a few.
struct Sought {
  std::vector<std::uint32_t> offsets = {0};
  std::vector<std::uint32_t> rows;

  Sought(std::size_t queries, std::size_t row_count, Random& random) {
    for (std::size_t query = 0; query < queries; ++query) {
      const std::uint32_t count = random.below(10) == 0 ? 20 : random.below(4);
      for (std::uint32_t i = 0; i < count; ++i) {
        rows.push_back(random.below(static_cast<std::uint32_t>(row_count)));
      }
      offsets.push_back(static_cast<std::uint32_t>(rows.size()));
    }
  }
  [[nodiscard]] SoughtRows view() const { return {offsets.data(), rows.data()}; }
};

TEST(Scoring, ProductsEqualTheReference) {
  for (const auto& [queries, rows, dim] : shapes()) {
    SCOPED_TRACE(std::to_string(queries) + " x " + std::to_string(rows) + " x " + std::to_string(dim));
    Random random(queries * 31 + rows);
    const auto q = random.normals(queries * dim);
    const auto r = random.normals(rows * dim);
    const auto bias = random.normals(rows);
    for (const float* b : {bias.data(), static_cast<const float*>(nullptr)}) {
      std::vector<float> expected(queries * rows);
      products_reference({q.data(), queries, dim}, {r.data(), rows, dim}, b, expected.data());
      for_each_context([&](CpuContext& context) {
        std::vector<float> actual(queries * rows, 99);
        products({q.data(), queries, dim}, {r.data(), rows, dim}, b, actual.data(), context);
        expect_close(actual, expected);
      });
    }
  }
}

TEST(Scoring, AScoreStandsForItself) {
  // The same bits alone as among others, whichever function computes it.
  constexpr std::size_t kQueries = 37;
  constexpr std::size_t kRows = 3000;
  constexpr std::size_t kDim = 50;
  Random random(7);
  const auto q = random.normals(kQueries * kDim);
  const auto r = random.normals(kRows * kDim);
  for_each_context([&](CpuContext& context) {
    std::vector<float> all(kQueries * kRows);
    products({q.data(), kQueries, kDim}, {r.data(), kRows, kDim}, nullptr, all.data(), context);
    std::vector<ScoredRow> ranked(kQueries * kRows);
    top_k({q.data(), kQueries, kDim}, {r.data(), kRows, kDim}, kRows, ranked.data(), context);
    for (std::size_t i = 0; i < ranked.size(); ++i) {
      const float score = all[i / kRows * kRows + ranked[i].id];
      ASSERT_EQ(std::memcmp(&ranked[i].score, &score, sizeof score), 0);
    }
    for (std::size_t query = 0; query < kQueries; query += 9) {
      for (std::size_t row = 0; row < kRows; row += 101) {
        float alone = 0;
        products({q.data() + query * kDim, 1, kDim}, {r.data() + row * kDim, 1, kDim}, nullptr, &alone,
                 context);
        ASSERT_EQ(std::memcmp(&alone, &all[query * kRows + row], sizeof alone), 0);
      }
    }
  });
}

TEST(Scoring, TopKEqualsTheReferenceWithTiesInTheOrderOfIds) {
  for (const auto& [queries, rows, dim] : shapes()) {
    SCOPED_TRACE(std::to_string(queries) + " x " + std::to_string(rows) + " x " + std::to_string(dim));
    Random random(queries + 17 * rows);
    const auto q = whole_numbers(queries * dim, random);
    const auto r = whole_numbers(rows * dim, random);
    for (const std::size_t k : {std::size_t{0}, std::size_t{1}, std::size_t{10}, std::size_t{100000}}) {
      std::vector<ScoredRow> expected(queries * std::min(k, rows));
      top_k_reference({q.data(), queries, dim}, {r.data(), rows, dim}, k, expected.data());
      for_each_context([&](CpuContext& context) {
        std::vector<ScoredRow> actual(expected.size());
        top_k({q.data(), queries, dim}, {r.data(), rows, dim}, k, actual.data(), context);
        expect_equal(actual, expected);
      });
    }
  }
}

TEST(Scoring, RanksEqualTheReference) {
  for (const auto& [queries, rows, dim] : shapes()) {
    SCOPED_TRACE(std::to_string(queries) + " x " + std::to_string(rows) + " x " + std::to_string(dim));
    Random random(queries + 19 * rows);
    const auto q = whole_numbers(queries * dim, random);
    const auto r = whole_numbers(rows * dim, random);
    const Sought sought(queries, rows, random);
    std::vector<std::uint32_t> expected(sought.rows.size());
    std::vector<std::uint32_t> expected_first(queries);
    ranks_reference({q.data(), queries, dim}, {r.data(), rows, dim}, sought.view(), expected.data(),
                    expected_first.data());
    for_each_context([&](CpuContext& context) {
      std::vector<std::uint32_t> actual(expected.size(), 99);
      std::vector<std::uint32_t> first(queries, 99);
      ranks({q.data(), queries, dim}, {r.data(), rows, dim}, sought.view(), actual.data(), first.data(),
            context);
      EXPECT_EQ(actual, expected);
      EXPECT_EQ(first, expected_first);
    });
  }
}

TEST(Scoring, RanksAreThePlacesInTheTopK) {
  // Of random numbers, without ties: one independent way to a rank.
  constexpr std::size_t kQueries = 33;
  constexpr std::size_t kRows = 4100;
  constexpr std::size_t kDim = 64;
  Random random(11);
  const auto q = random.normals(kQueries * kDim);
  const auto r = random.normals(kRows * kDim);
  const Sought sought(kQueries, kRows, random);
  for_each_context([&](CpuContext& context) {
    std::vector<ScoredRow> ranked(kQueries * kRows);
    top_k({q.data(), kQueries, kDim}, {r.data(), kRows, kDim}, kRows, ranked.data(), context);
    std::vector<std::uint32_t> actual(sought.rows.size());
    std::vector<std::uint32_t> first(kQueries);
    ranks({q.data(), kQueries, kDim}, {r.data(), kRows, kDim}, sought.view(), actual.data(), first.data(),
          context);
    for (std::size_t query = 0; query < kQueries; ++query) {
      const ScoredRow* best = ranked.data() + query * kRows;
      EXPECT_EQ(first[query], best[0].id);
      for (std::uint32_t j = sought.offsets[query]; j < sought.offsets[query + 1]; ++j) {
        // Equal scores of two random rows are possible, and share the later place.
        std::uint32_t place = 0;
        while (best[place].id != sought.rows[j]) ++place;
        while (place + 1 < kRows && best[place + 1].score == best[place].score) ++place;
        ASSERT_EQ(actual[j], place + 1);
      }
    }
  });
}

TEST(Scoring, WhatIsNoNumberComesLastAndCountsAgainstTheModel) {
  // The scores of the query (1) are the rows themselves.
  for (const auto& row_values :
       {std::vector<float>{kNaN, -kInfinity, kNaN, 2, kInfinity, 1}, std::vector<float>{kNaN, kNaN, kNaN},
        std::vector<float>{kNaN, -kInfinity}}) {
    const std::size_t rows = row_values.size();
    const std::vector<float> query = {1, 1};
    std::vector<std::uint32_t> sought(2 * rows);
    for (std::size_t i = 0; i < sought.size(); ++i) sought[i] = static_cast<std::uint32_t>(i % rows);
    const std::vector<std::uint32_t> offsets = {0, static_cast<std::uint32_t>(rows),
                                                static_cast<std::uint32_t>(2 * rows)};
    std::vector<ScoredRow> expected(2 * rows);
    top_k_reference({query.data(), 2, 1}, {row_values.data(), rows, 1}, rows, expected.data());
    std::vector<std::uint32_t> expected_ranks(sought.size());
    std::vector<std::uint32_t> expected_first(2);
    ranks_reference({query.data(), 2, 1}, {row_values.data(), rows, 1}, {offsets.data(), sought.data()},
                    expected_ranks.data(), expected_first.data());
    if (rows == 6) {
      EXPECT_EQ(expected[0].id, 4U);
      EXPECT_EQ(expected[1].id, 3U);
      EXPECT_EQ(expected[2].id, 5U);
      EXPECT_EQ(expected[3].id, 1U);
      EXPECT_EQ(expected[4].id, 0U);
      EXPECT_EQ(expected[5].id, 2U);
      EXPECT_EQ(std::vector<std::uint32_t>(expected_ranks.begin(), expected_ranks.begin() + 6),
                (std::vector<std::uint32_t>{6, 6, 6, 4, 3, 5}));
    }
    for_each_context([&](CpuContext& context) {
      for (std::size_t k = 1; k <= rows; ++k) {
        std::vector<ScoredRow> actual(2 * k);
        top_k({query.data(), 2, 1}, {row_values.data(), rows, 1}, k, actual.data(), context);
        for (std::size_t i = 0; i < actual.size(); ++i) ASSERT_EQ(actual[i].id, expected[i % k].id);
      }
      std::vector<std::uint32_t> actual(sought.size());
      std::vector<std::uint32_t> first(2);
      ranks({query.data(), 2, 1}, {row_values.data(), rows, 1}, {offsets.data(), sought.data()},
            actual.data(), first.data(), context);
      EXPECT_EQ(actual, expected_ranks);
      EXPECT_EQ(first, expected_first);
    });
  }
}

TEST(Scoring, NoQueryIsNoWork) {
  for_each_context([&](CpuContext& context) {
    const std::vector<float> rows = {1, 2};
    const std::uint32_t offset = 0;
    products({nullptr, 0, 1}, {rows.data(), 2, 1}, nullptr, nullptr, context);
    top_k({nullptr, 0, 1}, {rows.data(), 2, 1}, 5, nullptr, context);
    ranks({nullptr, 0, 1}, {rows.data(), 2, 1}, {&offset, nullptr}, nullptr, nullptr, context);
  });
}

TEST(TanhOfTanh, IsWithinFourUnitsInTheLastPlace) {
  std::vector<float> values = {0, 1e-30F, 1e-8F, 0.5F, 1, 9.99F, 10, 10.01F, 88, 1e30F, kInfinity};
  for (int exponent = -40; exponent < 8; ++exponent) {
    Random random(static_cast<std::uint64_t>(exponent + 100));
    for (int i = 0; i < 500; ++i) values.push_back(std::ldexp(1 + std::abs(random.normal()), exponent));
  }
  auto expected = values;
  tanh_of_tanh_reference(expected.data(), expected.size());
  for_each_context([&](CpuContext& context) {
    // Every number of values, and so every rest behind the vectors.
    for (std::size_t left_out = 0; left_out < 17; ++left_out) {
      auto actual = values;
      const std::size_t count = actual.size() - left_out;
      tanh_of_tanh(actual.data() + left_out, count, context);
      for (std::size_t i = left_out; i < values.size(); ++i) {
        const float unit = std::nextafter(expected[i], kInfinity) - expected[i];
        ASSERT_TRUE(std::abs(actual[i] - expected[i]) <= 4 * unit)
            << "of " << values[i] << ": " << actual[i] << " instead of " << expected[i];
      }
    }
    auto negative = values;
    for (auto& value : negative) value = -value;
    auto positive = values;
    tanh_of_tanh(negative.data(), negative.size(), context);
    tanh_of_tanh(positive.data(), positive.size(), context);
    for (std::size_t i = 0; i < values.size(); ++i) ASSERT_EQ(negative[i], -positive[i]);
    std::vector<float> none(19, kNaN);
    tanh_of_tanh(none.data(), none.size(), context);
    for (const float value : none) ASSERT_TRUE(std::isnan(value));
  });
}

}  // namespace
}  // namespace tagspace::kernels
