#include <dlfcn.h>

#include "model/kernels/cuda/device.cuh"
#include "model/kernels/cuda/runtime.cuh"

namespace tagspace::kernels::cuda {
namespace {

__global__ void probe_kernel() {}

}  // namespace

const char* error_text(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

bool driver_is_there() { return dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL) != nullptr; }

int device_count(int& count) {
  count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  (void)cudaGetLastError();  // it would be found again after the next launch
  return error == cudaErrorNoDevice ? cudaSuccess : error;
}

int check_device(std::uint32_t index) {
  if (const cudaError_t error = cudaSetDevice(static_cast<int>(index)); error != cudaSuccess) return error;
  cudaFuncAttributes attributes{};
  const cudaError_t error = cudaFuncGetAttributes(&attributes, probe_kernel);
  (void)cudaGetLastError();
  return error;
}

int describe_device(std::uint32_t index, std::string& name, std::uint64_t& free_bytes,
                    std::uint64_t& total_bytes) {
  if (const cudaError_t error = cudaSetDevice(static_cast<int>(index)); error != cudaSuccess) return error;
  cudaDeviceProp properties{};
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, static_cast<int>(index));
      error != cudaSuccess) {
    return error;
  }
  name = properties.name;
  std::size_t free_size = 0;
  std::size_t total_size = 0;
  const cudaError_t error = cudaMemGetInfo(&free_size, &total_size);
  free_bytes = free_size;
  total_bytes = total_size;
  return error;
}

int select_device(std::uint32_t index) { return cudaSetDevice(static_cast<int>(index)); }

}  // namespace tagspace::kernels::cuda
