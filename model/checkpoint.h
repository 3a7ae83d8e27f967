// Checkpoints: named arrays of numbers and a text in one safetensors file.
//
// The format (https://huggingface.co/docs/safetensors) is eight bytes of header length, a JSON header with
// each array's type, shape and place, and the arrays: nothing in it can be executed, and any language reads
// it. The text and a checksum of the arrays stand in the header's "__metadata__".
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/files.h"

namespace tagspace {

// An array of the caller's, of float32 numbers or of unsigned ones of 32 bits. Row-major.
struct NamedArray {
  std::string name;
  std::vector<std::uint64_t> shape;
  const float* data = nullptr;
  const std::uint32_t* integers = nullptr;  // instead of data

  [[nodiscard]] std::uint64_t size() const {
    std::uint64_t count = 1;
    for (const auto extent : shape) count *= extent;
    return count;
  }
};

// Whole or not at all. Error, naming array and file, if a value is not finite.
void write_checkpoint(const std::filesystem::path& path, std::span<const NamedArray> arrays,
                      const std::string& text);

// Numbers of 64 bits stand in a checkpoint as two of 32 each, the low half first: an array [numbers, 2].
[[nodiscard]] std::vector<std::uint32_t> to_halves(std::span<const std::uint64_t> numbers);
[[nodiscard]] std::vector<std::uint64_t> from_halves(std::span<const std::uint32_t> halves);

// A checkpoint on disk, verified when opened: Error, naming the file, if it is no checkpoint, truncated or
// damaged.
class CheckpointFile {
 public:
  explicit CheckpointFile(const std::filesystem::path& path);

  [[nodiscard]] const std::string& text() const { return text_; }
  [[nodiscard]] std::span<const NamedArray> arrays() const { return arrays_; }  // data points into the file
  // The array of this name and shape; Error, naming the file, if there is none.
  [[nodiscard]] std::span<const float> get(const std::string& name,
                                           const std::vector<std::uint64_t>& shape) const;
  [[nodiscard]] std::span<const std::uint32_t> get_integers(const std::string& name,
                                                            const std::vector<std::uint64_t>& shape) const;

 private:
  [[nodiscard]] const NamedArray& find(const std::string& name, const std::vector<std::uint64_t>& shape,
                                       bool integers) const;

  std::string path_;  // for messages
  MappedFile file_;
  std::string text_;
  std::vector<NamedArray> arrays_;
};

}  // namespace tagspace
