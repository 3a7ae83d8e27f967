#include <gtest/gtest.h>
#include <string>
#include <vector>

#include "app/suggest.h"

namespace tagspace {
namespace {

TEST(Suggest, EditDistance) {
  EXPECT_EQ(edit_distance("", ""), 0U);
  EXPECT_EQ(edit_distance("abc", ""), 3U);
  EXPECT_EQ(edit_distance("", "abc"), 3U);
  EXPECT_EQ(edit_distance("margin", "margin"), 0U);
  EXPECT_EQ(edit_distance("margin", "margn"), 1U);
  EXPECT_EQ(edit_distance("margin", "amrgin"), 1U);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3U);
}

TEST(Suggest, OnlySlipsOfTheKeyboard) {
  const std::vector<std::string> names = {"loss.margin", "loss.max_tries", "seed"};
  EXPECT_EQ(nearest_name("loss.margn", names), "loss.margin");
  EXPECT_EQ(nearest_name("sede", names), "seed");
  EXPECT_EQ(nearest_name("loss.max_trys", names), "loss.max_tries");
  EXPECT_EQ(nearest_name("elephant", names), std::nullopt);
  EXPECT_EQ(nearest_name("lr", names), std::nullopt);
  EXPECT_EQ(nearest_name("x", {}), std::nullopt);
}

}  // namespace
}  // namespace tagspace
