#include "data_pipeline/temporary_file.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <stdexcept>
#include <unistd.h>
#include <utility>

#include "base/error.h"

namespace tagspace {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 18U;

}  // namespace

TemporaryFile::TemporaryFile(std::filesystem::path path) : path_(std::move(path)) {
  std::string name = path_.string() + ".XXXXXX";
  descriptor_ = ::mkostemp(name.data(), O_CLOEXEC);
  if (descriptor_ < 0) fail();
  ::unlink(name.c_str());
}

TemporaryFile::~TemporaryFile() { ::close(descriptor_); }

void TemporaryFile::fail() const {
  throw Error("cannot write '" + path_.string() + "': " + std::strerror(errno));
}

void TemporaryFile::write(std::span<const std::byte> bytes) {
  buffer_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  size_ += bytes.size();
  if (buffer_.size() >= kBufferBytes) flush();
}

void TemporaryFile::flush() {
  for (std::size_t written = 0; written < buffer_.size();) {
    const ssize_t count = ::write(descriptor_, buffer_.data() + written, buffer_.size() - written);
    if (count < 0) {
      if (errno == EINTR) continue;
      fail();
    }
    written += static_cast<std::size_t>(count);
  }
  buffer_.clear();
}

void TemporaryFile::rewind() {
  flush();
  read_ = 0;
}

void TemporaryFile::read(std::span<std::byte> bytes) {
  if (bytes.size() > bytes_left()) throw std::logic_error("TemporaryFile: read past the end");
  while (!bytes.empty()) {
    const ssize_t count = ::pread(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(read_));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) fail();
    bytes = bytes.subspan(static_cast<std::size_t>(count));
    read_ += static_cast<std::uint64_t>(count);
  }
}

}  // namespace tagspace
