// The few questions to the CUDA runtime that the host has. Each function returns a cudaError_t.
//
// C++17, and free of CUDA's headers, for both nvcc and the host's compiler include it.
#pragma once

#include <cstdint>
#include <string>

namespace tagspace::kernels::cuda {

[[nodiscard]] const char* error_text(int error);
// Whether there is an NVIDIA driver, of whatever version: cudaErrorInsufficientDriver is the runtime's answer
// both where there is none and where it is too old.
[[nodiscard]] bool driver_is_there();
int device_count(int& count);
// Whether device `index` has code here that it can run.
int check_device(std::uint32_t index);
int describe_device(std::uint32_t index, std::string& name, std::uint64_t& free_bytes,
                    std::uint64_t& total_bytes);
// Launches of the calling thread go to this device from now on.
int select_device(std::uint32_t index);

}  // namespace tagspace::kernels::cuda
