// Recommending posts to users: which post comes next, judged by its likeness to those before it. The second
// task of the #TagSpace paper (Weston, Chopra, Adams, EMNLP 2014, section 4.3).
//
// The last post of each user is held out. A candidate's score for a user is the largest cosine of its vector
// to the vectors of the user's earlier posts; the held-out post is ranked among the candidates: itself and
// the held-out posts of the others, all of them or some drawn at random.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "model/kernels/cpu_context.h"

namespace tagspace {

// Posts by user, oldest first. Each user has at least two; the last is the one held out.
struct UserPosts {
  std::vector<std::size_t> offsets = {0};        // [users + 1]: user u has the posts offsets[u] ..
  std::vector<std::uint32_t> tokens;             // of all posts, end to end
  std::vector<std::size_t> token_offsets = {0};  // [posts + 1]

  [[nodiscard]] std::size_t users() const { return offsets.size() - 1; }
  [[nodiscard]] std::size_t posts() const { return token_offsets.size() - 1; }
  [[nodiscard]] std::size_t held_out(std::size_t user) const { return offsets[user + 1] - 1; }
  [[nodiscard]] std::span<const std::uint32_t> tokens_of(std::size_t post) const {
    return std::span(tokens).subspan(token_offsets[post], token_offsets[post + 1] - token_offsets[post]);
  }
};

struct RecommendationConfig {
  bool bag_of_words = false;  // whether the last two of RecommendationRanks are asked for
  double weight = 1;          // of the words' score in the sum
  std::size_t others = 0;     // candidates beside the held-out post, at most users - 1; 0: all
  std::uint64_t seed = 1;     // decides which, if not all
};

// Of each user's held-out post: one plus the number of other candidates that score at least as much.
struct RecommendationRanks {
  std::vector<std::uint32_t> encoder;  // [users] by the post vectors
  // [users] By tf-idf vectors of the posts' tokens, (1 + ln tf) * ln((N + 1) / max(df, 1)), where df of the N
  // earlier posts have the token.
  std::vector<std::uint32_t> bag_of_words;
  // [users] By the sum of both scores, each divided by its standard deviation over the user's candidates (a
  // score that is the same for all counts as 0), the words' times the weight.
  std::vector<std::uint32_t> both;
};

// `vectors` [posts, dim], of any length. The ranks do not depend on the number of threads. The memory grows
// with the posts, not with users times candidates.
[[nodiscard]] RecommendationRanks rank_held_out_posts(const UserPosts& posts, std::vector<float> vectors,
                                                      std::size_t dim, const RecommendationConfig& config,
                                                      kernels::CpuContext& context);

// The candidates that user `user` is given besides the own held-out post: config.others users, ascending.
// Every choice of so many is equally likely.
[[nodiscard]] std::vector<std::uint32_t> drawn_candidates(std::size_t users, std::uint32_t user,
                                                          const RecommendationConfig& config);

}  // namespace tagspace
