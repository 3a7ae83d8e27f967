// Arrays in device memory for programs that run the kernels by themselves, and errors of the CUDA runtime in
// words.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

#include "model/kernels/cuda/runtime.cuh"

#ifndef TAGSPACE_SIMT  // tests/simt/simt.h stands for it
#include <cuda_runtime.h>
#endif

namespace tagspace::kernels::cuda {

struct GpuError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Throws a GpuError unless `error` is cudaSuccess; `what` was done.
inline void require(cudaError_t error, const std::string& what) {
  if (error == cudaSuccess) return;
  const std::string reason = std::string(" (") + cudaGetErrorString(error) + ")";
  switch (error) {
    case cudaErrorInsufficientDriver:
      if (!driver_is_there()) throw GpuError("no usable GPU: no NVIDIA driver is there");
      throw GpuError("no usable GPU: the NVIDIA driver is too old for this program" + reason);
    case cudaErrorStubLibrary:
      throw GpuError("no usable GPU: no NVIDIA driver is there" + reason);
    case cudaErrorNoDevice:
      throw GpuError("no usable GPU: no device is there" + reason);
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorUnsupportedPtxVersion:
      throw GpuError("no usable GPU: this program has no code for the device's architecture" + reason +
                     "; build it with that of the device in CMAKE_CUDA_ARCHITECTURES");
    default:
      throw GpuError(what + " failed" + reason);
  }
}
inline void require(int error, const std::string& what) { require(static_cast<cudaError_t>(error), what); }

// Throws a GpuError where there is no device.
inline void require_device() {
  int devices = 0;
  require(cudaGetDeviceCount(&devices), "looking for a GPU");
  if (devices == 0) require(cudaErrorNoDevice, "looking for a GPU");
}

// What an array in device memory holds before anything is written to it: a value that no result has, so that
// what a kernel does not write shows; or what is there, so that tools can tell that it was never written.
enum class Fill { pattern, none };

// An array in device memory.
template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t size, Fill fill = Fill::pattern) : size_(size) {
    if (size_ == 0) return;
    void* memory = nullptr;
    require(cudaMalloc(&memory, bytes()), "allocating " + std::to_string(bytes()) + " bytes of the GPU");
    data_ = static_cast<T*>(memory);
    if (fill == Fill::pattern) require(cudaMemset(data_, 0xA5, bytes()), "filling memory of the GPU");
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size(), Fill::none) {
    if (size_ == 0) return;
    require(cudaMemcpy(data_, values.data(), bytes(), cudaMemcpyHostToDevice), "copying to the GPU");
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  DeviceArray(DeviceArray&&) = delete;
  DeviceArray& operator=(DeviceArray&&) = delete;

  [[nodiscard]] T* data() const { return data_; }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] std::vector<T> values() const { return values(0, size_); }
  [[nodiscard]] std::vector<T> values(std::size_t first, std::size_t count) const {
    std::vector<T> result(count);
    if (count == 0) return result;
    require(cudaMemcpy(result.data(), data_ + first, count * sizeof(T), cudaMemcpyDeviceToHost),
            "copying from the GPU");
    return result;
  }

 private:
  [[nodiscard]] std::size_t bytes() const { return size_ * sizeof(T); }

  T* data_ = nullptr;
  std::size_t size_;
};

}  // namespace tagspace::kernels::cuda
