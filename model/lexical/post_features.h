// More of a post than its words for the encoder bag: pairs of neighbouring words and beginnings of words,
// each with a vector of its own in the word table, below those of the words (fastText's bags of n-grams:
// Joulin, Grave, Bojanowski, Mikolov, EACL 2017; here without collisions).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "data_pipeline/packed_batch.h"
#include "model/lexical/lexical_features.h"
#include "model/lexical/training_posts.h"

namespace tagspace {

class PostFeatures {
 public:
  struct Kinds {
    bool pairs = false;
    bool beginnings = false;  // the first 4, 5 and 6 letters

    [[nodiscard]] bool any() const { return pairs || beginnings; }
  };

  // Those that at least `min_posts` of the posts have, whose hashtags do not matter. `texts` of the
  // vocabulary's tokens, by id. Error if table rows would not fit into 32 bits.
  [[nodiscard]] static PostFeatures count(std::span<const std::string> texts, Kinds kinds,
                                          const TrainingPosts& posts, std::uint32_t min_posts);

  // Those that save() wrote. Error, naming the file, if it is missing or damaged.
  [[nodiscard]] static PostFeatures load(const std::filesystem::path& path,
                                         std::span<const std::string> texts, Kinds kinds);
  // Whole or not at all.
  void save(const std::filesystem::path& path) const;

  // Rows of the word table: tokens, then features.
  [[nodiscard]] std::uint32_t rows() const { return tokens_ + static_cast<std::uint32_t>(places_.size()); }

  // After each token of a post its features, as rows of the table, in place of the tokens alone. Thread-safe.
  void expand(PackedBatch& batch) const;
  [[nodiscard]] PackedBatch expanded(const PackedBatch& batch) const;  // less the hashtags: posts to encode
  void expand(std::span<const std::uint32_t> tokens, std::vector<std::uint32_t>& rows) const;  // appends

 private:
  PostFeatures(std::span<const std::string> texts, Kinds kinds, std::vector<std::uint64_t> places);

  // The row of the feature at this place; rows() if there is none.
  [[nodiscard]] std::uint32_t find(std::uint64_t place) const;

  std::uint32_t tokens_ = 0;
  Kinds kinds_;
  // The features' keys, turned so that the highest bits are evenly distributed, ascending; and where those
  // begin whose highest bits are 0, 1, 2 ...: a search looks at two or three.
  std::vector<std::uint64_t> places_;
  unsigned bucket_bits_ = 0;
  std::vector<std::uint32_t> buckets_;            // [2^bucket_bits + 1]
  std::vector<std::uint32_t> beginnings_;         // rows, of all tokens, end to end
  std::vector<std::uint32_t> beginning_offsets_;  // [tokens + 1]
};

}  // namespace tagspace
