// Stands for CUB where row_sort.cu is compiled for the emulator: what DeviceRadixSort::SortPairs is
// documented to do, the bits that it does not look at, the memory that it asks for and writes over among it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

#include "tests/simt/simt.h"

namespace cub {

struct DeviceRadixSort {
  // Stable, by bits [begin_bit, end_bit) of the keys. Without `scratch` only `scratch_bytes` is set.
  static cudaError_t SortPairs(void* scratch, std::size_t& scratch_bytes, const std::uint32_t* keys,
                               std::uint32_t* sorted_keys, const std::uint32_t* values,
                               std::uint32_t* sorted_values, int count, int begin_bit, int end_bit,
                               cudaStream_t /*stream*/) {
    const auto size = static_cast<std::size_t>(count);
    const std::size_t needed = 2 * size * sizeof(std::uint32_t) + 1;
    if (scratch == nullptr) {
      scratch_bytes = needed;
      return cudaSuccess;
    }
    if (scratch_bytes < needed) return cudaErrorInvalidValue;
    std::memset(scratch, 0xA5, scratch_bytes);
    const auto bits = [&](std::size_t i) {
      return (std::uint64_t{keys[i]} & ((std::uint64_t{1} << end_bit) - 1)) >> begin_bit;
    };
    std::vector<std::size_t> order(size);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return bits(a) < bits(b); });
    for (std::size_t i = 0; i < size; ++i) {
      sorted_keys[i] = keys[order[i]];
      sorted_values[i] = values[order[i]];
    }
    return cudaSuccess;
  }
};

}  // namespace cub
