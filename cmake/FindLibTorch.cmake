# The CPU part of LibTorch as target LibTorch::LibTorch.
#
# find_package(Torch) of a CUDA build of LibTorch needs nvcc and links every CUDA library, which would make each
# start of the program slow; the CPU libraries alone need neither. Torch_DIR and CMAKE_PREFIX_PATH are honoured
# as with find_package(Torch).

set(_torch_hints ${CMAKE_PREFIX_PATH})
if(Torch_DIR)
  list(APPEND _torch_hints "${Torch_DIR}/../../..")
endif()
if(DEFINED ENV{Torch_DIR})
  list(APPEND _torch_hints "$ENV{Torch_DIR}/../../..")
endif()
file(GLOB _torch_wheel "${PROJECT_SOURCE_DIR}/.deps/venv/lib/python3*/site-packages/torch")
list(APPEND _torch_hints ${_torch_wheel})

find_path(LibTorch_INCLUDE_DIR ATen/core/Tensor.h HINTS ${_torch_hints} PATH_SUFFIXES include)
find_library(LibTorch_CPU_LIBRARY torch_cpu HINTS ${_torch_hints} PATH_SUFFIXES lib)
find_library(LibTorch_C10_LIBRARY c10 HINTS ${_torch_hints} PATH_SUFFIXES lib)

set(_torch_version_header "${LibTorch_INCLUDE_DIR}/torch/headeronly/version.h")
if(NOT EXISTS "${_torch_version_header}")
  set(_torch_version_header "${LibTorch_INCLUDE_DIR}/torch/csrc/api/include/torch/version.h")
endif()
if(EXISTS "${_torch_version_header}")
  file(STRINGS "${_torch_version_header}" _torch_version REGEX "define TORCH_VERSION \"")
  string(REGEX REPLACE ".*\"([0-9.]+).*\".*" "\\1" LibTorch_VERSION "${_torch_version}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch
  REQUIRED_VARS LibTorch_CPU_LIBRARY LibTorch_C10_LIBRARY LibTorch_INCLUDE_DIR
  VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE "run scripts/setup, or give a LibTorch by CMAKE_PREFIX_PATH or Torch_DIR")

if(LibTorch_FOUND AND NOT TARGET LibTorch::LibTorch)
  add_library(LibTorch::LibTorch INTERFACE IMPORTED)
  target_include_directories(LibTorch::LibTorch SYSTEM INTERFACE
    "${LibTorch_INCLUDE_DIR}" "${LibTorch_INCLUDE_DIR}/torch/csrc/api/include")
  # LibTorch names libraries of its own folder and of its wheels by its RPATH; the linker need not see them.
  target_link_libraries(LibTorch::LibTorch INTERFACE
    "${LibTorch_CPU_LIBRARY}" "${LibTorch_C10_LIBRARY}" "-Wl,--allow-shlib-undefined")
endif()
mark_as_advanced(LibTorch_INCLUDE_DIR LibTorch_CPU_LIBRARY LibTorch_C10_LIBRARY)
