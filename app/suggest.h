// "Did you mean ...?"
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace tagspace {

// Insertions, deletions, replacements and swaps of neighbouring bytes that turn one into the other.
[[nodiscard]] std::size_t edit_distance(std::string_view a, std::string_view b);

// The name nearest to `wanted`, if one is near enough to be a slip of the keyboard.
[[nodiscard]] std::optional<std::string> nearest_name(std::string_view wanted,
                                                      std::span<const std::string> names);

}  // namespace tagspace
