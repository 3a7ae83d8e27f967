# Sets TAGSPACE_HAS_CUDA, and enables the CUDA language where it is on.

if(NOT TAGSPACE_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "TAGSPACE_CUDA is '${TAGSPACE_CUDA}'; it can be AUTO, ON or OFF")
endif()

set(TAGSPACE_HAS_CUDA OFF)
if(NOT TAGSPACE_CUDA STREQUAL OFF)
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    if(NOT CMAKE_CUDA_ARCHITECTURES)
      set(CMAKE_CUDA_ARCHITECTURES 80 90)
    endif()
    enable_language(CUDA)
    set(CMAKE_CUDA_STANDARD 17)
    set(TAGSPACE_HAS_CUDA ON)
  elseif(TAGSPACE_CUDA STREQUAL ON)
    message(FATAL_ERROR "TAGSPACE_CUDA=ON, but no nvcc was found: put it on PATH, set CUDACXX, "
                        "or configure with TAGSPACE_CUDA=OFF")
  endif()
endif()
message(STATUS "CUDA code: ${TAGSPACE_HAS_CUDA}")
