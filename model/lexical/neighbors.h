// The nearest training posts by tf-idf cosine over words and pairs of words, which vote for their hashtags:
// see lexical_model.h. Nothing is learnt but how rare every feature is.
#pragma once

#include <cstdint>

#include "model/lexical/lexical_model.h"
#include "model/lexical/training_posts.h"

namespace tagspace {

// `neighbors` > 0: how many posts vote. Error if the posts have more than 2^32 - 1 features in all.
[[nodiscard]] LexicalArrays index_neighbors(const LexicalKeys& keys, const TrainingPosts& posts,
                                            std::uint32_t neighbors);

}  // namespace tagspace
