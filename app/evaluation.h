// How good a model's rankings are, beside two baselines and for hashtags of different frequency.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "app/reliability.h"
#include "data_pipeline/corpus.h"
#include "data_pipeline/posts.h"
#include "model/inference/ranking.h"

namespace tagspace {

// A part of the hashtag table, by frequency: the table is most frequent first, so it is a range of rows.
struct FrequencyGroup {
  const char* name = "";
  std::uint32_t begin = 0;
  std::uint32_t end = 0;

  std::uint64_t posts = 0;  // posts that carry one of the group
  double recall_at_10 =
      0;  // the share of a post's hashtags of the group among the first ten, summed over those
  std::uint64_t predictions = 0;  // posts whose first-ranked hashtag is of the group
  std::uint64_t correct = 0;      // those of them that carry it
};

// Frequent, middling and rare hashtags, each about a third of all the hashtags on training posts.
[[nodiscard]] std::array<FrequencyGroup, 3> frequency_groups(const HashtagVocabulary& hashtags);

// Rows of the hashtags that are words of the post's text, ascending.
[[nodiscard]] std::vector<std::uint32_t> hashtags_among_words(const Post& post,
                                                              const HashtagVocabulary& hashtags);

// The ranks of the hashtags `own` where the hashtags `first`, ascending, come before all others, and both in
// the order of the table: by frequency.
[[nodiscard]] std::vector<std::uint32_t> baseline_ranks(std::span<const std::uint32_t> first,
                                                        std::span<const std::uint32_t> own);

class Evaluation {
 public:
  explicit Evaluation(const HashtagVocabulary& hashtags);

  // Of an answer, its probability and whether the post's author used the hashtag.
  struct Answer {
    double probability = 0;
    bool used = false;
  };
  static constexpr std::size_t kAnswers = 10;  // of a post, whose probabilities are measured

  // What one post adds; may be computed on any thread. `own`: the post's hashtags; `ranks`: their ranks, by
  // the model; `predicted`: the hashtag that it ranks first; `vector_ranks`: where the model is more than
  // vectors, the ranks by these alone, else none.
  struct PostResult {
    RankingMetrics model;
    RankingMetrics vectors;
    RankingMetrics frequency;
    RankingMetrics words;
    std::array<FrequencyGroup, 3> groups;  // this post's sums alone
    std::vector<Answer> answers;           // its first kAnswers, if probabilities are measured; of any post
  };
  [[nodiscard]] PostResult measure(const Post& post, std::span<const std::uint32_t> own,
                                   std::span<const std::uint32_t> ranks, std::uint32_t predicted,
                                   std::span<const std::uint32_t> vector_ranks = {}) const;
  void add(const PostResult& result);

  [[nodiscard]] std::uint64_t posts() const { return model_.posts; }
  // The probabilities of the posts' first answers.
  [[nodiscard]] const Reliability& first_answers() const { return first_answers_; }
  // Everything, for programs.
  [[nodiscard]] nlohmann::ordered_json to_json() const;
  // A table, for people; `name` is the model's row.
  [[nodiscard]] std::string to_table(const std::string& name) const;

 private:
  const HashtagVocabulary* hashtags_;
  RankingMetrics model_;
  RankingMetrics vectors_;
  RankingMetrics frequency_;
  RankingMetrics words_;
  std::array<FrequencyGroup, 3> groups_;
  Reliability first_answers_;
  Reliability first_ten_;
};

}  // namespace tagspace
