// An array that may be larger than the machine's memory: the operating system, or CUDA's driver, provides the
// pages that are touched. Zeros on the host, on a GPU anything.
#pragma once

#include <cstddef>

#ifdef TAGSPACE_ON_GPU
#include "model/kernels/cuda/device_array.h"
#else
#include <sys/mman.h>
#endif

namespace tagspace::kernels {

template <typename T>
class SparseArray {
 public:
  explicit SparseArray(std::size_t count) : bytes_(count * sizeof(T)), memory_(allocate(bytes_)) {}
  ~SparseArray() {
    if (exists()) release(memory_, bytes_);
  }
  SparseArray(const SparseArray&) = delete;
  SparseArray& operator=(const SparseArray&) = delete;

  // False where there is no address space for it, or no GPU that fetches pages one by one.
  [[nodiscard]] bool exists() const { return memory_ != nullptr; }
  [[nodiscard]] T* data() { return static_cast<T*>(memory_); }

 private:
#ifdef TAGSPACE_ON_GPU
  static void* allocate(std::size_t bytes) {
    // Else all of it would be allocated on the device, and copied as a whole.
    int page_by_page = 0;
    cuda::require(cudaDeviceGetAttribute(&page_by_page, cudaDevAttrConcurrentManagedAccess, 0),
                  "asking how managed memory moves");
    if (page_by_page == 0) return nullptr;
    void* memory = nullptr;
    const cudaError_t error = cudaMallocManaged(&memory, bytes);
    if (error == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError();  // it would be found again after the next launch
      return nullptr;
    }
    cuda::require(error, "allocating managed memory");
    return memory;
  }
  static void release(void* memory, std::size_t /*bytes*/) { cudaFree(memory); }
#else
  static void* allocate(std::size_t bytes) {
    void* const memory =
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? nullptr : memory;
  }
  static void release(void* memory, std::size_t bytes) { munmap(memory, bytes); }
#endif

  std::size_t bytes_;
  void* memory_;
};

}  // namespace tagspace::kernels
