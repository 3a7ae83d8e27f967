#include "model/device.h"

#include <charconv>
#include <dlfcn.h>
#include <stdexcept>

#include "base/error.h"

#ifdef TAGSPACE_HAS_CUDA
#include "model/kernels/cuda/runtime.cuh"
#endif

namespace tagspace {
namespace {

#ifdef TAGSPACE_HAS_CUDA
// Why GPU `index` cannot be used; empty if it can.
std::string obstacle(std::uint32_t index) {
  // The CUDA runtime's own answer is that the driver is too old.
  if (!kernels::cuda::driver_is_there()) return "no NVIDIA driver is there";
  int count = 0;
  if (const int error = kernels::cuda::device_count(count); error != 0) {
    return std::string("no GPU can be used: ") + kernels::cuda::error_text(error);
  }
  if (count == 0) return "this machine has no GPU that CUDA sees";
  if (index >= static_cast<std::uint32_t>(count)) {
    return "there " + std::string(count == 1 ? "is one GPU" : "are " + std::to_string(count) + " GPUs") +
           ", numbered from 0";
  }
  if (const int error = kernels::cuda::check_device(index); error != 0) {
    return std::string("the GPU cannot run this build's code: ") + kernels::cuda::error_text(error);
  }
  // LibTorch's CUDA part registers itself when it is loaded. The program is not linked to it, so that it
  // starts fast where no GPU is asked for.
  if (dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) == nullptr) {
    const char* reason = dlerror();  // NOLINT(concurrency-mt-unsafe): before there are threads
    return std::string("LibTorch's CUDA part cannot be loaded: ") + (reason == nullptr ? "?" : reason);
  }
  return {};
}
#else
std::string obstacle(std::uint32_t /*index*/) {
  return "this build has no GPU code; configure with TAGSPACE_CUDA=ON to have it";
}
#endif

}  // namespace

std::string to_string(const Device& device) {
  return device.cuda ? "cuda:" + std::to_string(device.index) : "cpu";
}

std::string why_no_gpu() { return obstacle(0); }

Device find_device(const std::string& name) {
  if (name == "cpu") return {};
  if (name == "auto") return obstacle(0).empty() ? Device{true, 0} : Device{};
  Device device{true, 0};
  if (name != "cuda") {
    const std::string prefix = "cuda:";
    const char* const end = name.data() + name.size();
    const char* const begin = name.data() + (name.starts_with(prefix) ? prefix.size() : name.size());
    if (const auto read = std::from_chars(begin, end, device.index); begin == end || read.ptr != end) {
      throw Error("no device is called '" + name + "': there are auto, cpu, cuda and cuda:N");
    }
  }
  if (const std::string reason = obstacle(device.index); !reason.empty()) {
    throw Error("cannot use the device " + name + ": " + reason);
  }
  return device;
}

#ifdef TAGSPACE_HAS_CUDA
DeviceProperties properties_of(const Device& device) {
  DeviceProperties properties;
  if (const int error = kernels::cuda::describe_device(device.index, properties.name, properties.free_bytes,
                                                       properties.total_bytes);
      error != 0) {
    throw Error(std::string("cannot ask the GPU for its memory: ") + kernels::cuda::error_text(error));
  }
  return properties;
}
#else
DeviceProperties properties_of(const Device& /*device*/) {
  throw std::logic_error("properties_of: this build knows no GPU");
}
#endif

}  // namespace tagspace
