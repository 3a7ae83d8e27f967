#include "data_pipeline/byte_source.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <new>
#include <poll.h>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>
#include <vector>
#include <zlib.h>
#include <zstd.h>

#include "base/error.h"

namespace tagspace {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 18;

std::string name_of(const std::filesystem::path& path) {
  return path == "-" ? "standard input" : std::string("'") + path.string() + "'";
}

// A file's bytes as they are. The first few can be looked at before they are read.
class PlainSource final : public ByteSource {
 public:
  explicit PlainSource(const std::filesystem::path& path) : path_(path) {
    descriptor_ = path == "-" ? ::dup(STDIN_FILENO) : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor_ < 0) fail("open");
    struct stat status {};
    const bool known = ::fstat(descriptor_, &status) == 0;
    if (known && S_ISDIR(status.st_mode)) {
      ::close(descriptor_);
      errno = EISDIR;
      fail("read");
    }
    is_regular_ = known && S_ISREG(status.st_mode);
  }
  ~PlainSource() override { ::close(descriptor_); }
  PlainSource(const PlainSource&) = delete;
  PlainSource& operator=(const PlainSource&) = delete;
  PlainSource(PlainSource&&) = delete;
  PlainSource& operator=(PlainSource&&) = delete;

  // True if the file begins with `magic`, of which `mask` says what counts. Waits for no more bytes than it
  // needs to tell, as they may be a line that someone types.
  bool begins_with(std::string_view magic, std::string_view mask) {
    for (std::size_t i = 0; i < magic.size(); ++i) {
      if (i == head_.size()) {
        char byte = 0;
        if (read_descriptor({&byte, 1}) == 0) return false;
        head_.push_back(byte);
      }
      if (((head_[i] ^ magic[i]) & mask[i]) != 0) return false;
    }
    return true;
  }

  std::size_t read(std::span<char> buffer) override {
    if (head_.empty()) return read_descriptor(buffer);
    const std::size_t count = std::min(buffer.size(), head_.size());
    std::memcpy(buffer.data(), head_.data(), count);
    head_.erase(0, count);
    return count;
  }

  bool ready() override {
    if (is_regular_ || !head_.empty()) return true;
    pollfd request{descriptor_, POLLIN, 0};
    return ::poll(&request, 1, 0) > 0;
  }

 private:
  std::size_t read_descriptor(std::span<char> buffer) {
    for (;;) {
      const ssize_t count = ::read(descriptor_, buffer.data(), buffer.size());
      if (count >= 0) return static_cast<std::size_t>(count);
      if (errno != EINTR) fail("read");
    }
  }

  [[noreturn]] void fail(const char* what) const {
    throw Error(std::string("cannot ") + what + " " + name_of(path_) + ": " + std::strerror(errno));
  }

  std::filesystem::path path_;
  int descriptor_ = -1;
  bool is_regular_ = false;
  std::string head_;
};

// What the two decompressors share: the compressed bytes, and errors that name the file.
class CompressedSource : public ByteSource {
 public:
  CompressedSource(std::unique_ptr<PlainSource> source, const std::filesystem::path& path, std::string format)
      : source_(std::move(source)), name_(name_of(path)), format_(std::move(format)), buffer_(kBufferBytes) {}

  bool ready() override { return !input_.empty() || source_->ready(); }

 protected:
  // Refills `input_` if it is empty; false at the end of the file.
  bool fill() {
    if (!input_.empty()) return true;
    const std::size_t count = source_->read(buffer_);
    input_ = std::span(buffer_).first(count);
    return count > 0;
  }

  [[noreturn]] void fail_damaged(const std::string& reason) const {
    throw Error(name_ + " is damaged: its " + format_ + " data cannot be decompressed (" + reason + ")");
  }
  [[noreturn]] void fail_truncated() const {
    throw Error(name_ + " is cut off: its " + format_ + " data end too early");
  }

  std::unique_ptr<PlainSource> source_;
  std::string name_;
  std::string format_;
  std::vector<char> buffer_;
  std::span<char> input_;
};

class GzipSource final : public CompressedSource {
 public:
  GzipSource(std::unique_ptr<PlainSource> source, const std::filesystem::path& path)
      : CompressedSource(std::move(source), path, "gzip") {
    if (inflateInit2(&stream_, 15 + 16) != Z_OK) throw std::bad_alloc();
  }
  ~GzipSource() override { inflateEnd(&stream_); }
  GzipSource(const GzipSource&) = delete;
  GzipSource& operator=(const GzipSource&) = delete;
  GzipSource(GzipSource&&) = delete;
  GzipSource& operator=(GzipSource&&) = delete;

  std::size_t read(std::span<char> buffer) override {
    while (fill()) {
      if (at_member_start_) {
        // Tapes and some servers pad with zeros.
        if (members_ > 0 && input_.front() == 0) {
          input_ = input_.subspan(1);
          continue;
        }
        if (members_ > 0) inflateReset(&stream_);
        at_member_start_ = false;
      }
      stream_.next_in = reinterpret_cast<Bytef*>(input_.data());
      stream_.avail_in = static_cast<uInt>(input_.size());
      stream_.next_out = reinterpret_cast<Bytef*>(buffer.data());
      stream_.avail_out = static_cast<uInt>(buffer.size());
      const int result = inflate(&stream_, Z_NO_FLUSH);
      input_ = input_.last(stream_.avail_in);
      if (result == Z_MEM_ERROR) throw std::bad_alloc();
      if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR) {
        fail_damaged(stream_.msg != nullptr ? stream_.msg : "it needs a dictionary");
      }
      if (result == Z_STREAM_END) {
        at_member_start_ = true;
        ++members_;
      }
      const std::size_t count = buffer.size() - stream_.avail_out;
      if (count > 0) return count;
    }
    if (!at_member_start_) fail_truncated();
    return 0;
  }

 private:
  z_stream stream_{};
  bool at_member_start_ = true;
  std::size_t members_ = 0;
};

class ZstdSource final : public CompressedSource {
 public:
  ZstdSource(std::unique_ptr<PlainSource> source, const std::filesystem::path& path)
      : CompressedSource(std::move(source), path, "zstd"), stream_(ZSTD_createDStream()) {
    if (stream_ == nullptr) throw std::bad_alloc();
  }
  ~ZstdSource() override { ZSTD_freeDStream(stream_); }
  ZstdSource(const ZstdSource&) = delete;
  ZstdSource& operator=(const ZstdSource&) = delete;
  ZstdSource(ZstdSource&&) = delete;
  ZstdSource& operator=(ZstdSource&&) = delete;

  std::size_t read(std::span<char> buffer) override {
    for (;;) {
      // Where decompressed bytes are left behind at the end of a frame, zstd leaves a byte of input behind
      // too.
      if (!fill()) {
        if (inside_frame_) fail_truncated();
        return 0;
      }
      ZSTD_inBuffer in{input_.data(), input_.size(), 0};
      ZSTD_outBuffer out{buffer.data(), buffer.size(), 0};
      const std::size_t result = ZSTD_decompressStream(stream_, &out, &in);
      if (ZSTD_isError(result) != 0) fail_damaged(ZSTD_getErrorName(result));
      input_ = input_.subspan(in.pos);
      inside_frame_ = result != 0;
      if (out.pos > 0) return out.pos;
    }
  }

 private:
  ZSTD_DStream* stream_;
  bool inside_frame_ = false;
};

}  // namespace

std::unique_ptr<ByteSource> open_byte_source(const std::filesystem::path& path) {
  auto source = std::make_unique<PlainSource>(path);
  using namespace std::string_view_literals;
  if (source->begins_with("\x1F\x8B"sv, "\xFF\xFF"sv))
    return std::make_unique<GzipSource>(std::move(source), path);
  const bool is_zstd = source->begins_with("\x28\xB5\x2F\xFD"sv, "\xFF\xFF\xFF\xFF"sv) ||
                       source->begins_with("\x50\x2A\x4D\x18"sv, "\xF0\xFF\xFF\xFF"sv);  // a skippable frame
  if (is_zstd) return std::make_unique<ZstdSource>(std::move(source), path);
  return source;
}

}  // namespace tagspace
