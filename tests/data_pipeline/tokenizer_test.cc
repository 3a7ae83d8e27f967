#include "data_pipeline/tokenizer.h"

#include <atomic>
#include <gtest/gtest.h>
#include <string>
#include <thread>
#include <vector>

#include "test_support.h"

namespace tagspace {
namespace {

using testing::contains;
using testing::error_of;
using testing::TemporaryFolder;
using Texts = std::vector<std::string>;

// Yields the texts in blocks of a few, safely from many threads.
std::function<bool(Texts&)> blocks_of(Texts texts) {
  auto at = std::make_shared<std::atomic<std::size_t>>(0);
  return [texts = std::move(texts), at](Texts& block) {
    const std::size_t begin = at->fetch_add(7);
    if (begin >= texts.size()) return false;
    block.assign(texts.begin() + static_cast<std::ptrdiff_t>(begin),
                 texts.begin() + static_cast<std::ptrdiff_t>(std::min(begin + 7, texts.size())));
    return true;
  };
}

// A few thousand different texts with words of very different frequency.
Texts some_texts(int count) {
  const char* stems[] = {"bake",  "bread", "walk",  "river", "paint",
                         "green", "stone", "cloud", "sing",  "market"};
  const char* ends[] = {"", "s", "ing", "ed", "er", "ful"};
  Texts texts;
  std::uint32_t state = 7;
  for (int i = 0; i < count; ++i) {
    std::string text;
    for (int j = 0; j < 8; ++j) {
      state = state * 1664525U + 1013904223U;
      const std::uint32_t a = (state >> 10U) % 10;
      const std::uint32_t b = (state >> 20U) % 6;
      if (j > 0) text += ' ';
      text += stems[a * a / 10];
      text += ends[b];
    }
    texts.push_back(text + (i % 5 == 0 ? " <url>" : "") + (i % 7 == 0 ? " <user> 😀!" : ""));
  }
  return texts;
}

std::vector<std::uint32_t> encode(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<std::uint32_t> ids;
  tokenizer.encode(text, ids);
  return ids;
}

Texts tokens(const Tokenizer& tokenizer, std::string_view text) {
  Texts result;
  for (const std::uint32_t id : encode(tokenizer, text)) result.push_back(tokenizer.token(id));
  return result;
}

TokenizerConfig word_config() {
  return {.type = TokenizerType::word, .vocab_size = 100, .min_count = 2, .model = {}};
}
TokenizerConfig sentencepiece_config(std::uint32_t vocab_size) {
  return {.type = TokenizerType::sentencepiece, .vocab_size = vocab_size, .model = {}};
}

TEST(WordTokenizer, RanksWordsByCountThenBytes) {
  const auto tokenizer =
      Tokenizer::train(word_config(), blocks_of({"b a c b", "a b d", "c <url> <url> e"}), 1);
  ASSERT_EQ(tokenizer->vocab_size(), 4U);
  EXPECT_EQ(tokenizer->token(0), "b");  // 3
  EXPECT_EQ(tokenizer->token(1), "<url>");
  EXPECT_EQ(tokenizer->token(2), "a");
  EXPECT_EQ(tokenizer->token(3), "c");
  EXPECT_EQ(tokenizer->id("c"), 3U);
  EXPECT_EQ(tokenizer->id("d"), 4U);  // once only
  EXPECT_EQ(encode(*tokenizer, "d c, x b <url>"), (std::vector<std::uint32_t>{3, 0, 1}));
}

TEST(WordTokenizer, KeepsTheMostFrequent) {
  TokenizerConfig config = word_config();
  config.vocab_size = 2;
  config.min_count = 1;
  const auto tokenizer = Tokenizer::train(config, blocks_of({"z y x", "z y", "z", "a"}), 1);
  ASSERT_EQ(tokenizer->vocab_size(), 2U);
  EXPECT_EQ(tokenizer->token(0), "z");
  EXPECT_EQ(tokenizer->token(1), "y");
}

TEST(WordTokenizer, AppendsAtMostMaxTokens) {
  TokenizerConfig config = word_config();
  config.max_tokens = 3;
  const auto tokenizer = Tokenizer::train(config, blocks_of({"a b", "a b"}), 1);
  std::vector<std::uint32_t> ids = {9};
  tokenizer->encode("x a x b a b a", ids);  // unknown words do not count
  EXPECT_EQ(ids, (std::vector<std::uint32_t>{9, 0, 1, 0}));
}

TEST(WordTokenizer, SaysWhenThereAreNoWords) {
  EXPECT_TRUE(contains(error_of([] {
                         (void)Tokenizer::train(word_config(), blocks_of({"a", "b"}), 1);
                       }),
                       "min_count = 2"));
}

TEST(SentencePieceTokenizer, LearnsPiecesAndPlaceholders) {
  const auto tokenizer = Tokenizer::train(sentencepiece_config(120), blocks_of(some_texts(2000)), 2);
  EXPECT_LE(tokenizer->vocab_size(), 120U);
  EXPECT_GT(tokenizer->vocab_size(), 50U);
  EXPECT_EQ(tokens(*tokenizer, "bread <url> <user>"), (Texts{"▁bread", "<url>", "<user>"}));
  EXPECT_EQ(tokenizer->token(tokenizer->id("<url>")), "<url>");
  EXPECT_EQ(tokenizer->id("no such piece"), tokenizer->vocab_size());
  std::string joined;  // without word boundaries, which may be pieces of their own and are left out then
  for (const std::string& token : tokens(*tokenizer, "greener stones")) {
    joined += token.starts_with("▁") ? token.substr(3) : token;
  }
  EXPECT_EQ(joined, "greenerstones");
}

TEST(SentencePieceTokenizer, LeavesOutWhatIsUnknown) {
  const auto tokenizer = Tokenizer::train(sentencepiece_config(120), blocks_of(some_texts(2000)), 2);
  EXPECT_EQ(tokens(*tokenizer, "漢字 bread 漢"), (Texts{"▁bread"}));
  EXPECT_TRUE(encode(*tokenizer, "漢字").empty());
  EXPECT_TRUE(encode(*tokenizer, "").empty());
}

TEST(SentencePieceTokenizer, AppendsAtMostMaxTokens) {
  TokenizerConfig config = sentencepiece_config(120);
  config.max_tokens = 5;
  const auto tokenizer = Tokenizer::train(config, blocks_of(some_texts(2000)), 2);
  std::string text;
  for (int i = 0; i < 100000; ++i) text += "bread é ";
  EXPECT_EQ(encode(*tokenizer, text).size(), 5U);
}

TEST(SentencePieceTokenizer, TrainsOnLittleText) {
  for (const Texts& texts : {Texts{"one small post", "another post", "<user> third 日本 😀"}, Texts{"a"},
                             Texts{"ab"}, Texts{"aaaa aaaa"}, Texts{"😀"}, Texts{"", "x y", ""}}) {
    const auto tokenizer = Tokenizer::train(sentencepiece_config(16000), blocks_of(texts), 1);
    EXPECT_GE(tokenizer->vocab_size(), 3U);
    EXPECT_FALSE(encode(*tokenizer, texts.size() == 3 && texts[0].empty() ? texts[1] : texts[0]).empty())
        << texts[0];
  }
}

TEST(SentencePieceTokenizer, SaysWhenThereIsNoText) {
  for (const Texts& texts : {Texts{}, Texts{""}, Texts{"<url>", "<user> <url>"}}) {
    EXPECT_TRUE(
        contains(error_of([&] { (void)Tokenizer::train(sentencepiece_config(100), blocks_of(texts), 1); }),
                 "no text"));
  }
}

TEST(SentencePieceTokenizer, SaysWhenTheVocabularyIsTooSmall) {
  const std::string error =
      error_of([] { (void)Tokenizer::train(sentencepiece_config(8), blocks_of(some_texts(100)), 1); });
  EXPECT_TRUE(contains(error, "vocab_size = 8")) << error;
}

TEST(SentencePieceTokenizer, StandsOddText) {
  Texts texts = some_texts(300);
  texts.push_back(std::string(100000, 'x'));
  texts.push_back("▁ ▅ ⁇ \uFFFD " + std::string(10000, '!'));
  std::string cjk;
  for (int i = 0; i < 5000; ++i) cjk += "語";
  texts.push_back(cjk);
  const auto tokenizer = Tokenizer::train(sentencepiece_config(200), blocks_of(texts), 2);
  for (const std::string& text : texts) (void)encode(*tokenizer, text);
  EXPECT_FALSE(encode(*tokenizer, "bread").empty());
}

TEST(SentencePieceTokenizer, WritesNothingToStderr) {
  ::testing::internal::CaptureStderr();
  const auto tokenizer = Tokenizer::train(sentencepiece_config(100), blocks_of(some_texts(200)), 1);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

TEST(SentencePieceTokenizer, TakesAGivenModel) {
  const TemporaryFolder folder;
  Tokenizer::train(sentencepiece_config(120), blocks_of(some_texts(2000)), 1)->save(folder.path());
  TokenizerConfig config = sentencepiece_config(5);
  config.model = folder.path() / "sentencepiece.model";
  const auto never = [](Texts&) -> bool { throw std::logic_error("not to be called"); };
  const auto tokenizer = Tokenizer::train(config, never, 4);
  EXPECT_EQ(tokens(*tokenizer, "bread <url>"), (Texts{"▁bread", "<url>"}));

  const std::string model = read_file(config.model);
  config.model = folder.path() / "missing.model";
  EXPECT_TRUE(contains(error_of([&] { (void)Tokenizer::train(config, never, 1); }), "missing.model"));
  for (const std::string& bytes :
       {std::string(), std::string("hello"), model.substr(0, model.size() / 2), std::string(500, '\xFF')}) {
    config.model = folder.file("bad.model", bytes);
    const std::string error = error_of([&] { (void)Tokenizer::train(config, never, 1); });
    EXPECT_TRUE(contains(error, "bad.model") && contains(error, "not a sentencepiece model")) << error;
  }
}

class BothTokenizers : public ::testing::TestWithParam<TokenizerType> {
 protected:
  static TokenizerConfig config() {
    return {.type = GetParam(),
            .vocab_size = 90,
            .min_count = 2,
            .lowercase = false,
            .max_tokens = 77,
            .model = {}};
  }
  static std::string files(const TemporaryFolder& folder) {
    std::string all;
    for (const std::string& name : folder.list()) all += name + "\n" + read_file(folder.path() / name);
    return all;
  }
};

TEST_P(BothTokenizers, SaveAndLoadKeepEverything) {
  const TemporaryFolder folder;
  const auto tokenizer = Tokenizer::train(config(), blocks_of(some_texts(1000)), 2);
  tokenizer->save(folder.path());
  const auto loaded = Tokenizer::load(folder.path());
  ASSERT_EQ(loaded->vocab_size(), tokenizer->vocab_size());
  for (std::uint32_t id = 0; id < loaded->vocab_size(); ++id) {
    EXPECT_EQ(loaded->token(id), tokenizer->token(id));
    EXPECT_EQ(loaded->id(loaded->token(id)), id);
  }
  for (const std::string& text : some_texts(50)) EXPECT_EQ(encode(*loaded, text), encode(*tokenizer, text));
  EXPECT_EQ(loaded->config().type, GetParam());
  EXPECT_FALSE(loaded->config().lowercase);
  EXPECT_EQ(loaded->config().max_tokens, 77U);
  const TemporaryFolder second;
  loaded->save(second.path());
  EXPECT_EQ(files(second), files(folder));
}

TEST_P(BothTokenizers, DependOnTheTextsAlone) {
  Texts texts = some_texts(1000);
  std::string expected;
  for (const std::uint32_t threads : {1U, 2U, 3U, 7U}) {
    const TemporaryFolder folder;
    Tokenizer::train(config(), blocks_of(texts), threads)->save(folder.path());
    if (expected.empty()) expected = files(folder);
    EXPECT_EQ(files(folder), expected) << threads << " threads";
    std::reverse(texts.begin(), texts.end());
  }
}

TEST_P(BothTokenizers, EncodeOnManyThreads) {
  const auto tokenizer = Tokenizer::train(config(), blocks_of(some_texts(500)), 2);
  const Texts texts = some_texts(200);
  std::vector<std::vector<std::uint32_t>> expected;
  for (const std::string& text : texts) expected.push_back(encode(*tokenizer, text));
  std::atomic<int> wrong = 0;
  {
    std::vector<std::jthread> threads;
    threads.reserve(4);
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (std::size_t i = 0; i < texts.size(); ++i)
          wrong += encode(*tokenizer, texts[i]) != expected[i] ? 1 : 0;
      });
    }
  }
  EXPECT_EQ(wrong, 0);
}

TEST_P(BothTokenizers, DamagedFilesAreErrorsThatNameThem) {
  const TemporaryFolder folder;
  Tokenizer::train(config(), blocks_of(some_texts(500)), 2)->save(folder.path());
  const auto json = folder.path() / "tokenizer.json";
  const std::string good = read_file(json);
  const auto error_with = [&](const std::string& text) {
    write_file(json, text);
    return error_of([&] { (void)Tokenizer::load(folder.path()); });
  };
  EXPECT_TRUE(contains(error_with("{"), json.string()));
  EXPECT_TRUE(contains(error_with("{}"), json.string()));
  EXPECT_TRUE(contains(error_with(R"({"version": 99})"), "newer"));
  EXPECT_TRUE(contains(error_with(R"({"version": 1, "type": "letters"})"), "letters"));
  EXPECT_EQ(error_with(good), "");
  std::filesystem::remove(json);
  EXPECT_TRUE(contains(error_of([&] { (void)Tokenizer::load(folder.path()); }), json.string()));
  write_file(json, good);
  const auto vocabulary =
      folder.path() / (GetParam() == TokenizerType::word ? "words.tsv" : "sentencepiece.model");
  write_file(vocabulary, read_file(vocabulary).substr(0, 100));
  EXPECT_TRUE(contains(error_of([&] { (void)Tokenizer::load(folder.path()); }), vocabulary.string()));
}

INSTANTIATE_TEST_SUITE_P(Types, BothTokenizers,
                         ::testing::Values(TokenizerType::word, TokenizerType::sentencepiece),
                         [](const auto& type) {
                           return type.param == TokenizerType::word ? "word" : "sentencepiece";
                         });

}  // namespace
}  // namespace tagspace
