#include <array>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <gtest/gtest.h>
#include <iterator>
#include <optional>
#include <string>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/files.h"

namespace tagspace {
namespace {

class FilesTest : public testing::Test {
 protected:
  void SetUp() override {
    folder = std::filesystem::path(testing::TempDir()) /
             (std::string("files-") + testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
    path = folder / "file";
  }
  void TearDown() override { std::filesystem::remove_all(folder); }

  [[nodiscard]] std::ptrdiff_t files() const {
    return std::distance(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator());
  }

  std::filesystem::path folder, path;
};

TEST_F(FilesTest, AtomicFileAppearsOnCommitOnly) {
  {
    AtomicFile file(path);
    file.write("one");
    EXPECT_FALSE(std::filesystem::exists(path));
    file.write("two");
    const std::array<std::byte, 2> patch = {std::byte{'X'}, std::byte{'Y'}};
    file.overwrite(1, patch);
    EXPECT_EQ(file.size(), 6U);
    EXPECT_THROW(file.overwrite(5, patch), std::logic_error);
    file.commit();
  }
  EXPECT_EQ(read_file(path), "oXYtwo");
  EXPECT_EQ(files(), 1);
}

TEST_F(FilesTest, AnAbandonedAtomicFileLeavesTheOldOneAndNothingElse) {
  write_file(path, "old");
  {
    AtomicFile file(path);
    file.write(std::string(3 << 20, 'x'));
  }
  EXPECT_EQ(read_file(path), "old");
  EXPECT_EQ(files(), 1);
}

// A full disk, as a limit on the size of files: in a child process, for the limit is the process'.
TEST_F(FilesTest, AFullDiskIsAnErrorAndLeavesTheOldFile) {
  write_file(path, "old");
  const pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1 << 20, 1 << 20};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    int status = 1;
    try {
      write_file(path, std::string(3 << 20, 'x'));
    } catch (const Error& error) {
      status =
          std::string(error.what()).find("cannot write '" + path.string() + "': File too large") == 0 ? 0 : 2;
    }
    ::_exit(status);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(read_file(path), "old");
  EXPECT_EQ(files(), 1);
}

TEST_F(FilesTest, ErrorsNameThePathAndTheReason) {
  const auto message = [](const auto& action) {
    try {
      action();
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const auto absent = folder / "absent" / "file";
  EXPECT_EQ(message([&] { return read_file(absent); }),
            "cannot open '" + absent.string() + "': No such file or directory");
  EXPECT_EQ(message([&] { write_file(absent, ""); }),
            "cannot write '" + absent.string() + "': No such file or directory");
  EXPECT_EQ(message([&] { return read_file(folder); }),
            "cannot read '" + folder.string() + "': Is a directory");
  EXPECT_EQ(message([&] { const MappedFile file(absent); }),
            "cannot open '" + absent.string() + "': No such file or directory");
  write_file(path, "");
  EXPECT_NE(message([&] { create_folder(path / "below"); }).find("cannot create the folder"),
            std::string::npos);
}

TEST_F(FilesTest, AFolderHasOneLock) {
  std::optional<FolderLock> lock;
  lock.emplace(folder);
  try {
    const FolderLock second(folder);
    FAIL() << "locked twice";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("is in use"), std::string::npos) << error.what();
  }
  lock.reset();
  const FolderLock after(folder);
  EXPECT_TRUE(std::filesystem::is_empty(folder));
  EXPECT_THROW(FolderLock(folder / "nowhere"), Error);
}

TEST_F(FilesTest, MappedFileShowsTheBytesBeforeAndAfterReleasingPages) {
  write_file(path, std::string(100'000, 'a') + "end");
  MappedFile file(path);
  ASSERT_EQ(file.bytes().size(), 100'003U);
  EXPECT_EQ(static_cast<char>(file.bytes().back()), 'd');
  file.release_pages();
  EXPECT_EQ(static_cast<char>(file.bytes().front()), 'a');
  const MappedFile moved = std::move(file);
  EXPECT_EQ(static_cast<char>(moved.bytes()[100'000]), 'e');
  write_file(folder / "empty", "");
  EXPECT_TRUE(MappedFile(folder / "empty").bytes().empty());
}

TEST_F(FilesTest, ChecksumIsXxh3WhateverThePieces) {
  Checksum empty;
  EXPECT_EQ(empty.hex(), "2d06800538d394c2");  // XXH3_64bits of nothing, as its specification has it
  Checksum whole;
  whole.update("hashtag");
  Checksum pieces;
  pieces.update("hash");
  pieces.update("tag");
  EXPECT_EQ(whole.value(), pieces.value());
  EXPECT_NE(whole.value(), empty.value());
}

}  // namespace
}  // namespace tagspace
