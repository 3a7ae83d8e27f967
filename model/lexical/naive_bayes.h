// Naive Bayes over words and pairs of words (multinomial, with Dirichlet smoothing: McCallum, Nigam, "A
// comparison of event models for naive Bayes text classification", 1998; Zhai, Lafferty, SIGIR 2001).
//
//   s(post, h) = log P(h) + sum over the post's features f of v(f) * log((c[f, h] + a P(f)) / (c[h] + a) /
//   P(f))
//
// v(f) is how often the post has f, a pair counting 0.7, as it repeats what its words have said; c[f, h]
// counts f on the training posts that carry h, c[h] is the sum over all f, P(f) the share of f among all
// features of the training posts, P(h) the share of h among all their hashtags, and a > 0 the smoothing: how
// many features of the background every hashtag is given besides its own. The division by P(f) orders no
// post's hashtags otherwise, and what is left,
//
//   log P(h) - (sum of v(f)) * log(1 + c[h] / a) + sum of v(f) * log(1 + c[f, h] / (a P(f))),
//
// is 0 in the last sum wherever f and h never meet: a sparse linear model of counts.
#pragma once

#include <cstdint>

#include "model/lexical/lexical_model.h"
#include "model/lexical/training_posts.h"

namespace tagspace {

// Error if there are more than 2^32 - 1 weights.
[[nodiscard]] LexicalArrays train_naive_bayes(const LexicalKeys& keys, const TrainingPosts& posts,
                                              std::uint32_t hashtags, double smoothing);

}  // namespace tagspace
