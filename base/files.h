// Files that are written whole or not at all, read-only mappings, and checksums. All errors are
// tagspace::Error with the path and the system's reason.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace tagspace {

// A file under construction. Bytes go to "<path>.<process id>.partial"; commit() flushes them to the disk and
// renames the file into place, so that a reader sees the old file or the new one, never a part. Destroyed
// without commit(), it removes the partial file and leaves an older file of that name alone.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  AtomicFile(AtomicFile&&) = delete;
  AtomicFile& operator=(AtomicFile&&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }

  // Overwrites bytes already written, such as a header whose counts are known last. The write position stays.
  void overwrite(std::uint64_t offset, std::span<const std::byte> bytes);

  // Bytes written so far.
  [[nodiscard]] std::uint64_t size() const { return size_; }

  void commit();

 private:
  void flush_buffer();
  void write_now(std::span<const std::byte> bytes);

  std::filesystem::path path_;
  std::filesystem::path partial_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
  std::string buffer_;
};

void write_file(const std::filesystem::path& path, std::string_view text);  // whole or not at all
[[nodiscard]] std::string read_file(const std::filesystem::path& path);

// Creates the folder and its parents; an error if that cannot be.
void create_folder(const std::filesystem::path& path);

// A folder that this process alone may write to, until the lock is destroyed or the process ends; no file is
// made for it. Error if another process has it. File systems that know no locks let everyone in.
class FolderLock {
 public:
  explicit FolderLock(const std::filesystem::path& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;
  FolderLock(FolderLock&&) = delete;
  FolderLock& operator=(FolderLock&&) = delete;

  // False on a file system that knows no locks.
  [[nodiscard]] bool is_exclusive() const { return exclusive_; }

 private:
  int descriptor_;
  bool exclusive_ = false;
};

// A file mapped into memory, read-only. Pages are loaded when touched.
class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  [[nodiscard]] std::span<const std::byte> bytes() const { return {data_, size_}; }

  // Gives the touched pages back to the system, so that a pass over a large file holds little memory. The
  // bytes stay valid and are read again when touched.
  void release_pages() const;

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// XXH3, 64 bits, as a stream.
class Checksum {
 public:
  Checksum();
  ~Checksum();
  Checksum(const Checksum&) = delete;
  Checksum& operator=(const Checksum&) = delete;
  Checksum(Checksum&&) = delete;
  Checksum& operator=(Checksum&&) = delete;

  void update(std::span<const std::byte> bytes);
  void update(std::string_view text) { update(std::as_bytes(std::span(text))); }
  [[nodiscard]] std::uint64_t value() const;
  [[nodiscard]] std::string hex() const;  // value() as 16 lower-case digits

 private:
  void* state_;
};

}  // namespace tagspace
