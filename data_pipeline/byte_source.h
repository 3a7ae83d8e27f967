// The bytes of a file, decompressed on the way.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>

namespace tagspace {

class ByteSource {
 public:
  ByteSource() = default;
  virtual ~ByteSource() = default;
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;
  ByteSource(ByteSource&&) = delete;
  ByteSource& operator=(ByteSource&&) = delete;

  // Fills a part of `buffer`, waiting for the first byte only; returns how many bytes, 0 at the end.
  virtual std::size_t read(std::span<char> buffer) = 0;

  // True if read() would return without waiting for another program or person.
  [[nodiscard]] virtual bool ready() = 0;
};

// Plain, gzip or zstd, as the first bytes say. "-" is standard input.
[[nodiscard]] std::unique_ptr<ByteSource> open_byte_source(const std::filesystem::path& path);

}  // namespace tagspace
