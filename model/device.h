// Where a model lives, and what there is to choose from. Free of LibTorch.
#pragma once

#include <cstdint>
#include <string>

namespace tagspace {

struct Device {
  bool cuda = false;        // else the CPU
  std::uint32_t index = 0;  // of the GPU

  bool operator==(const Device&) const = default;
};

[[nodiscard]] std::string to_string(const Device& device);  // "cpu", "cuda:0"

// The device of this name: "cpu"; "cuda", which is "cuda:0", or "cuda:N"; "auto", the first GPU if one can be
// used, else the CPU. Asking for a GPU that cannot be used is an Error that says why: this build has no GPU
// code; LibTorch has none; no driver; no such GPU; none of this build's code runs on it. Must be called
// before anything else of LibTorch if the answer may be a GPU: it loads LibTorch's CUDA part.
[[nodiscard]] Device find_device(const std::string& name);
// Why "auto" is the CPU; empty if it is a GPU.
[[nodiscard]] std::string why_no_gpu();

// Of a GPU.
struct DeviceProperties {
  std::string name;  // as its maker calls it
  std::uint64_t free_bytes = 0;
  std::uint64_t total_bytes = 0;
};
[[nodiscard]] DeviceProperties properties_of(const Device& device);

}  // namespace tagspace
