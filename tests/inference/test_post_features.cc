#include <algorithm>
#include <filesystem>
#include <gtest/gtest.h>
#include <map>
#include <random>
#include <set>
#include <unistd.h>

#include "base/error.h"
#include "base/files.h"
#include "model/checkpoint.h"
#include "model/lexical/post_features.h"
#include "tests/inference/posts_in_memory.h"

namespace tagspace {
namespace {

PackedBatch batch_of(const std::vector<Tokens>& posts) {
  PackedBatch batch;
  for (const Tokens& tokens : posts) {
    batch.tokens.insert(batch.tokens.end(), tokens.begin(), tokens.end());
    batch.hashtags.push_back(7);
    batch.end_post();
  }
  return batch;
}

// The rows of one post.
Tokens rows_of(const PostFeatures& features, const Tokens& tokens) {
  Tokens rows;
  features.expand(tokens, rows);
  return rows;
}

TEST(PostFeatures, PairsAndBeginningsByHand) {
  const std::vector<std::string> texts = {"new", "yorker", "yorkshire", "the"};
  const std::vector<Tokens> posts = {{0, 1}, {0, 1, 0}, {3, 2}};
  // "new yorker", "york", "yorke" and "yorker"; "yorker new", "the yorkshire", "yorks" and "yorksh" are in
  // one post.
  const auto features = PostFeatures::count(texts, {true, true}, PostsInMemory{posts, {}}.posts(), 2);
  EXPECT_EQ(features.rows(), 4U + 1 + 3);
  const Tokens rows = rows_of(features, {0, 1});
  ASSERT_EQ(rows.size(), 2U + 1 + 3);
  EXPECT_EQ(rows[0], 0U);
  EXPECT_EQ(rows[1], 1U);
  EXPECT_EQ((std::set<std::uint32_t>(rows.begin() + 2, rows.end())), (std::set<std::uint32_t>{4, 5, 6, 7}));
  // "york" is all that the two have in common.
  const Tokens other = rows_of(features, {2});
  ASSERT_EQ(other.size(), 2U);
  EXPECT_EQ(other[0], 2U);
  EXPECT_EQ(std::count(rows.begin(), rows.end(), other[1]), 1);
  EXPECT_EQ(rows_of(features, {1, 0}).size(), 2U + 3);  // no pair
  EXPECT_EQ(rows_of(features, {}), Tokens{});

  EXPECT_EQ(PostFeatures::count(texts, {true, false}, PostsInMemory{posts, {}}.posts(), 1).rows(), 4U + 3);
  EXPECT_EQ(PostFeatures::count(texts, {false, true}, PostsInMemory{posts, {}}.posts(), 1).rows(), 4U + 5);
  EXPECT_EQ(PostFeatures::count(texts, {true, true}, PostsInMemory{posts, {}}.posts(), 4).rows(), 4U);
}

// Against dictionaries of texts, over random posts.
TEST(PostFeatures, EqualDictionariesOfTexts) {
  for (const std::uint64_t seed : {1U, 2U, 3U}) {
    std::mt19937_64 random(seed);
    std::vector<std::string> texts;
    for (int i = 0; i < 400; ++i) {
      std::string text;
      for (std::uint64_t letters = 1 + random() % 8; letters > 0; --letters) {
        text += random() % 9 == 0 ? "ß" : std::string(1, static_cast<char>('a' + random() % 3));
      }
      texts.push_back(text);
    }
    std::vector<Tokens> posts(700);
    for (Tokens& tokens : posts) {
      for (std::uint64_t t = random() % 14; t > 0; --t)
        tokens.push_back(static_cast<std::uint32_t>(random() % texts.size() * (random() % 100) / 100));
    }
    const auto texts_of = [&](const Tokens& tokens) {
      std::vector<std::string> all;
      for (std::size_t i = 0; i < tokens.size(); ++i) {
        if (i > 0) all.push_back(std::to_string(tokens[i - 1]) + " " + std::to_string(tokens[i]));
        const std::string& text = texts[tokens[i]];
        for (const std::size_t length : {4U, 5U, 6U}) {
          std::size_t at = 0;
          std::size_t letters = 0;
          for (; at < text.size() && letters < length; ++letters)
            at += text[at] == 'a' || text[at] == 'b' || text[at] == 'c' ? 1 : 2;
          if (letters == length) all.push_back(std::to_string(length) + text.substr(0, at));
        }
      }
      return all;
    };
    std::map<std::string, std::uint32_t> counts;
    for (const Tokens& tokens : posts) {
      const auto all = texts_of(tokens);
      for (const std::string& text : std::set<std::string>(all.begin(), all.end())) ++counts[text];
    }
    for (const std::uint32_t min_posts : {1U, 2U, 5U}) {
      const auto features =
          PostFeatures::count(texts, {true, true}, PostsInMemory{posts, {}}.posts(), min_posts);
      const auto kept = std::count_if(counts.begin(), counts.end(),
                                      [&](const auto& count) { return count.second >= min_posts; });
      EXPECT_EQ(features.rows(), texts.size() + static_cast<std::size_t>(kept));
      std::map<std::string, std::uint32_t> row_of;  // each text has one row, and no two the same
      std::set<std::uint32_t> rows_seen;
      PackedBatch batch = batch_of(posts);
      features.expand(batch);
      ASSERT_EQ(batch.posts(), posts.size());
      EXPECT_EQ(batch.hashtags, batch_of(posts).hashtags);
      for (std::size_t post = 0; post < posts.size(); ++post) {
        const Tokens rows(batch.tokens.begin() + batch.token_offsets[post],
                          batch.tokens.begin() + batch.token_offsets[post + 1]);
        EXPECT_EQ(rows, rows_of(features, posts[post]));
        Tokens tokens;
        std::vector<std::uint32_t> extra;
        for (const std::uint32_t row : rows) (row < texts.size() ? tokens : extra).push_back(row);
        EXPECT_EQ(tokens, posts[post]);
        std::vector<std::string> expected;
        for (const std::string& text : texts_of(posts[post])) {
          if (counts[text] >= min_posts) expected.push_back(text);
        }
        ASSERT_EQ(extra.size(), expected.size());
        for (std::size_t i = 0; i < extra.size(); ++i) {
          const auto [found, is_new] = row_of.emplace(expected[i], extra[i]);
          EXPECT_EQ(found->second, extra[i]) << expected[i];
          EXPECT_EQ(rows_seen.insert(extra[i]).second, is_new) << expected[i];
        }
      }
    }
  }
}

TEST(PostFeatures, AreTheSameFromTheirFile) {
  const auto folder = std::filesystem::path(testing::TempDir()) / ("features-" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  const std::vector<std::string> texts = {"alpha", "beta", "gamma"};
  const std::vector<Tokens> posts = {{0, 1, 2}, {2, 1}};
  for (const auto kinds : {PostFeatures::Kinds{true, true}, {true, false}, {false, true}}) {
    for (const std::uint32_t min_posts : {1U, 9U}) {  // 9: there are none
      const auto features = PostFeatures::count(texts, kinds, PostsInMemory{posts, {}}.posts(), min_posts);
      features.save(folder / "features.safetensors");
      const auto loaded = PostFeatures::load(folder / "features.safetensors", texts, kinds);
      EXPECT_EQ(loaded.rows(), features.rows());
      for (const Tokens& tokens : posts) EXPECT_EQ(rows_of(loaded, tokens), rows_of(features, tokens));
    }
  }
  const auto error_of = [&](const std::filesystem::path& path) -> std::string {
    try {
      (void)PostFeatures::load(path, texts, {true, true});
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(error_of(folder / "none").find("none"), std::string::npos);
  const std::vector<std::uint32_t> wrong = {9, 9, 1, 1};
  const std::vector<NamedArray> unordered = {{"features", {2, 2}, nullptr, wrong.data()}};
  write_checkpoint(folder / "unordered", unordered, "");
  EXPECT_NE(error_of(folder / "unordered").find("not in order"), std::string::npos);
  const std::vector<NamedArray> other = {{"words", {4}, nullptr, wrong.data()}};
  write_checkpoint(folder / "other", other, "");
  EXPECT_NE(error_of(folder / "other").find("holds no features"), std::string::npos);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace tagspace
