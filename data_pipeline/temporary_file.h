// Bytes that wait on the disk for their turn.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace tagspace {

// A file without a name: the system removes it whatever happens. Written from its start to its end, and then
// read, both in pieces of any size. Errors name `path`, the file that is being made out of it.
class TemporaryFile {
 public:
  // Lies in the folder of `path`, on the same disk.
  explicit TemporaryFile(std::filesystem::path path);
  ~TemporaryFile();
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  TemporaryFile(TemporaryFile&&) = delete;
  TemporaryFile& operator=(TemporaryFile&&) = delete;

  void write(std::span<const std::byte> bytes);

  // The next read() begins at the start.
  void rewind();
  [[nodiscard]] bool at_end() const { return read_ == size_; }
  // Fills `bytes`, of which the file must have as many left.
  void read(std::span<std::byte> bytes);
  [[nodiscard]] std::uint64_t bytes_left() const { return size_ - read_; }

 private:
  void flush();
  [[noreturn]] void fail() const;

  std::filesystem::path path_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
  std::uint64_t read_ = 0;
  std::string buffer_;  // bytes not written yet
};

}  // namespace tagspace
