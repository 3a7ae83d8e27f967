#include <algorithm>
#include <gtest/gtest.h>
#include <string>
#include <utility>
#include <vector>

#include "app/evaluation.h"

namespace tagspace {
namespace {

HashtagVocabulary vocabulary(const std::vector<std::pair<std::string, std::uint64_t>>& counts) {
  std::vector<HashtagVocabulary::Entry> entries;
  for (const auto& [name, count] : counts) {
    HashtagVocabulary::Entry entry;
    entry.name = name;
    entry.count = count;
    entries.push_back(entry);
  }
  return HashtagVocabulary(std::move(entries));
}

TEST(Evaluation, GroupsCoverTheTableInThirds) {
  // Of 30 occurrences: the first third is a (10), the second b and c (6 + 4), the rest the others.
  const auto groups = frequency_groups(
      vocabulary({{"a", 10}, {"b", 6}, {"c", 4}, {"d", 3}, {"e", 3}, {"f", 2}, {"g", 1}, {"h", 1}}));
  EXPECT_EQ(groups[0].begin, 0U);
  EXPECT_EQ(groups[0].end, 1U);
  EXPECT_EQ(groups[1].end, 3U);
  EXPECT_EQ(groups[2].begin, 3U);
  EXPECT_EQ(groups[2].end, 8U);
  // One hashtag that is nearly all: groups may be empty, but the table is covered.
  const auto lopsided = frequency_groups(vocabulary({{"a", 100}, {"b", 1}}));
  EXPECT_EQ(lopsided[0].end, 1U);
  EXPECT_EQ(lopsided[2].end, 2U);
}

TEST(Evaluation, WordsOfThePostThatAreHashtags) {
  const HashtagVocabulary table =
      vocabulary({{"cats", 9}, {"dogs", 8}, {"new_york", 7}, {"m\xC3\xBCnchen", 5}});
  const Post post = parse_post("My Dogs chase cats and CATS in M\xC3\xBCnchen, not #new_york", false);
  EXPECT_EQ(hashtags_among_words(post, table), (std::vector<std::uint32_t>{0, 1, 3}));
  EXPECT_TRUE(hashtags_among_words(parse_post("", true), table).empty());
}

TEST(Evaluation, BaselinesRankEverythingWithoutTies) {
  // Beside the order itself, written down.
  constexpr std::uint32_t kSize = 9;
  for (const auto& first :
       {std::vector<std::uint32_t>{}, std::vector<std::uint32_t>{1, 4}, std::vector<std::uint32_t>{0},
        std::vector<std::uint32_t>{8}, std::vector<std::uint32_t>{0, 1, 2, 7, 8}}) {
    std::vector<std::uint32_t> order = first;
    for (std::uint32_t id = 0; id < kSize; ++id) {
      if (std::find(first.begin(), first.end(), id) == first.end()) order.push_back(id);
    }
    const std::vector<std::uint32_t> own = {0, 1, 2, 3, 4, 5, 6, 7, 8};
    const auto ranks = baseline_ranks(first, own);
    ASSERT_EQ(ranks.size(), own.size());
    for (const std::uint32_t id : own) EXPECT_EQ(order[ranks[id] - 1], id);
  }
}

TEST(Evaluation, FiguresByHand) {
  // Groups: a | b | c, d.
  const HashtagVocabulary table = vocabulary({{"a", 4}, {"b", 4}, {"c", 2}, {"d", 2}});
  Evaluation evaluation(table);
  // The model ranks d, c, b, a.
  const std::vector<std::uint32_t> own_first = {3};
  const std::vector<std::uint32_t> own_second = {0, 2};
  evaluation.add(evaluation.measure(parse_post("see d", true), own_first, std::vector<std::uint32_t>{1}, 3));
  evaluation.add(
      evaluation.measure(parse_post("no word", true), own_second, std::vector<std::uint32_t>{4, 2}, 3));
  const auto json = evaluation.to_json();
  EXPECT_EQ(json["posts"], 2);
  EXPECT_EQ(json["hashtags"], 4);
  EXPECT_EQ(json["precision_at_1"], 0.5);
  EXPECT_EQ(json["recall_at_10"], 1.0);
  EXPECT_EQ(json["mean_rank"], (1 + (4 + 2) / 2.0) / 2);
  EXPECT_EQ(json["mrr"], (1 + 0.5) / 2);
  // Frequency ranks a, b, c, d: ranks 4; 1 and 3.
  EXPECT_EQ(json["baselines"]["frequency"]["precision_at_1"], 0.5);
  EXPECT_EQ(json["baselines"]["frequency"]["mean_rank"], (4 + (1 + 3) / 2.0) / 2);
  EXPECT_EQ(json["baselines"]["frequency"]["mrr"], (0.25 + 1) / 2);
  // #words ranks d first for the first post.
  EXPECT_EQ(json["baselines"]["words"]["precision_at_1"], 1.0);
  EXPECT_EQ(json["baselines"]["words"]["mean_rank"], (1 + 2) / 2.0);
  EXPECT_EQ(json["by_frequency"]["frequent"]["posts"], 1);
  EXPECT_EQ(json["by_frequency"]["frequent"]["predictions"], 0);
  EXPECT_EQ(json["by_frequency"]["rare"]["hashtags"], 2);
  EXPECT_EQ(json["by_frequency"]["rare"]["posts"], 2);
  EXPECT_EQ(json["by_frequency"]["rare"]["predictions"], 2);
  EXPECT_EQ(json["by_frequency"]["rare"]["precision_at_1"], 0.5);
  const std::string text = evaluation.to_table("a model");
  EXPECT_NE(text.find("a model                    50.00  100.00         2.0   0.7500\n"), std::string::npos)
      << text;
}

TEST(Evaluation, TiesCountAgainstTheModel) {
  const HashtagVocabulary table = vocabulary({{"a", 4}, {"b", 4}});
  Evaluation evaluation(table);
  // Both score alike: the rank of each is 2, whichever is named first.
  const std::vector<std::uint32_t> own = {0};
  evaluation.add(evaluation.measure(parse_post("", true), own, std::vector<std::uint32_t>{2}, 0));
  EXPECT_EQ(evaluation.to_json()["precision_at_1"], 0.0);
  EXPECT_EQ(evaluation.to_json()["by_frequency"]["frequent"]["precision_at_1"], 0.0);
  EXPECT_EQ(evaluation.to_json()["by_frequency"]["frequent"]["predictions"], 1);
}

}  // namespace
}  // namespace tagspace
