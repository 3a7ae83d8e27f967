# Warnings are errors; sanitizers on request. Every library of the project calls tagspace_library().

add_library(tagspace_options INTERFACE)
target_compile_options(tagspace_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wnon-virtual-dtor -Woverloaded-virtual -Werror)
# A false alarm of GCC 12 on adding strings (GCC bug 105329).
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(tagspace_options INTERFACE -Wno-restrict)
endif()

if(TAGSPACE_SANITIZE)
  # False alarms of GCC inside the standard library, with sanitizers alone (GCC bug 105562 is one of them).
  if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    target_compile_options(tagspace_options INTERFACE -Wno-maybe-uninitialized -Wno-array-bounds)
  endif()
  target_compile_options(tagspace_options INTERFACE
    -fsanitize=${TAGSPACE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all -g)
  target_link_options(tagspace_options INTERFACE -fsanitize=${TAGSPACE_SANITIZE})
endif()

# tagspace_library(NAME source...): a static library whose headers are included as "folder/header.h".
function(tagspace_library name)
  add_library(${name} STATIC ${ARGN})
  target_include_directories(${name} PUBLIC "${PROJECT_SOURCE_DIR}")
  target_link_libraries(${name} PUBLIC tagspace_options)
endfunction()
