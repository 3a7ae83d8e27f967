#include "data_pipeline/word_vectors.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <gtest/gtest.h>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "test_support.h"

namespace tagspace {
namespace {

using testing::contains;
using testing::error_of;
using testing::TemporaryFolder;
using Vectors = std::map<std::string, std::vector<float>>;

// A vocabulary of the words of a text.
std::unique_ptr<Tokenizer> vocabulary(const std::string& text, bool lowercase = true) {
  TokenizerConfig config;
  config.type = TokenizerType::word;
  config.min_count = 1;
  config.lowercase = lowercase;
  bool given = false;
  return Tokenizer::train(
      config,
      [&](std::vector<std::string>& block) {
        block = {text};
        return !std::exchange(given, true);
      },
      1);
}

// What was found, by the names of the tokens.
Vectors named(const WordVectors& found, const Tokenizer& tokenizer, std::uint32_t dim) {
  EXPECT_EQ(found.vectors.size(), found.tokens.size() * dim);
  EXPECT_TRUE(std::is_sorted(found.tokens.begin(), found.tokens.end()));
  Vectors result;
  for (std::size_t i = 0; i < found.tokens.size(); ++i) {
    const float* row = found.vectors.data() + i * dim;
    result[tokenizer.token(found.tokens[i])] = {row, row + dim};
  }
  return result;
}

template <typename T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}
template <typename T>
std::string bytes_of(T value) {
  return bytes_of(std::vector<T>{value});
}

class WordVectorsTest : public ::testing::Test {
 protected:
  Vectors read(const std::string& bytes, std::uint32_t dim = 2) {
    const auto path = folder.file("vectors", bytes);
    found = read_word_vectors(path, *words, dim, [] {});
    return named(found, *words, dim);
  }
  std::string error(const std::string& bytes, std::uint32_t dim = 2) {
    const auto path = folder.file("vectors", bytes);
    std::string message = error_of([&] { (void)read_word_vectors(path, *words, dim, [] {}); });
    EXPECT_TRUE(contains(message, "'" + path.string() + "' ")) << message;
    return message;
  }

  TemporaryFolder folder;
  std::unique_ptr<Tokenizer> words = vocabulary("sun moon größe don't <user> !");
  WordVectors found;
};

TEST_F(WordVectorsTest, OfText) {
  const Vectors expected = {
      {"sun", {1.5F, -2}}, {"größe", {0.25F, 1e-3F}}, {"!", {0, 3}}, {"<user>", {7, 8}}};
  const std::string lines = "sun 1.5 -2 \nrain 9 9\ngröße 0.25 1e-3\n! 0 +3\n<user> 7 8\n";
  EXPECT_EQ(read("5 2\n" + lines), expected);
  EXPECT_EQ(found.format, "word2vec text");
  EXPECT_EQ(found.words_in_file, 5U);
  EXPECT_EQ(read(lines), expected);
  EXPECT_EQ(found.format, "text without a header");
  std::string windows = "5 2\n" + lines;
  for (std::size_t at = 0; (at = windows.find('\n', at)) != std::string::npos; at += 2)
    windows.insert(at, "\r");
  EXPECT_EQ(read(windows), expected);
  EXPECT_EQ(read("5 2\n" + lines.substr(0, lines.size() - 1)), expected);  // no newline at the end
  EXPECT_EQ(read(testing::gzip("5 2\n" + lines)), expected);
  EXPECT_EQ(read(testing::zstd(lines)), expected);
  // Words with spaces in them, none at all, and one that is a number.
  EXPECT_EQ(read(". . . 1 2\n 3 4\n12 5 6\nmoon 7 8\n"), (Vectors{{"moon", {7, 8}}}));
  EXPECT_EQ(found.words_in_file, 4U);
  // Too small for a float, not wrong.
  EXPECT_EQ(read("sun 1e-60 0.000000000000000000000000000000000000000000000000000001\n"),
            (Vectors{{"sun", {0, 0}}}));
}

TEST_F(WordVectorsTest, OfTheWordAsItIsElseAsItIsCleaned) {
  EXPECT_EQ(read("4 2\nSUN 1 1\nSun 2 2\nsun 3 3\nsun 4 4\n"), (Vectors{{"sun", {3, 3}}}));
  EXPECT_EQ(read("4 2\nsun 3 3\nSUN 1 1\nMOON 5 5\nMoon 6 6\n"),
            (Vectors{{"sun", {3, 3}}, {"moon", {5, 5}}}));
  // NFKC: o and a combining diaeresis, full-width letters; a mention.
  EXPECT_EQ(read("gro\u0308ße 1 2\nｓｕｎ 3 4\n@someone 5 6\n"),
            (Vectors{{"größe", {1, 2}}, {"sun", {3, 4}}, {"<user>", {5, 6}}}));
  words = vocabulary("Sun moon", false);
  EXPECT_EQ(read("SUN 1 1\nsun 2 2\nmoon 3 3\n"), (Vectors{{"moon", {3, 3}}}));
}

TEST_F(WordVectorsTest, OfWord2VecsBinary) {
  const Vectors expected = {{"sun", {1.5F, -2}}, {"größe", {0.25F, 1e-3F}}};
  for (const char* end : {"", "\n"}) {  // gensim's and word2vec's
    std::string bytes = "3 2\n";
    for (const auto& [word, vector] : expected) bytes += word + ' ' + bytes_of(vector) + end;
    bytes += "rain " + bytes_of(std::vector<float>{0, 0});
    EXPECT_EQ(read(bytes), expected);
    EXPECT_EQ(found.format, "word2vec binary");
    EXPECT_EQ(read(testing::gzip(bytes)), expected);
  }
}

// A fastText model: each row of its matrix holds numbers of its own.
struct FastTextFile {
  std::int32_t version = 12;
  std::int32_t model = 2;
  std::int32_t buckets = 1000;
  std::int32_t shortest = 3;
  std::int32_t longest = 6;
  std::vector<std::string> words = {"sun", "größe", "</s>"};
  std::vector<std::string> labels = {"__label__x"};
  std::int64_t pruned = -1;
  bool quantized = false;
  std::int32_t dim = 2;
  std::int64_t rows = -1;

  [[nodiscard]] static std::vector<float> row(std::uint64_t number) {
    return {static_cast<float>(number), 1 / static_cast<float>(1 + number)};
  }
  [[nodiscard]] std::string bytes() const {
    const auto count = static_cast<std::int32_t>(words.size());
    std::string result = bytes_of(std::vector<std::int32_t>{793712314, version, dim, 5, 5, 1, 5, 1, 1, model,
                                                            buckets, shortest, longest, 100}) +
                         bytes_of(1e-4);
    result += bytes_of(std::vector<std::int32_t>{count + static_cast<std::int32_t>(labels.size()), count,
                                                 static_cast<std::int32_t>(labels.size())});
    result += bytes_of(std::vector<std::int64_t>{99, pruned});
    const auto add = [&](const std::string& word, char kind) {
      result += word + '\0' + bytes_of(std::int64_t{7}) + kind;
    };
    for (const auto& word : words) add(word, 0);
    for (const auto& label : labels) add(label, 1);
    result += quantized ? '\1' : '\0';
    const std::int64_t all = rows < 0 ? count + buckets : rows;
    result += bytes_of(std::vector<std::int64_t>{all, dim});
    for (std::int64_t i = 0; i < all; ++i) result += bytes_of(row(static_cast<std::uint64_t>(i)));
    return result + "the output matrix, which nobody reads";
  }
};

// The mean of the model's rows.
std::vector<float> mean_of(std::initializer_list<std::uint64_t> rows) {
  std::vector<double> sum(2);
  for (const auto row : rows) {
    for (std::size_t i = 0; i < 2; ++i) sum[i] += FastTextFile::row(row)[i];
  }
  return {static_cast<float>(sum[0] / static_cast<double>(rows.size())),
          static_cast<float>(sum[1] / static_cast<double>(rows.size()))};
}

void expect_near(const std::vector<float>& found, const std::vector<float>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_TRUE(std::abs(found[i] - expected[i]) <= 1e-6F * (1 + std::abs(expected[i])))
        << found[i] << " " << expected[i];
  }
}

TEST_F(WordVectorsTest, OfFastTextsModelAreMeansOverNGrams) {
  words = vocabulary("sun größe unknown </s>");
  const FastTextFile file;
  Vectors vectors = read(file.bytes());
  EXPECT_EQ(vectors.size(), 2U);
  EXPECT_EQ(found.format, "fastText .bin");
  EXPECT_EQ(found.words_in_file, 3U);
  // Where fastText 0.9.2 puts the n-grams of 3 to 6 letters of "<größe>" among 1,000, after the
  // words.
  constexpr std::uint64_t k = 3;
  expect_near(vectors["größe"], mean_of({1, k + 866, k + 807, k + 953, k + 140, k + 985, k + 915, k + 898,
                                         k + 364, k + 38, k + 137, k + 861, k + 321, k + 149, k + 512}));
  EXPECT_EQ(read(testing::gzip(file.bytes())), vectors);
}

TEST_F(WordVectorsTest, OfFastTextsModelWithoutNGramsAreRows) {
  FastTextFile file;
  file.buckets = 0;
  file.longest = 0;
  EXPECT_EQ(read(file.bytes()), (Vectors{{"sun", FastTextFile::row(0)}, {"größe", FastTextFile::row(1)}}));
  // An older supervised model has pairs of words in its buckets, and no n-grams whatever it says.
  file = {};
  file.version = 11;
  file.model = 3;
  EXPECT_EQ(read(file.bytes()), (Vectors{{"sun", FastTextFile::row(0)}, {"größe", FastTextFile::row(1)}}));
}

TEST_F(WordVectorsTest, ThatCannotBeUsedAreErrors) {
  EXPECT_TRUE(contains(error(""), "is empty"));
  EXPECT_TRUE(contains(error(testing::gzip("")), "is empty"));
  EXPECT_TRUE(contains(error("3 300\nsun 1 2\n"), "has vectors of 300 numbers, and encoder.dim is 2"));
  EXPECT_TRUE(contains(error("sun 1 2 3\n"), "has vectors of 3 numbers, and encoder.dim is 2"));
  EXPECT_TRUE(contains(error("sun 1\n"), "has vectors of 1 number, and encoder.dim is 2"));
  EXPECT_TRUE(contains(error("Sunshine on a rainy day\n"), "is no file of word vectors"));
  EXPECT_TRUE(contains(error(std::string(3'000'000, 'x')), "is no file of word vectors"));
  EXPECT_TRUE(
      contains(error("2 2\nrain 1 2\nsnow 1 2\n"), "has none of the 6 words of the vocabulary among its 2"));
  // Texts.
  EXPECT_TRUE(contains(error("3 2\nsun 1 2\nrain 1 2\n"), "its first line promises 3 words, and it has 2"));
  EXPECT_TRUE(contains(error("1 2\nsun 1 2\nrain 1 2\n"), "its first line promises 1 word, and it has 2"));
  EXPECT_TRUE(contains(error("2 2\nsun 1 2\nmoon 3"), "line 3 has 1 number after its word, and not 2"));
  EXPECT_TRUE(contains(error("2 2\nsun 1 2\n\n"), "line 3 has 0 numbers after its word, and not 2"));
  EXPECT_TRUE(contains(error("2 2\nrain 1 2 3\nsun 1 2\n"), "line 2 has more than 2 numbers after its word"));
  EXPECT_TRUE(contains(error("2 2\nrain 1 2\nsun 1 2o\n"), "line 3 has \"2o\", which is no number"));
  EXPECT_TRUE(contains(error("sun nan 2\n"), "line 1 has \"nan\", which is no finite number"));
  EXPECT_TRUE(contains(error("sun 1 -inf\n"), "line 1 has \"-inf\", which is no finite number"));
  EXPECT_TRUE(contains(error("sun 1 1e39\n"), "line 1 has \"1e39\", which is no finite number"));
  EXPECT_TRUE(contains(error("sun 1 1e999\n"), "line 1 has \"1e999\", which is no finite number"));
  EXPECT_TRUE(
      contains(error("2 2\nsun 1 2\n" + std::string(2'000'000, 'x')), "line 3 is longer than 1048576 bytes"));
  // word2vec's binary.
  const std::string sun = "sun " + bytes_of(std::vector<float>{1, 2});
  const std::string moon = "moon " + bytes_of(std::vector<float>{3, 4});
  EXPECT_TRUE(contains(error("3 2\n" + sun + moon), "it ends before, word 3 of the 3"));
  EXPECT_TRUE(contains(error("2 2\n" + sun + "moon"), "no space ends, word 2 of the 2"));
  EXPECT_TRUE(contains(error("2 2\n" + sun + moon.substr(0, 10)), "it ends within, word 2 of the 2"));
  EXPECT_TRUE(
      contains(error("1 2\n" + sun + moon), "it goes on after the 1 word that its first line promises"));
  EXPECT_TRUE(contains(error("2 2\n" + sun + std::string(1'000'000, 'x')), "no space ends, word 2 of the 2"));
  EXPECT_TRUE(
      contains(error("1 2\nsun " + bytes_of(std::vector<float>{1, std::numeric_limits<float>::quiet_NaN()})),
               "the vector of \"sun\" has a number that is not finite"));
  // fastText's.
  const auto damaged = [&](const auto& change) {
    FastTextFile file;
    change(file);
    return error(file.bytes());
  };
  EXPECT_TRUE(contains(damaged([](auto& file) { file.quantized = true; }), "is a quantized fastText model"));
  EXPECT_TRUE(contains(damaged([](auto& file) { file.pruned = 0; }), "is a quantized fastText model"));
  EXPECT_TRUE(contains(damaged([](auto& file) { file.version = 13; }),
                       "fastText model of format 13; allowed are 11 and 12"));
  EXPECT_TRUE(
      contains(damaged([](auto& file) { file.dim = 3; }), "has vectors of 3 numbers, and encoder.dim is 2"));
  EXPECT_TRUE(contains(damaged([](auto& file) { file.rows = 17; }),
                       "its matrix is 17 x 2, and should be 3 + 1000 x 2"));
  EXPECT_TRUE(contains(damaged([](auto& file) { file.buckets = -5; }), "its bucket -5"));
  EXPECT_TRUE(contains(damaged([](auto& file) { file.words[0] = std::string(100'000, 'x'); }),
                       "a word of more than 65536 bytes"));
}

// However a file is cut off or damaged, there is a message or there are finite vectors, and never anything
// else.
TEST_F(WordVectorsTest, DamagedAnywhere) {
  const FastTextFile model;
  const std::string text = "4 2\nsun 1.5 -2\nmoon 9 9\ngröße 0.25 1e-3\n! 0 3\n";
  const std::string binary = "2 2\nsun " + bytes_of(std::vector<float>{1.5F, -2}) + "\nmoon " +
                             bytes_of(std::vector<float>{3, 4}) + "\n";
  const std::uint64_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (const std::string& whole : {text, text.substr(4), binary, model.bytes().substr(0, 8300)}) {
    std::size_t messages = 0;
    for (int round = 0; round < 400; ++round) {
      std::string bytes = whole;
      if (round % 2 == 0) bytes.resize(random() % whole.size());
      for (std::uint64_t change = random() % 4; change > 0 && !bytes.empty(); --change) {
        // Half of them in the first bytes, where what all others mean is said.
        const std::size_t reach = random() % 2 == 0 ? std::min<std::size_t>(bytes.size(), 150) : bytes.size();
        bytes[random() % reach] = static_cast<char>(random());
      }
      const auto path = folder.file("damaged", bytes);
      const std::string message = error_of([&] {
        const WordVectors vectors = read_word_vectors(path, *words, 2, [] {});
        EXPECT_FALSE(vectors.tokens.empty());
        for (const float value : vectors.vectors) EXPECT_TRUE(std::isfinite(value));
      });
      messages += message.empty() ? 0 : 1;
    }
    EXPECT_GT(messages, 50U);
  }
}

TEST_F(WordVectorsTest, ReadingCanBeStopped) {
  struct Stopped {};
  std::string bytes;
  for (int i = 0; i < 200'000; ++i) bytes += "word" + std::to_string(i) + " 0.25 0.5\n";
  const auto path = folder.file("long", bytes);
  int polls = 0;
  const auto third = [&] {
    if (++polls == 3) throw Stopped{};
  };
  EXPECT_THROW((void)read_word_vectors(path, *words, 2, third), Stopped);
}

}  // namespace
}  // namespace tagspace
