#pragma once

namespace tagspace {

inline constexpr const char* kVersion = TAGSPACE_VERSION;  // the CMake project's

}  // namespace tagspace
