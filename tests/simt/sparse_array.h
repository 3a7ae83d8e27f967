// An array of zeros that may be larger than the machine's memory: the operating system provides the pages
// that are touched.
#pragma once

#include <cstddef>
#include <sys/mman.h>

namespace tagspace::kernels {

template <typename T>
class SparseArray {
 public:
  explicit SparseArray(std::size_t count)
      : bytes_(count * sizeof(T)),
        memory_(mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                     0)) {}
  ~SparseArray() {
    if (exists()) munmap(memory_, bytes_);
  }
  SparseArray(const SparseArray&) = delete;
  SparseArray& operator=(const SparseArray&) = delete;

  // False where there is no address space for it.
  [[nodiscard]] bool exists() const { return memory_ != MAP_FAILED; }
  [[nodiscard]] T* data() { return static_cast<T*>(memory_); }

 private:
  std::size_t bytes_;
  void* memory_;
};

}  // namespace tagspace::kernels
