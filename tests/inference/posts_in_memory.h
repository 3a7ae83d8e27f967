// Posts in memory, for tests of what learns from posts.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/lexical/training_posts.h"

namespace tagspace {

using Tokens = std::vector<std::uint32_t>;

struct PostsInMemory {
  std::vector<Tokens> tokens;    // by post
  std::vector<Tokens> hashtags;  // by post; none where they do not matter

  [[nodiscard]] TrainingPosts posts() const {
    return {tokens.size(), [this](std::uint64_t post) { return std::span(tokens[post]); },
            [this](std::uint64_t post) { return std::span(hashtags[post]); }};
  }
};

}  // namespace tagspace
