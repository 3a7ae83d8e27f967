#include "model/lexical/lexical_model.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace tagspace {

void LexicalScorer::add_products(std::span<const LexicalFeature> vector, float factor,
                                 std::span<float> sums) const {
  for (const LexicalFeature& feature : vector) {
    const float value = factor * feature.value;
    for (std::size_t i = offsets[feature.number]; i < offsets[feature.number + 1]; ++i)
      sums[targets[i]] += value * weights[i];
  }
}

std::vector<LexicalScorer::Neighbor> LexicalScorer::nearest(std::span<const LexicalFeature> vector) const {
  std::vector<float> cosines(post_offsets.size() - 1);
  add_products(vector, 1, cosines);
  std::vector<Neighbor> found;
  for (std::uint32_t post = 0; post < cosines.size(); ++post) {
    if (cosines[post] > 0) found.push_back({post, cosines[post]});
  }
  const std::size_t count = std::min<std::size_t>(neighbors, found.size());
  std::partial_sort(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(count), found.end(),
                    [](const Neighbor& a, const Neighbor& b) {
                      return a.cosine != b.cosine ? a.cosine > b.cosine : a.post < b.post;
                    });
  found.resize(count);
  return found;
}

bool LexicalScorer::carries(std::uint32_t post, std::uint32_t hashtag) const {
  return std::binary_search(post_hashtags.begin() + post_offsets[post],
                            post_hashtags.begin() + post_offsets[post + 1], hashtag);
}

void LexicalScorer::add_scores(std::span<const LexicalFeature> vector, float factor,
                               std::span<float> scores) const {
  if (!votes()) {
    add_products(vector, factor, scores);
    return;
  }
  for (const auto& [post, cosine] : nearest(vector)) {
    const float vote = factor * cosine;
    for (std::size_t i = post_offsets[post]; i < post_offsets[post + 1]; ++i)
      scores[post_hashtags[i]] += vote;
  }
}

std::vector<float> LexicalScorer::parts(std::span<const LexicalFeature> vector, std::uint32_t hashtag) const {
  std::vector<float> parts(vector.size());
  std::vector<Neighbor> voters;
  if (votes()) {
    voters = nearest(vector);
    std::erase_if(voters, [&](const Neighbor& voter) { return !carries(voter.post, hashtag); });
  } else {
    voters.push_back({hashtag, 0});
  }
  for (std::size_t i = 0; i < vector.size(); ++i) {
    const auto begin = targets.begin() + offsets[vector[i].number];
    const auto end = targets.begin() + offsets[vector[i].number + 1];
    for (const auto& [target, cosine] : voters) {
      const auto at = std::lower_bound(begin, end, target);
      if (at == end || *at != target) continue;
      parts[i] += vector[i].value * weights[static_cast<std::size_t>(at - targets.begin())];
    }
  }
  return parts;
}

void write_lexical_model(const std::filesystem::path& path, const LexicalArrays& arrays,
                         const ScoreMixture& mixture, const std::string& state) {
  const std::vector<std::uint32_t> halves = to_halves(arrays.keys);
  const float factors[] = {mixture.embedding, mixture.lexical};
  const std::uint64_t features = arrays.keys.size();
  const std::uint64_t weights = arrays.weights.size();
  std::vector<NamedArray> named = {
      {"features.keys", {features, 2}, nullptr, halves.data()},
      {"features.weights", {features}, arrays.feature_weights.data()},
      {"offsets", {features + 1}, nullptr, arrays.offsets.data()},
      {"hashtags", {weights}, nullptr, arrays.targets.data()},
      {"weights", {weights}, arrays.weights.data()},
      {"mixture", {2}, factors},
  };
  if (arrays.neighbors > 0) {
    named[3].name = "posts";
    named.push_back({"posts.offsets", {arrays.post_offsets.size()}, nullptr, arrays.post_offsets.data()});
    named.push_back({"posts.hashtags", {arrays.post_hashtags.size()}, nullptr, arrays.post_hashtags.data()});
    named.push_back({"neighbors", {1}, nullptr, &arrays.neighbors});
  }
  write_checkpoint(path, named, state);
}

LexicalModel::LexicalModel(const std::filesystem::path& path, std::vector<std::string> tokens,
                           std::uint32_t hashtags)
    : keys_(std::move(tokens)), file_(path) {
  const auto has = [&](const char* name) {
    return std::any_of(file_.arrays().begin(), file_.arrays().end(),
                       [&](const NamedArray& array) { return array.name == name; });
  };
  const auto size_of = [&](const char* name) -> std::uint64_t {
    for (const NamedArray& array : file_.arrays()) {
      if (array.name == name && !array.shape.empty()) return array.shape[0];
    }
    throw Error("'" + path.string() + "' has no array '" + name + "'");
  };
  const std::uint64_t features = size_of("features.weights");
  const std::uint64_t count = size_of("weights");
  feature_keys_ = from_halves(file_.get_integers("features.keys", {features, 2}));
  scorer_.vocabulary = {feature_keys_, file_.get("features.weights", {features})};
  scorer_.offsets = file_.get_integers("offsets", {features + 1});
  scorer_.weights = file_.get("weights", {count});
  const bool votes = has("neighbors");
  scorer_.targets = file_.get_integers(votes ? "posts" : "hashtags", {count});
  std::uint64_t all_targets = hashtags;
  // The checksum holds, so that this is for files that another program has made.
  const auto in_order = [](std::span<const std::uint32_t> offsets, std::uint64_t end) {
    return !offsets.empty() && std::is_sorted(offsets.begin(), offsets.end()) && offsets.front() == 0 &&
           offsets.back() == end;
  };
  const auto within = [](std::span<const std::uint32_t> ids, std::uint64_t end) {
    return std::all_of(ids.begin(), ids.end(), [&](std::uint32_t id) { return id < end; });
  };
  bool whole = in_order(scorer_.offsets, count);
  if (votes) {
    scorer_.neighbors = file_.get_integers("neighbors", {1})[0];
    scorer_.post_offsets = file_.get_integers("posts.offsets", {size_of("posts.offsets")});
    scorer_.post_hashtags = file_.get_integers("posts.hashtags", {size_of("posts.hashtags")});
    whole = whole && scorer_.neighbors > 0 && in_order(scorer_.post_offsets, scorer_.post_hashtags.size()) &&
            within(scorer_.post_hashtags, hashtags);
    all_targets = scorer_.post_offsets.size() - 1;
  }
  if (!whole || !within(scorer_.targets, all_targets))
    throw Error("'" + path.string() + "' is no model of this run's hashtags");
  const auto factors = file_.get("mixture", {2});
  mixture_ = {factors[0], factors[1]};
}

void LexicalModel::mix_into(std::span<const std::uint32_t> tokens, std::span<float> scores) const {
  for (float& score : scores) score *= mixture_.embedding;
  scorer_.add_scores(lexical_vector(keys_, scorer_.vocabulary, tokens), mixture_.lexical, scores);
}

std::vector<LexicalModel::Reason> LexicalModel::reasons(std::span<const std::uint32_t> tokens,
                                                        std::uint32_t hashtag, std::size_t most) const {
  std::vector<Reason> found;
  const std::vector<LexicalFeature> vector = lexical_vector(keys_, scorer_.vocabulary, tokens);
  const std::vector<float> parts = scorer_.parts(vector, hashtag);
  for (std::size_t i = 0; i < vector.size(); ++i) {
    std::string text = keys_.text(scorer_.vocabulary.keys[vector[i].number], tokens);
    const float score = mixture_.lexical * parts[i];
    // A constant or a size has no text.
    if (score > 0 && !text.empty()) found.push_back({std::move(text), score});
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const Reason& a, const Reason& b) { return a.score > b.score; });
  if (found.size() > most) found.resize(most);
  return found;
}

}  // namespace tagspace
