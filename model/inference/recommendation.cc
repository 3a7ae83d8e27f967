#include "model/inference/recommendation.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>

#include "model/inference/post_encoder.h"
#include "model/kernels/philox.h"
#include "model/kernels/scoring.h"

namespace tagspace {
namespace {

// Scores that are there at once, at most: of some users, and of some of their earlier posts.
constexpr std::size_t kScoresAtOnce = std::size_t{1} << 23U;
constexpr float kLowest = -std::numeric_limits<float>::infinity();

// The words of posts as tf-idf vectors of length 1: those of the earlier posts, and for each word the
// held-out posts that have it.
class WordVectors {
 public:
  explicit WordVectors(const UserPosts& posts) {
    const std::size_t vocabulary =
        posts.tokens.empty() ? 0
                             : std::size_t{*std::max_element(posts.tokens.begin(), posts.tokens.end())} + 1;
    std::vector<std::uint32_t> frequencies(vocabulary);  // in how many earlier posts
    std::vector<std::size_t> counts(vocabulary);         // in how many held-out ones
    std::vector<std::uint32_t> words;
    for_posts(posts, words, [&](std::size_t /*user*/, bool held_out) {
      words.erase(std::unique(words.begin(), words.end()), words.end());
      for (const std::uint32_t word : words) held_out ? ++counts[word] : ++frequencies[word];
    });
    offsets_.resize(vocabulary + 1);
    std::partial_sum(counts.begin(), counts.end(), offsets_.begin() + 1);
    postings_.resize(offsets_.back());

    const double earlier = static_cast<double>(posts.posts() - posts.users());
    std::vector<std::size_t> next(offsets_.begin(), offsets_.end() - 1);
    std::vector<Entry> vector;
    for_posts(posts, words, [&](std::size_t user, bool held_out) {
      vector.clear();
      double squares = 0;
      for (std::size_t begin = 0, end = 0; begin < words.size(); begin = end) {
        while (end < words.size() && words[end] == words[begin]) ++end;
        const double idf = std::log((earlier + 1) / std::max(frequencies[words[begin]], 1U));
        const double value = (1 + std::log(static_cast<double>(end - begin))) * idf;
        squares += value * value;
        vector.push_back({words[begin], static_cast<float>(value)});
      }
      const auto factor = static_cast<float>(squares > 0 ? 1 / std::sqrt(squares) : 0);
      for (Entry& entry : vector) {
        entry.value *= factor;
        if (held_out) postings_[next[entry.id]++] = {static_cast<std::uint32_t>(user), entry.value};
      }
      if (!held_out) {
        entries_.insert(entries_.end(), vector.begin(), vector.end());
        entry_offsets_.push_back(entries_.size());
      }
    });
  }

  // best[c] = the largest cosine of candidate c to the user's earlier posts. `sums`: memory for it.
  void score(const UserPosts& posts, std::size_t user, std::vector<float>& sums,
             std::vector<float>& best) const {
    best.assign(posts.users(), kLowest);
    const std::size_t begin = posts.offsets[user] - user;  // one post of each user before is held out
    const std::size_t end = posts.held_out(user) - user;
    for (std::size_t post = begin; post < end; ++post) {
      sums.assign(posts.users(), 0);
      // Words ascend, so that each sum is added up in one order.
      for (std::size_t i = entry_offsets_[post]; i < entry_offsets_[post + 1]; ++i) {
        const auto [word, value] = entries_[i];
        for (std::size_t j = offsets_[word]; j < offsets_[word + 1]; ++j) {
          sums[postings_[j].id] += value * postings_[j].value;
        }
      }
      for (std::size_t i = 0; i < sums.size(); ++i) best[i] = std::max(best[i], sums[i]);
    }
  }

 private:
  struct Entry {
    std::uint32_t id;  // a word's, or a user's
    float value;
  };

  // Calls body(user, held_out) for every post in order, `words` being its words, ascending.
  template <typename Body>
  static void for_posts(const UserPosts& posts, std::vector<std::uint32_t>& words, const Body& body) {
    for (std::size_t user = 0; user < posts.users(); ++user) {
      for (std::size_t post = posts.offsets[user]; post < posts.offsets[user + 1]; ++post) {
        const auto tokens = posts.tokens_of(post);
        words.assign(tokens.begin(), tokens.end());
        std::sort(words.begin(), words.end());
        body(user, post == posts.held_out(user));
      }
    }
  }

  std::vector<Entry> entries_;                    // the earlier posts' vectors
  std::vector<std::size_t> entry_offsets_ = {0};  // [earlier posts + 1]
  std::vector<Entry> postings_;                   // the held-out posts' values, by word
  std::vector<std::size_t> offsets_;              // [words + 1]
};

// One plus the number of other candidates that score at least as much as the user's own; a score that is no
// number counts as more.
template <typename Score>
std::uint32_t rank_of(std::size_t user, const std::vector<std::uint8_t>& candidates, const Score& score) {
  const auto own = score(user);
  std::uint32_t rank = 0;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    rank += candidates[i] != 0 && !(score(i) < own) ? 1U : 0U;
  }
  return rank;
}

// One over the standard deviation of the candidates' scores; 0 if that is 0.
double inverse_deviation(const std::vector<std::uint8_t>& candidates, const float* scores) {
  double sum = 0;
  std::size_t count = 0;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    if (candidates[i] == 0) continue;
    sum += scores[i];
    ++count;
  }
  const double mean = sum / static_cast<double>(count);
  double squares = 0;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    if (candidates[i] != 0) squares += (scores[i] - mean) * (scores[i] - mean);
  }
  return squares > 0 ? 1 / std::sqrt(squares / static_cast<double>(count)) : 0;
}

// The scores by post vectors, a few users at a time.
class VectorScores {
 public:
  VectorScores(const UserPosts& posts, std::vector<float> vectors, std::size_t dim)
      : posts_(posts), vectors_(std::move(vectors)), dim_(dim) {
    normalize_rows(vectors_, dim);
    candidates_.reserve(posts.users() * dim);
    for (std::size_t user = 0; user < posts.users(); ++user) append(candidates_, posts.held_out(user));
  }

  // Those of users [begin, end), for all candidates: see of(). Memory for (end - begin) * users scores.
  void compute(std::size_t begin, std::size_t end, kernels::CpuContext& context) {
    const std::size_t users = posts_.users();
    begin_ = begin;
    best_.assign((end - begin) * users, kLowest);
    const std::size_t at_once = std::max<std::size_t>(1, kScoresAtOnce / users);
    for (std::size_t user = begin, post = posts_.offsets[begin]; user < end;) {
      earlier_.clear();
      spans_.clear();
      std::size_t count = 0;
      // A user with very many posts goes over several pieces.
      while (user < end && count < at_once) {
        const std::size_t taken = std::min(posts_.held_out(user) - post, at_once - count);
        for (std::size_t i = 0; i < taken; ++i) append(earlier_, post + i);
        spans_.push_back({user, count, count + taken});
        count += taken;
        post += taken;
        if (post == posts_.held_out(user)) {
          ++user;
          ++post;
        }
      }
      if (products_.size() < count * users) products_.resize(count * users);
      kernels::products({earlier_.data(), count, dim_}, {candidates_.data(), users, dim_}, nullptr,
                        products_.data(), context);
      context.pool.run(spans_.size(), [&](std::size_t i, std::size_t) {
        float* best = best_.data() + (spans_[i].user - begin) * users;
        for (std::size_t row = spans_[i].begin; row < spans_[i].end; ++row) {
          const float* scores = products_.data() + row * users;
          for (std::size_t candidate = 0; candidate < users; ++candidate) {
            best[candidate] = std::max(best[candidate], scores[candidate]);
          }
        }
      });
    }
  }

  [[nodiscard]] const float* of(std::size_t user) const {  // [users]
    return best_.data() + (user - begin_) * posts_.users();
  }

 private:
  struct Span {
    std::size_t user;
    std::size_t begin;  // rows of earlier_
    std::size_t end;
  };

  void append(std::vector<float>& rows, std::size_t post) const {
    const auto row = vectors_.begin() + static_cast<std::ptrdiff_t>(post * dim_);
    rows.insert(rows.end(), row, row + static_cast<std::ptrdiff_t>(dim_));
  }

  const UserPosts& posts_;
  std::vector<float> vectors_;     // [posts, dim]
  std::vector<float> candidates_;  // [users, dim]
  std::size_t dim_;
  std::size_t begin_ = 0;
  std::vector<float> best_;      // [users of compute(), users]
  std::vector<float> earlier_;   // [rows, dim]
  std::vector<Span> spans_;      // of earlier_
  std::vector<float> products_;  // [rows, users]
};

}  // namespace

std::vector<std::uint32_t> drawn_candidates(std::size_t users, std::uint32_t user,
                                            const RecommendationConfig& config) {
  // Floyd's way: the i-th draw is from one more than the draw before, and one that is there already stands
  // for the newcomer (Bentley, Floyd, "A sample of brilliance", CACM 1987).
  const std::size_t rest = users - 1;
  std::vector<std::uint8_t> drawn(rest);
  for (std::size_t newcomer = rest - config.others; newcomer < rest; ++newcomer) {
    const kernels::Philox4 words = kernels::random_words(config.seed, kernels::RandomStream::candidates, 0,
                                                         user, static_cast<std::uint32_t>(newcomer));
    const std::uint64_t random = words.word[0] | (std::uint64_t{words.word[1]} << 32U);
    const std::uint64_t draw = kernels::multiply_high(random, newcomer + 1);
    drawn[drawn[draw] != 0 ? newcomer : draw] = 1;
  }
  std::vector<std::uint32_t> candidates;
  for (std::uint32_t i = 0; i < rest; ++i) {
    if (drawn[i] != 0) candidates.push_back(i < user ? i : i + 1);
  }
  return candidates;
}

RecommendationRanks rank_held_out_posts(const UserPosts& posts, std::vector<float> vectors, std::size_t dim,
                                        const RecommendationConfig& config, kernels::CpuContext& context) {
  const std::size_t users = posts.users();
  RecommendationRanks ranks;
  ranks.encoder.resize(users);
  if (config.bag_of_words) {
    ranks.bag_of_words.resize(users);
    ranks.both.resize(users);
  }
  VectorScores by_vectors(posts, std::move(vectors), dim);
  std::optional<WordVectors> by_words;
  if (config.bag_of_words) by_words.emplace(posts);

  struct Memory {
    std::vector<std::uint8_t> candidates;  // [users] whether it is one
    std::vector<float> sums;
    std::vector<float> word_scores;
  };
  std::vector<Memory> memories(context.pool.threads());
  const std::size_t at_once = std::max<std::size_t>(1, kScoresAtOnce / users);
  for (std::size_t begin = 0; begin < users; begin += at_once) {
    const std::size_t end = std::min(users, begin + at_once);
    by_vectors.compute(begin, end, context);
    context.pool.run(end - begin, [&](std::size_t i, std::size_t thread) {
      const std::size_t user = begin + i;
      Memory& memory = memories[thread];
      std::vector<std::uint8_t>& candidates = memory.candidates;
      candidates.assign(users, config.others == 0 ? 1 : 0);
      if (config.others > 0) {
        for (const std::uint32_t other : drawn_candidates(users, static_cast<std::uint32_t>(user), config)) {
          candidates[other] = 1;
        }
        candidates[user] = 1;
      }
      const float* scores = by_vectors.of(user);
      ranks.encoder[user] = rank_of(user, candidates, [&](std::size_t other) { return scores[other]; });
      if (!by_words) return;
      by_words->score(posts, user, memory.sums, memory.word_scores);
      const float* word_scores = memory.word_scores.data();
      ranks.bag_of_words[user] =
          rank_of(user, candidates, [&](std::size_t other) { return word_scores[other]; });
      const double factor = inverse_deviation(candidates, scores);
      const double word_factor = config.weight * inverse_deviation(candidates, word_scores);
      ranks.both[user] = rank_of(user, candidates, [&](std::size_t other) {
        return factor * scores[other] + word_factor * word_scores[other];
      });
    });
  }
  return ranks;
}

}  // namespace tagspace
