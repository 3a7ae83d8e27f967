#include <algorithm>
#include <cmath>

#include "model/kernels/row_update.h"
#include "tests/model/kernel_cases.h"

namespace tagspace::kernels {
namespace {

TEST(RowGrouper, GroupsInOrderAndLeavesNoRowOut) {
  RowGrouper grouper;
  RowGroups groups;
  const std::vector<std::uint32_t> keys = {7, kNoRow, 3, 7, 1U << 30, 3, 7};
  grouper.group(keys.data(), keys.size(), groups);
  EXPECT_EQ(groups.rows, (std::vector<std::uint32_t>{3, 7, 1U << 30}));
  EXPECT_EQ(groups.offsets, (std::vector<std::uint32_t>{0, 2, 5, 6}));
  EXPECT_EQ(groups.order, (std::vector<std::uint32_t>{2, 5, 0, 3, 6, 4}));

  grouper.group(nullptr, 0, groups);
  EXPECT_TRUE(groups.rows.empty());
  EXPECT_EQ(groups.offsets, std::vector<std::uint32_t>{0});
}

TEST(RowGrouper, CallsContributionsByTheirPost) {
  RowGrouper grouper;
  RowGroups groups;
  const std::vector<std::uint32_t> keys = {7, kNoRow, 3, 7, 9, 3, 7};
  const std::vector<std::uint32_t> offsets = {0, 4, 4, 7};
  grouper.group_by_post(keys.data(), offsets.data(), 3, groups);
  EXPECT_EQ(groups.rows, (std::vector<std::uint32_t>{3, 7, 9}));
  EXPECT_EQ(groups.offsets, (std::vector<std::uint32_t>{0, 2, 5, 6}));
  EXPECT_EQ(groups.order, (std::vector<std::uint32_t>{0, 2, 0, 0, 2, 2}));
}

TEST(RowGrouper, EqualsAStableSortOnRandomKeys) {
  Random random(11);
  for (const std::uint32_t rows : {1U, 2U, 2047U, 2048U, 2049U, 5'000'000U, 0xFFFFFFFEU}) {
    std::vector<std::uint32_t> keys(3000);
    for (auto& key : keys) key = random.below(rows);
    std::vector<std::uint32_t> expected(keys.size());
    for (std::uint32_t i = 0; i < keys.size(); ++i) expected[i] = i;
    std::stable_sort(expected.begin(), expected.end(), [&](auto a, auto b) { return keys[a] < keys[b]; });
    RowGrouper grouper;
    RowGroups groups;
    grouper.group(keys.data(), keys.size(), groups);
    EXPECT_EQ(groups.order, expected);
    for (std::size_t g = 0; g < groups.rows.size(); ++g) {
      for (auto at = groups.offsets[g]; at < groups.offsets[g + 1]; ++at) {
        ASSERT_EQ(keys[groups.order[at]], groups.rows[g]);
      }
    }
  }
}

TEST(UpdateRows, AdagradByHand) {
  // One row of two numbers, gradient 2 * (3, -1) + 0.5 * (1, 2) = (6.5, -1).
  std::vector<float> table = {9, 9, 1, 2};
  std::vector<float> sums = {0, 0, 1, 3};
  const std::vector<float> vectors = {3, -1};
  RowGroups groups{{1}, {0, 1}, {0}};
  const std::uint32_t source = 0;
  const float coefficient = 2;
  const float self = 0.5;
  update_rows_reference({OptimizerKind::adagrad, 0.1F, 0}, groups,
                        {vectors.data(), &source, &coefficient, &self}, 2, table.data(), sums.data());
  EXPECT_FLOAT_EQ(sums[2], 1 + 6.5F * 6.5F);
  EXPECT_FLOAT_EQ(sums[3], 4);
  EXPECT_FLOAT_EQ(table[2], 1 - 0.1F * 6.5F / std::sqrt(43.25F));
  EXPECT_FLOAT_EQ(table[3], 2 + 0.1F * 1 / 2);
  EXPECT_EQ(table[0], 9);
  EXPECT_EQ(sums[0], 0);
}

TEST(UpdateRows, CutsLongRowsToTheMaximumNorm) {
  std::vector<float> table = {3, 4};
  const std::vector<float> vectors = {0, 0};
  RowGroups groups{{0}, {0, 1}, {0}};
  const std::uint32_t source = 0;
  const auto step = [&](float max_norm) {
    update_rows_reference({OptimizerKind::sgd, 1, max_norm}, groups,
                          {vectors.data(), &source, nullptr, nullptr}, 2, table.data(), nullptr);
  };
  step(6);
  EXPECT_EQ(table, (std::vector<float>{3, 4}));
  step(1);
  EXPECT_FLOAT_EQ(table[0], 0.6F);
  EXPECT_FLOAT_EQ(table[1], 0.8F);
}

TEST(UpdateRows, ARowWithoutContributionsStays) {
  const std::vector<float> vectors = {1, 1};
  RowGroups groups{{0, 1}, {0, 1, 3}, {0, 1, 2}};
  const std::vector<std::uint32_t> sources = {0, 0, 0};
  const std::vector<float> coefficients = {0, 0, 1};
  for_each_context([&](CpuContext& context) {
    std::vector<float> table = {30, 40, 30, 40};  // longer than allowed
    const TableUpdate update{
        &groups, {vectors.data(), sources.data(), coefficients.data(), nullptr}, table.data(), nullptr};
    update_rows({OptimizerKind::sgd, 0, 5}, &update, 1, 2, context);
    EXPECT_EQ(table[0], 30);
    EXPECT_EQ(table[1], 40);
    EXPECT_FLOAT_EQ(table[2], 3);
    EXPECT_FLOAT_EQ(table[3], 4);
  });
}

TEST(UpdateRows, EqualsTheReference) {
  for (const auto kind : {OptimizerKind::adagrad, OptimizerKind::sgd}) {
    for (const std::size_t dim : {1, 3, 16, 50, 64, 200, 256}) {
      SCOPED_TRACE(dim);
      Random random(dim);
      const std::uint32_t rows = 300;
      const std::size_t contributions = 900;
      const auto table = random.normals(rows * dim);
      std::vector<float> sums(rows * dim, 0.5F);
      const auto vectors = random.normals(40 * dim);
      std::vector<std::uint32_t> keys(contributions);
      std::vector<std::uint32_t> sources(contributions);
      for (auto& key : keys) key = random.below(5) == 0 ? kNoRow : random.below(rows);
      for (auto& source : sources) source = random.below(40);
      auto coefficients = random.normals(contributions);
      auto self = random.normals(contributions);
      // Of those that count as none, some are all that a row has.
      for (auto& c : coefficients) c = random.below(2) == 0 ? 0 : c;
      for (auto& s : self) s = random.below(2) == 0 ? 0 : s;
      RowGrouper grouper;
      RowGroups groups;
      grouper.group(keys.data(), keys.size(), groups);
      const Optimizer optimizer{kind, 0.05F, 8};
      for (const bool plain : {false, true}) {
        const RowContributions given{vectors.data(), sources.data(), plain ? nullptr : coefficients.data(),
                                     plain ? nullptr : self.data()};
        auto expected = table;
        auto expected_sums = sums;
        update_rows_reference(optimizer, groups, given, dim, expected.data(), expected_sums.data());
        std::vector<float> first;
        for_each_context([&](CpuContext& context) {
          auto actual = table;
          auto actual_sums = sums;
          // A second table, of the same content, is updated with it.
          auto second = table;
          auto second_sums = sums;
          const bool sgd = kind == OptimizerKind::sgd;
          const TableUpdate tables[] = {{&groups, given, actual.data(), sgd ? nullptr : actual_sums.data()},
                                        {&groups, given, second.data(), sgd ? nullptr : second_sums.data()}};
          update_rows(optimizer, tables, 2, dim, context);
          expect_close(actual, expected);
          EXPECT_EQ(second, actual);
          EXPECT_EQ(second_sums, actual_sums);
          // One beside the other, by a task of its own.
          auto beside = table;
          auto third = table;
          auto beside_sums = sums;
          auto third_sums = sums;
          const TableUpdate update{&groups, given, third.data(), sgd ? nullptr : third_sums.data()};
          update_rows(optimizer, &update, 1, dim, context, [&] {
            update_rows_alone(optimizer, {&groups, given, beside.data(), sgd ? nullptr : beside_sums.data()},
                              dim, context);
          });
          EXPECT_EQ(third, actual);
          EXPECT_EQ(beside, actual);
          EXPECT_EQ(third_sums, actual_sums);
          EXPECT_EQ(beside_sums, actual_sums);
          if (kind == OptimizerKind::adagrad) expect_close(actual_sums, expected_sums);
          // Bit for bit the same whatever the number of threads.
          if (context.pool.threads() == 1) first = actual;
          EXPECT_EQ(actual, first);
        });
      }
    }
  }
}

TEST(UpdateDense, EqualsOneRowOfTheReference) {
  Random random(5);
  const std::size_t count = 40'001;
  const auto values = random.normals(count);
  const auto gradient = random.normals(count);
  const std::vector<float> sums(count, 0.25F);
  RowGroups groups{{0}, {0, 1}, {0}};
  const std::uint32_t source = 0;
  for (const auto kind : {OptimizerKind::adagrad, OptimizerKind::sgd}) {
    const Optimizer optimizer{kind, 0.1F, 0};
    auto expected = values;
    auto expected_sums = sums;
    update_rows_reference(optimizer, groups, {gradient.data(), &source, nullptr, nullptr}, count,
                          expected.data(), expected_sums.data());
    for_each_context([&](CpuContext& context) {
      auto actual = values;
      auto actual_sums = sums;
      update_dense(optimizer, gradient.data(), count, actual.data(), actual_sums.data(), context);
      expect_close(actual, expected);
      expect_close(actual_sums, expected_sums);
    });
  }
}

}  // namespace
}  // namespace tagspace::kernels
