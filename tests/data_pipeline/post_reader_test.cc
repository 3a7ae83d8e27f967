#include <atomic>
#include <fstream>
#include <gtest/gtest.h>
#include <string>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "data_pipeline/posts.h"
#include "test_support.h"

namespace tagspace {
namespace {

using testing::contains;
using testing::error_of;
using testing::TemporaryFolder;
using Names = std::vector<std::string>;

std::vector<Post> read_all(const std::filesystem::path& path, ReadReport* report = nullptr) {
  PostReader reader(path, true);
  std::vector<Post> posts;
  for (Post post; reader.next(post);) posts.push_back(post);
  if (report != nullptr) *report = reader.report();
  return posts;
}

Names texts_of(const std::vector<Post>& posts) {
  Names texts;
  for (const Post& post : posts) texts.push_back(post.text);
  return texts;
}

struct Packing {
  const char* suffix;
  std::string (*pack)(std::string_view);
};

class Packings : public ::testing::TestWithParam<Packing> {
 protected:
  TemporaryFolder folder_;
};

TEST_P(Packings, TextIsReadLineByLine) {
  const auto path = folder_.file(std::string("posts.txt") + GetParam().suffix,
                                 GetParam().pack("First #One\nsecond #two #Three\n\nlast"));
  ReadReport report;
  const auto posts = read_all(path, &report);
  EXPECT_EQ(texts_of(posts), (Names{"first", "second", "", "last"}));
  EXPECT_EQ(posts.at(1).hashtags, (Names{"two", "three"}));
  EXPECT_EQ(report.lines, 4U);
  EXPECT_EQ(report.repaired_lines, 0U);
}

TEST_P(Packings, JsonLinesAreKnownByTheName) {
  const auto path = folder_.file(
      std::string("posts.jsonl") + GetParam().suffix,
      GetParam().pack("{\"text\": \"Hi #a\", \"hashtags\": [\"B\", \"#a\", \"1\"], \"user\": \"U1\"}\n"
                      "\n"
                      "{\"text\": \"x\\ny \\ud83d\\ude00\\u0000\", \"hashtags\": null, \"id\": 7}\r\n"));
  EXPECT_TRUE(is_json_lines(path));
  EXPECT_FALSE(is_json_lines(folder_.file(std::string("posts.jsonl.txt") + GetParam().suffix, "")));
  const auto posts = read_all(path);
  ASSERT_EQ(posts.size(), 3U);
  EXPECT_EQ(posts[0].text, "hi");
  EXPECT_EQ(posts[0].hashtags, (Names{"a", "b"}));
  EXPECT_EQ(posts[0].user, "U1");
  EXPECT_EQ(posts[1].text, "");
  EXPECT_EQ(posts[2].text, "x y 😀");
  EXPECT_EQ(posts[2].user, "");
}

TEST_P(Packings, LabelsAreHashtags) {
  const auto path = folder_.file(std::string("posts.txt") + GetParam().suffix,
                                 GetParam().pack("__label__Sauce __label__food-safety How much? #extra\n"
                                                 "middle __label__b text x__label__c __label__\n"));
  const auto posts = read_all(path);
  ASSERT_EQ(posts.size(), 2U);
  EXPECT_EQ(posts[0].hashtags, (Names{"sauce", "food_safety", "extra"}));
  EXPECT_EQ(posts[0].text, "how much?");
  EXPECT_EQ(posts[1].hashtags, (Names{"b"}));
  EXPECT_EQ(posts[1].text, "middle text x__label__c");
}

TEST_P(Packings, ManyLinesAndALongOneArriveWhole) {
  std::string file;
  std::string expected;
  for (int i = 0; i < 50000; ++i) file += "line " + std::to_string(i) + "\n";
  std::string long_line;
  long_line.resize(10000000, 'x');
  file += long_line + "\nend\n";
  const auto path = folder_.file(std::string("posts.txt") + GetParam().suffix, GetParam().pack(file));
  PostReader reader(path, true);
  std::string line;
  for (int i = 0; i < 50000; ++i) {
    ASSERT_TRUE(reader.next_line(line));
    ASSERT_EQ(line, "line " + std::to_string(i));
  }
  ASSERT_TRUE(reader.next_line(line));
  EXPECT_TRUE(line == long_line);
  ASSERT_TRUE(reader.next_line(line));
  EXPECT_EQ(line, "end");
  EXPECT_FALSE(reader.next_line(line));
  EXPECT_FALSE(reader.next_line(line));
}

TEST_P(Packings, AnEmptyFileHasNoPosts) {
  EXPECT_TRUE(
      read_all(folder_.file(std::string("posts.txt") + GetParam().suffix, GetParam().pack(""))).empty());
}

INSTANTIATE_TEST_SUITE_P(All, Packings,
                         ::testing::Values(Packing{"",
                                                   [](std::string_view text) { return std::string(text); }},
                                           Packing{".gz", testing::gzip}, Packing{".zst", testing::zstd}),
                         [](const auto& packing) {
                           const std::string suffix = packing.param.suffix;
                           return suffix.empty() ? std::string("plain") : suffix.substr(1);
                         });

class PostReaderTest : public ::testing::Test {
 protected:
  TemporaryFolder folder_;
};

TEST_F(PostReaderTest, LineEndsMayBeMixed) {
  const auto posts =
      read_all(folder_.file("a.txt", "\xEF\xBB\xBFone\r\ntwo\n\r\nthree \xEF\xBB\xBF\r\r\nfour\r"));
  EXPECT_EQ(texts_of(posts), (Names{"one", "two", "", "three", "four"}));
}

TEST_F(PostReaderTest, FilesPutEndToEndMayHaveMarksInside) {
  const std::string part = "\xEF\xBB\xBF{\"text\": \"a\"}\n";
  EXPECT_EQ(texts_of(read_all(folder_.file("a.jsonl", part + part))), (Names{"a", "a"}));
}

// The end of the compressed bytes is reached before the text of the last block was fetched.
TEST_F(PostReaderTest, ZstdBlocksMayHaveAnySize) {
  const std::string text(100000, 'x');
  std::string bytes(10000, '\0');
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_outBuffer out{bytes.data(), bytes.size(), 0};
  for (int block = 0; block < 3; ++block) {
    ZSTD_inBuffer in{text.data(), text.size(), 0};
    ASSERT_EQ(ZSTD_compressStream2(context, &out, &in, block < 2 ? ZSTD_e_flush : ZSTD_e_end), 0U);
  }
  ZSTD_freeCCtx(context);
  bytes.resize(out.pos);
  const auto posts = read_all(folder_.file("a.zst", bytes));
  ASSERT_EQ(posts.size(), 1U);
  EXPECT_EQ(posts[0].text.size(), 300000U);
}

TEST_F(PostReaderTest, CompressionIsKnownByTheBytesNotTheName) {
  EXPECT_EQ(texts_of(read_all(folder_.file("a.txt", testing::gzip("zipped\n")))), (Names{"zipped"}));
  EXPECT_EQ(texts_of(read_all(folder_.file("b.gz", "not zipped\n"))), (Names{"not zipped"}));
  EXPECT_EQ(texts_of(read_all(folder_.file("c", "(\n"))), (Names{"("}));
  EXPECT_EQ(texts_of(read_all(folder_.file("d", "("))), (Names{"("}));
}

TEST_F(PostReaderTest, FilesOfSeveralPartsAreReadToTheEnd) {
  const std::string zeros(1000, '\0');
  EXPECT_EQ(texts_of(read_all(folder_.file("a.gz", testing::gzip("a\nb") + testing::gzip("c\n") +
                                                       testing::gzip("") + testing::gzip("d") + zeros))),
            (Names{"a", "bc", "d"}));
  EXPECT_EQ(texts_of(read_all(
                folder_.file("a.zst", testing::zstd("a\nb") + testing::zstd("c\n") + testing::zstd("d")))),
            (Names{"a", "bc", "d"}));
}

TEST_F(PostReaderTest, DamagedCompressionIsAnErrorThatNamesTheFile) {
  std::string text;
  for (int i = 0; i < 20000; ++i) text += "post number " + std::to_string(i * 7919 % 10007) + "\n";
  for (auto* pack : {testing::gzip, testing::zstd}) {
    const std::string whole = pack(text);
    for (const std::size_t size : {whole.size() - 1, whole.size() / 2, std::size_t{12}, std::size_t{5}}) {
      const auto path = folder_.file("cut", whole.substr(0, size));
      const std::string error = error_of([&] { (void)read_all(path); });
      EXPECT_TRUE(contains(error, path.string()) && contains(error, "cut off")) << size << ": " << error;
    }
    std::string flipped = whole;
    flipped[whole.size() / 2] = static_cast<char>(flipped[whole.size() / 2] ^ 0x55);
    const auto path = folder_.file("flipped", flipped);
    // A flipped bit may leave a decodable stream of other text, which the checksum of gzip catches.
    const std::string error = error_of([&] { (void)read_all(path); });
    if (pack == testing::gzip) {
      EXPECT_TRUE(contains(error, path.string()) && contains(error, "damaged")) << error;
    }
    const auto garbage = folder_.file("garbage", whole + "garbage after it");
    EXPECT_TRUE(contains(error_of([&] { (void)read_all(garbage); }), "damaged"));
  }
}

TEST_F(PostReaderTest, BadJsonIsAnErrorThatNamesFileAndLine) {
  struct Case {
    const char* line;
    const char* message;
  };
  for (const Case& c : {Case{"not json", "not JSON"}, Case{"{\"text\": \"x\"", "not JSON"},
                        Case{"{\"text\": \"x\"} {}", "not JSON"}, Case{"[1]", "found an array"},
                        Case{"\"text\"", "found a string"}, Case{"null", "found null"},
                        Case{"{\"txt\": \"x\"}", "no \"text\""},
                        Case{"{\"text\": 5}", "\"text\" must be a string, found a number"},
                        Case{"{\"text\": null}", "\"text\" must be a string, found null"},
                        Case{"{\"text\": \"\", \"hashtags\": \"a\"}",
                             "\"hashtags\" must be an array of strings, found a string"},
                        Case{"{\"text\": \"\", \"hashtags\": [\"a\", 2]}",
                             "\"hashtags\" must be an array of strings, found a number in it"},
                        Case{"{\"text\": \"\", \"user\": 3}", "\"user\" must be a string, found a number"}}) {
    const auto path = folder_.file("p.jsonl", "{\"text\": \"fine\"}\n\n" + std::string(c.line) + "\n");
    const std::string error = error_of([&] { (void)read_all(path); });
    EXPECT_TRUE(contains(error, path.string() + ":3: ") && contains(error, c.message))
        << c.line << " → " << error;
  }
}

TEST_F(PostReaderTest, DeeplyNestedJsonIsReadOrRefused) {
  const auto path = folder_.file("p.jsonl", "{\"text\": \"x\", \"extra\": " + std::string(200000, '[') +
                                                std::string(200000, ']') + "}\n");
  EXPECT_EQ(read_all(path).size(), 1U);
  const auto open = folder_.file("q.jsonl", std::string(200000, '['));
  EXPECT_TRUE(contains(error_of([&] { (void)read_all(open); }), "not JSON"));
}

TEST_F(PostReaderTest, FilesThatCannotBeReadAreErrors) {
  const auto missing = folder_.path() / "missing.txt";
  EXPECT_TRUE(contains(error_of([&] { PostReader(missing, true); }), missing.string()));
  EXPECT_TRUE(contains(error_of([&] { PostReader(missing, true); }), "No such file"));
  EXPECT_TRUE(contains(error_of([&] { PostReader(folder_.path(), true); }), "Is a directory"));
  if (::geteuid() != 0) {  // root may read everything
    const auto secret = folder_.file("secret.txt", "x\n");
    ::chmod(secret.c_str(), 0);
    EXPECT_TRUE(contains(error_of([&] { PostReader(secret, true); }), "Permission denied"));
  }
}

TEST_F(PostReaderTest, InvalidUtf8IsRepairedAndCounted) {
  ReadReport report;
  const auto posts = read_all(folder_.file("a.txt", "ok\nbad \xFF\xFE #t\xC3\nfine é\n\xE6\x97\n"), &report);
  EXPECT_EQ(texts_of(posts), (Names{"ok", "bad \uFFFD\uFFFD \uFFFD", "fine é", "\uFFFD"}));
  EXPECT_EQ(posts.at(1).hashtags, (Names{"t"}));
  EXPECT_EQ(report.lines, 4U);
  EXPECT_EQ(report.repaired_lines, 2U);
}

TEST_F(PostReaderTest, NulIsASpace) {
  const auto posts = read_all(folder_.file("a.txt", std::string("a\0b #x\0y\n\0\n", 11)));
  EXPECT_EQ(texts_of(posts), (Names{"a b y", ""}));
  EXPECT_EQ(posts.at(0).hashtags, (Names{"x"}));
}

TEST_F(PostReaderTest, LinesAreThereWhenSomeoneSentThem) {
  const auto path = folder_.path() / "pipe";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  std::atomic<int> step = 0;
  std::jthread writer([&] {
    std::ofstream pipe(path);
    pipe << "first\nsecond\nthi" << std::flush;
    step = 1;
    while (step != 2) std::this_thread::yield();
    pipe << "rd\n";
    pipe.close();
    step = 3;
  });
  PostReader reader(path, true);
  while (step != 1) std::this_thread::yield();
  std::string line;
  EXPECT_TRUE(reader.line_ready());
  ASSERT_TRUE(reader.next_line(line));
  EXPECT_TRUE(reader.line_ready());
  ASSERT_TRUE(reader.next_line(line));
  EXPECT_EQ(line, "second");
  EXPECT_FALSE(reader.line_ready());  // half a line is none
  step = 2;
  while (step != 3) std::this_thread::yield();
  EXPECT_TRUE(reader.line_ready());
  ASSERT_TRUE(reader.next_line(line));
  EXPECT_EQ(line, "third");
  EXPECT_TRUE(reader.line_ready());  // the end
  EXPECT_FALSE(reader.next_line(line));
}

}  // namespace
}  // namespace tagspace
