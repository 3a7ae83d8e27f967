// A sparse linear model of hashtags: what single words, pairs of words and beginnings of words say for or
// against a hashtag. It remembers what the vectors of a few dozen numbers cannot.
//
//   s(post, h) = -1 + sum over the post's features f of value[f] * weight[f, h]
//
// There is a weight for every feature and hashtag that occur together on a training post, and for hashtags
// whose name is the feature. Free of LibTorch.
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

// The weights by feature, as LexicalArrays has them.
struct LexicalWeights {
  std::span<const std::uint32_t> offsets;
  std::span<const std::uint32_t> hashtags;
  std::span<const float> weights;

  // scores[h] += factor * (s(post, h) + 1) for all hashtags.
  void add_scores(std::span<const LexicalFeature> vector, float factor, std::span<float> scores) const;
};

// A model in memory; the order of things in the file, too.
struct LexicalArrays {
  std::vector<std::uint64_t> keys;     // [features] ascending
  std::vector<float> feature_weights;  // [features] see LexicalVocabulary
  std::vector<std::uint32_t>
      offsets;  // [features + 1]: feature f has the weights offsets[f] .. offsets[f + 1]
  std::vector<std::uint32_t> hashtags;  // [weights] ascending within a feature
  std::vector<float> weights;           // [weights]

  [[nodiscard]] LexicalVocabulary vocabulary() const { return {keys, feature_weights}; }
  [[nodiscard]] LexicalWeights by_feature() const { return {offsets, hashtags, weights}; }
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

  // scores[h] = mixture().embedding * scores[h] + mixture().lexical * (s(post, h) + 1). Thread-safe.
  void mix_into(std::span<const std::uint32_t> tokens, std::span<float> scores) const;

  // The features of a post that add most to a hashtag's score, the largest first, only those that add: their
  // texts and what they add, the mixture's factor included.
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
  LexicalVocabulary vocabulary_;
  LexicalWeights weights_;
};

}  // namespace tagspace
