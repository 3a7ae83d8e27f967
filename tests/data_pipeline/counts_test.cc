#include "data_pipeline/counts.h"

#include <algorithm>
#include <cstdint>
#include <gtest/gtest.h>
#include <map>
#include <random>
#include <string>

namespace tagspace {
namespace {

TEST(CountsTest, CountsAsAMapDoes) {
  std::mt19937 random(3);
  Counts counts;
  for (const int names : {0, 1, 31, 32, 33, 5000}) {
    counts.clear();
    std::map<std::string, std::uint64_t> expected;
    std::map<std::string, std::uint32_t> numbers;
    for (int i = 0; i < 20 * names; ++i) {
      // Also the empty name, zeros, and names that begin alike.
      const auto number = random() % static_cast<std::uint64_t>(names);
      const std::string name = std::string(number % 3, '\0') + std::string(number / 3 % 7, 'x') +
                               (number == 0 ? "" : std::to_string(number));
      const std::uint64_t count = random() % 3;
      const auto known = counts.find(name);
      ASSERT_EQ(known.has_value(), expected.contains(name));
      const std::uint32_t id = counts.add(name, count);
      expected[name] += count;
      ASSERT_EQ(numbers.emplace(name, counts.size() - 1).first->second, id);
      if (known) {
        ASSERT_EQ(*known, id);
      }
    }
    ASSERT_EQ(counts.size(), expected.size());
    for (const auto& [name, count] : expected) {
      const std::uint32_t id = numbers.at(name);
      EXPECT_EQ(counts.name(id), name);
      EXPECT_EQ(counts.count(id), count);
      EXPECT_EQ(counts.find(name), id);
    }
    EXPECT_EQ(counts.find("never added"), std::nullopt);
    const auto best = counts.most_frequent(30, 100);
    EXPECT_LE(best.size(), 100U);
    for (std::size_t i = 0; i < best.size(); ++i) {
      EXPECT_EQ(best[i].count, expected.at(best[i].name));
      EXPECT_GE(best[i].count, 30U);
      if (i > 0) {
        EXPECT_TRUE(is_ranked_before(best[i - 1], best[i]));
      }
    }
    std::size_t reach = 0;
    for (const auto& entry : expected) reach += entry.second >= 30 ? 1 : 0;
    EXPECT_EQ(best.size(), std::min<std::size_t>(reach, 100));
  }
}

}  // namespace
}  // namespace tagspace
