#include <filesystem>
#include <gtest/gtest.h>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "base/error.h"
#include "base/files.h"
#include "model/checkpoint.h"

namespace tagspace {
namespace {

class Checkpoint : public testing::Test {
 protected:
  void SetUp() override {
    folder = std::filesystem::path(testing::TempDir()) /
             (std::string("checkpoint-") + testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::create_directories(folder);
    path = folder / "model.safetensors";
  }
  void TearDown() override { std::filesystem::remove_all(folder); }

  void write() const {
    const std::vector<NamedArray> arrays = {{"table", {2, 3}, table.data()}, {"bias", {2}, bias.data()}};
    write_checkpoint(path, arrays, R"({"epoch": 3})");
  }
  [[nodiscard]] std::string message() const {
    try {
      const CheckpointFile file(path);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  std::filesystem::path folder, path;
  std::vector<float> table = {1, 2, 3, 4, 5, -6.5};
  std::vector<float> bias = {0.25, 1e-30F};
};

TEST_F(Checkpoint, ComesBackAsWritten) {
  write();
  const CheckpointFile file(path);
  EXPECT_EQ(file.text(), R"({"epoch": 3})");
  ASSERT_EQ(file.arrays().size(), 2U);
  const auto read = file.get("table", {2, 3});
  EXPECT_EQ(std::vector<float>(read.begin(), read.end()), table);
  for (const auto& [name, shape, expected] :
       {std::tuple("absent", std::vector<std::uint64_t>{2, 3}, "has no array 'absent'"),
        std::tuple("table", std::vector<std::uint64_t>{3, 2}, "'table' is 2 x 3, and should be 3 x 2"),
        std::tuple("table", std::vector<std::uint64_t>{6}, "'table' is 2 x 3, and should be 6")}) {
    try {
      (void)file.get(name, shape);
      FAIL() << expected;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("model.safetensors'"), std::string::npos);
      EXPECT_NE(std::string(error.what()).find(expected), std::string::npos) << error.what();
    }
  }
}

TEST_F(Checkpoint, NumbersOf64BitsComeBackFromHalves) {
  const std::vector<std::uint64_t> numbers = {
      0, 1, 0xFFFFFFFF, std::uint64_t{1} << 32U, 0x0123456789ABCDEF, ~std::uint64_t{0}};
  const auto halves = to_halves(numbers);
  ASSERT_EQ(halves.size(), 2 * numbers.size());
  EXPECT_EQ(halves[8], 0x89ABCDEFU);  // the low half first
  EXPECT_EQ(halves[9], 0x01234567U);
  EXPECT_EQ(from_halves(halves), numbers);
  EXPECT_NE(to_halves({}).data(), nullptr);
}

TEST_F(Checkpoint, EveryTruncationIsFound) {
  write();
  const std::string whole = read_file(path);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    write_file(path, whole.substr(0, size));
    const auto text = message();
    ASSERT_NE(text.find("model.safetensors"), std::string::npos) << size;
    ASSERT_NE(text.find("not a whole checkpoint"), std::string::npos) << text;
  }
  write_file(path, whole + "x");
  EXPECT_NE(message().find("bytes beyond"), std::string::npos);
}

TEST_F(Checkpoint, EveryFlippedBitOfTheArraysIsFound) {
  write();
  const std::string whole = read_file(path);
  for (std::size_t at = whole.size() - 8 * sizeof(float); at < whole.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = whole;
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << bit));
      write_file(path, damaged);
      ASSERT_NE(message().find("checksum"), std::string::npos) << at;
    }
  }
}

TEST_F(Checkpoint, ADamagedHeaderIsAnErrorAndNeverACrash) {
  write();
  const std::string whole = read_file(path);
  for (std::size_t at = 0; at < whole.size() - 8 * sizeof(float); ++at) {
    for (const char other : {'\0', '9', '{', '"', '\xff'}) {
      std::string damaged = whole;
      damaged[at] = other;
      write_file(path, damaged);
      // Either an error, or (where the text, a name or white space changed) a file with the same arrays.
      try {
        const CheckpointFile file(path);
        for (const auto& array : file.arrays()) ASSERT_LE(array.size(), 6U);
      } catch (const Error&) {
      }
    }
  }
}

TEST_F(Checkpoint, AMissingFileAndAFolderAreErrors) {
  EXPECT_NE(message().find("No such file"), std::string::npos);
  std::filesystem::create_directories(path);
  EXPECT_NE(message().find("model.safetensors"), std::string::npos);
}

TEST_F(Checkpoint, ValuesThatAreNotFiniteAreNotWritten) {
  write();
  const std::string before = read_file(path);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    bias[1] = bad;
    try {
      write();
      FAIL() << "written";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("'bias'"), std::string::npos);
    }
    EXPECT_EQ(read_file(path), before);
  }
}

}  // namespace
}  // namespace tagspace
