// Posts to learn from, by number, wherever they are.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

namespace tagspace {

// The spans stay valid for as long as whoever learns from them.
struct TrainingPosts {
  std::uint64_t count = 0;
  std::function<std::span<const std::uint32_t>(std::uint64_t)> tokens = {};
  std::function<std::span<const std::uint32_t>(std::uint64_t)> hashtags = {};  // ascending
};

}  // namespace tagspace
