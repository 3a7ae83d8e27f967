#include "model/lexical/lexical_model.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace tagspace {

void LexicalWeights::add_scores(std::span<const LexicalFeature> vector, float factor,
                                std::span<float> scores) const {
  for (const LexicalFeature& feature : vector) {
    const float value = factor * feature.value;
    for (std::size_t i = offsets[feature.number]; i < offsets[feature.number + 1]; ++i)
      scores[hashtags[i]] += value * weights[i];
  }
}

void write_lexical_model(const std::filesystem::path& path, const LexicalArrays& arrays,
                         const ScoreMixture& mixture, const std::string& state) {
  // Keys of 64 bits as two of 32, the low half first.
  std::vector<std::uint32_t> halves;
  halves.reserve(2 * arrays.keys.size());
  for (const std::uint64_t key : arrays.keys) {
    halves.push_back(static_cast<std::uint32_t>(key));
    halves.push_back(static_cast<std::uint32_t>(key >> 32U));
  }
  const float factors[] = {mixture.embedding, mixture.lexical};
  const std::uint64_t features = arrays.keys.size();
  const std::uint64_t weights = arrays.weights.size();
  const std::vector<NamedArray> named = {
      {"features.keys", {features, 2}, nullptr, halves.data()},
      {"features.weights", {features}, arrays.feature_weights.data()},
      {"offsets", {features + 1}, nullptr, arrays.offsets.data()},
      {"hashtags", {weights}, nullptr, arrays.hashtags.data()},
      {"weights", {weights}, arrays.weights.data()},
      {"mixture", {2}, factors},
  };
  write_checkpoint(path, named, state);
}

LexicalModel::LexicalModel(const std::filesystem::path& path, std::vector<std::string> tokens,
                           std::uint32_t hashtags)
    : keys_(std::move(tokens)), file_(path) {
  const auto sizes_of = [&](const char* name) -> std::uint64_t {
    for (const NamedArray& array : file_.arrays()) {
      if (array.name == name && !array.shape.empty()) return array.shape[0];
    }
    throw Error("'" + path.string() + "' has no array '" + name + "'");
  };
  const std::uint64_t features = sizes_of("features.weights");
  const std::uint64_t count = sizes_of("weights");
  const auto halves = file_.get_integers("features.keys", {features, 2});
  feature_keys_.reserve(features);
  for (std::size_t i = 0; i < features; ++i)
    feature_keys_.push_back(halves[2 * i] | (std::uint64_t{halves[2 * i + 1]} << 32U));
  vocabulary_ = {feature_keys_, file_.get("features.weights", {features})};
  weights_ = {file_.get_integers("offsets", {features + 1}), file_.get_integers("hashtags", {count}),
              file_.get("weights", {count})};
  const auto factors = file_.get("mixture", {2});
  mixture_ = {factors[0], factors[1]};
  // The checksum holds, so that this is for files that another program has made.
  const bool in_order = std::is_sorted(weights_.offsets.begin(), weights_.offsets.end()) &&
                        weights_.offsets.front() == 0 && weights_.offsets.back() == count;
  const bool within = std::all_of(weights_.hashtags.begin(), weights_.hashtags.end(),
                                  [&](std::uint32_t hashtag) { return hashtag < hashtags; });
  if (!in_order || !within) throw Error("'" + path.string() + "' is no model of this run's hashtags");
}

void LexicalModel::mix_into(std::span<const std::uint32_t> tokens, std::span<float> scores) const {
  for (float& score : scores) score *= mixture_.embedding;
  weights_.add_scores(lexical_vector(keys_, vocabulary_, tokens), mixture_.lexical, scores);
}

std::vector<LexicalModel::Reason> LexicalModel::reasons(std::span<const std::uint32_t> tokens,
                                                        std::uint32_t hashtag, std::size_t most) const {
  std::vector<Reason> found;
  for (const LexicalFeature& feature : lexical_vector(keys_, vocabulary_, tokens)) {
    const auto begin = weights_.hashtags.begin() + weights_.offsets[feature.number];
    const auto end = weights_.hashtags.begin() + weights_.offsets[feature.number + 1];
    const auto at = std::lower_bound(begin, end, hashtag);
    if (at == end || *at != hashtag) continue;
    const float score = mixture_.lexical * feature.value *
                        weights_.weights[static_cast<std::size_t>(at - weights_.hashtags.begin())];
    if (score > 0) found.push_back({keys_.text(vocabulary_.keys[feature.number], tokens), score});
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const Reason& a, const Reason& b) { return a.score > b.score; });
  if (found.size() > most) found.resize(most);
  return found;
}

}  // namespace tagspace
