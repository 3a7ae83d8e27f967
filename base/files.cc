#include "base/files.h"

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <new>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>
#include <xxhash.h>

#include "base/error.h"

namespace tagspace {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 20;

[[noreturn]] void fail(const std::string& what, const std::filesystem::path& path, int error = errno) {
  throw Error("cannot " + what + " '" + path.string() + "': " + std::strerror(error));
}

// Closes a descriptor when an error leaves the scope.
class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  ~Descriptor() { ::close(value_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  Descriptor(Descriptor&&) = delete;
  Descriptor& operator=(Descriptor&&) = delete;
  [[nodiscard]] int get() const { return value_; }

 private:
  int value_;
};

int open_to_read(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail("open", path);
  return descriptor;
}

std::size_t regular_file_size(int descriptor, const std::filesystem::path& path) {
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) fail("read", path);
  if (S_ISDIR(status.st_mode)) fail("read", path, EISDIR);
  return static_cast<std::size_t>(status.st_size);
}

}  // namespace

AtomicFile::AtomicFile(std::filesystem::path path)
    : path_(std::move(path)), partial_(path_.string() + "." + std::to_string(::getpid()) + ".partial") {
  descriptor_ = ::open(partial_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail("write", path_);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(partial_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  size_ += bytes.size();
  if (buffer_.size() + bytes.size() < kBufferBytes) {
    buffer_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return;
  }
  flush_buffer();
  write_now(bytes);  // a table may be large: no copy of it
}

void AtomicFile::flush_buffer() {
  write_now(std::as_bytes(std::span(buffer_)));
  buffer_.clear();
}

void AtomicFile::write_now(std::span<const std::byte> bytes) {
  const auto* data = bytes.data();
  std::size_t left = bytes.size();
  while (left > 0) {
    const ssize_t count = ::write(descriptor_, data, left);
    if (count < 0) {
      if (errno == EINTR) continue;
      fail("write", path_);
    }
    data += count;
    left -= static_cast<std::size_t>(count);
  }
}

void AtomicFile::overwrite(std::uint64_t offset, std::span<const std::byte> bytes) {
  if (offset + bytes.size() > size_) throw std::logic_error("AtomicFile::overwrite past the end");
  flush_buffer();
  const auto* data = bytes.data();
  std::size_t left = bytes.size();
  while (left > 0) {
    const ssize_t count = ::pwrite(descriptor_, data, left, static_cast<off_t>(offset));
    if (count < 0) {
      if (errno == EINTR) continue;
      fail("write", path_);
    }
    data += count;
    offset += static_cast<std::uint64_t>(count);
    left -= static_cast<std::size_t>(count);
  }
}

void AtomicFile::commit() {
  flush_buffer();
  if (::fsync(descriptor_) != 0) fail("write", path_);
  const int closed = ::close(descriptor_);
  descriptor_ = -1;
  if (closed != 0 || ::rename(partial_.c_str(), path_.c_str()) != 0) {
    const int error = errno;
    ::unlink(partial_.c_str());
    fail("write", path_, error);
  }
}

void write_file(const std::filesystem::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

std::string read_file(const std::filesystem::path& path) {
  const Descriptor descriptor(open_to_read(path));
  std::string text;
  text.reserve(regular_file_size(descriptor.get(), path));
  char buffer[1 << 16];
  for (;;) {
    const ssize_t count = ::read(descriptor.get(), buffer, sizeof buffer);
    if (count < 0) {
      if (errno == EINTR) continue;
      fail("read", path);
    }
    if (count == 0) return text;
    text.append(buffer, static_cast<std::size_t>(count));
  }
}

void create_folder(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) throw Error("cannot create the folder '" + path.string() + "': " + error.message());
}

FolderLock::FolderLock(const std::filesystem::path& folder)
    : descriptor_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  if (descriptor_ < 0) fail("open", folder);
  exclusive_ = ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0;
  if (exclusive_ || errno != EWOULDBLOCK) return;
  ::close(descriptor_);
  throw Error("'" + folder.string() + "' is in use: another tagspace is writing to it");
}

FolderLock::~FolderLock() { ::close(descriptor_); }

MappedFile::MappedFile(const std::filesystem::path& path) {
  const Descriptor descriptor(open_to_read(path));
  size_ = regular_file_size(descriptor.get(), path);
  if (size_ == 0) return;
  void* address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor.get(), 0);
  if (address == MAP_FAILED) fail("map", path);
  data_ = static_cast<const std::byte*>(address);
}

MappedFile::~MappedFile() {
  // munmap and madvise take a pointer to non-const memory, and change none of it.
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);  // NOLINT(*-const-cast)
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void MappedFile::release_pages() const {
  if (data_ != nullptr)
    ::madvise(const_cast<std::byte*>(data_), size_, MADV_DONTNEED);  // NOLINT(*-const-cast)
}

Checksum::Checksum() : state_(XXH3_createState()) {
  if (state_ == nullptr) throw std::bad_alloc();
  XXH3_64bits_reset(static_cast<XXH3_state_t*>(state_));
}

Checksum::~Checksum() { XXH3_freeState(static_cast<XXH3_state_t*>(state_)); }

void Checksum::update(std::span<const std::byte> bytes) {
  XXH3_64bits_update(static_cast<XXH3_state_t*>(state_), bytes.data(), bytes.size());
}

std::uint64_t Checksum::value() const { return XXH3_64bits_digest(static_cast<const XXH3_state_t*>(state_)); }

std::string Checksum::hex() const {
  char text[17];
  std::snprintf(text, sizeof text, "%016" PRIx64, value());
  return text;
}

}  // namespace tagspace
