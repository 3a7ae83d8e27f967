// Sparse models of hashtags: what single words, pairs of words and beginnings of words say for or against a
// hashtag. They remember what the vectors of a few dozen numbers cannot. Free of LibTorch.
//
// A linear one (lexical_trainer.h), and naive Bayes (naive_bayes.h):
//
//   s(post, h) = sum over the post's features f of value[f] * weight[f, h]
//
// There is a weight for every feature and hashtag that occur together on a training post, and, linear, for
// hashtags whose name is the feature.
//
// Neighbours (neighbors.h): the weights by feature are the training posts' own vectors, so that the same sum
// gives the cosine to every training post; the k posts of the largest cosines vote for their hashtags:
//
//   s(post, h) = sum over those neighbours n that carry h of cosine(post, n)
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "model/checkpoint.h"
#include "model/lexical/lexical_features.h"

namespace tagspace {

// How its score and the embedding's make one: embedding * <p, T[h]> + lexical * s(post, h).
struct ScoreMixture {
  float embedding = 1;
  float lexical = 0;
};

// What scores are computed from: the arrays of a LexicalArrays, in memory or in a file.
struct LexicalScorer {
  LexicalVocabulary vocabulary;
  std::span<const std::uint32_t> offsets;
  std::span<const std::uint32_t> targets;
  std::span<const float> weights;
  std::span<const std::uint32_t> post_offsets;
  std::span<const std::uint32_t> post_hashtags;
  std::uint32_t neighbors = 0;

  // scores[h] += factor * s(post, h) for all hashtags, the post given by its vector of this vocabulary.
  void add_scores(std::span<const LexicalFeature> vector, float factor, std::span<float> scores) const;
  // Which part of s(post, h) each feature of the vector makes; the parts add up to it.
  [[nodiscard]] std::vector<float> parts(std::span<const LexicalFeature> vector, std::uint32_t hashtag) const;

 private:
  [[nodiscard]] bool votes() const { return neighbors > 0; }
  void add_products(std::span<const LexicalFeature> vector, float factor, std::span<float> sums) const;
  struct Neighbor {
    std::uint32_t post;
    float cosine;
  };
  // The largest cosines above 0, at most `neighbors`; of equal ones, the earlier posts.
  [[nodiscard]] std::vector<Neighbor> nearest(std::span<const LexicalFeature> vector) const;
  [[nodiscard]] bool carries(std::uint32_t post, std::uint32_t hashtag) const;
};

// A model in memory; the order of things in the file, too.
struct LexicalArrays {
  std::vector<std::uint64_t> keys;     // [features] ascending
  std::vector<float> feature_weights;  // [features] see LexicalVocabulary
  std::vector<std::uint32_t>
      offsets;  // [features + 1]: feature f has the weights offsets[f] .. offsets[f + 1]
  // Hashtags, or of neighbours, training posts: ascending within a feature.
  std::vector<std::uint32_t> targets;  // [weights]
  std::vector<float> weights;          // [weights]
  // Of neighbours only: the training posts' hashtags, and how many posts vote.
  std::vector<std::uint32_t> post_offsets;   // [posts + 1]
  std::vector<std::uint32_t> post_hashtags;  // ascending within a post
  std::uint32_t neighbors = 0;

  [[nodiscard]] LexicalVocabulary vocabulary() const { return {keys, feature_weights}; }
  [[nodiscard]] LexicalScorer scorer() const {
    return {vocabulary(), offsets, targets, weights, post_offsets, post_hashtags, neighbors};
  }
};

// Whole or not at all.
void write_lexical_model(const std::filesystem::path& path, const LexicalArrays& arrays,
                         const ScoreMixture& mixture, const std::string& state);

class LexicalModel {
 public:
  // Maps and verifies the file. Error, naming it, if it is missing, damaged, or of another number of
  // hashtags. `tokens`: the texts of the run's vocabulary.
  LexicalModel(const std::filesystem::path& path, std::vector<std::string> tokens, std::uint32_t hashtags);

  [[nodiscard]] const ScoreMixture& mixture() const { return mixture_; }

  // scores[h] = mixture().embedding * scores[h] + mixture().lexical * s(post, h). Thread-safe.
  void mix_into(std::span<const std::uint32_t> tokens, std::span<float> scores) const;

  // The features of a post that add most to a hashtag's score, the largest first, only those that add: their
  // texts and what they add, the mixture's factor included. Of neighbours, what they have in common with the
  // post.
  struct Reason {
    std::string text;
    float score = 0;
  };
  [[nodiscard]] std::vector<Reason> reasons(std::span<const std::uint32_t> tokens, std::uint32_t hashtag,
                                            std::size_t most) const;

 private:
  LexicalKeys keys_;
  CheckpointFile file_;
  ScoreMixture mixture_;
  std::vector<std::uint64_t> feature_keys_;
  LexicalScorer scorer_;
};

}  // namespace tagspace
