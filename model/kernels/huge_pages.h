// Large tables in large pages.
#pragma once

#include <cstddef>

namespace tagspace::kernels {

// Rows of a large table are read at random places: with pages of 4 KiB nearly every one would first need its
// page to be looked up. A hint, which a system may ignore. To be given before the first value is written.
void ask_for_huge_pages(void* memory, std::size_t bytes);

}  // namespace tagspace::kernels
