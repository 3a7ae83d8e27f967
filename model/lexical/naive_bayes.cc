#include "model/lexical/naive_bayes.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "base/error.h"
#include "model/lexical/sorted_counts.h"

namespace tagspace {

LexicalArrays train_naive_bayes(const LexicalKeys& keys, const TrainingPosts& posts, std::uint32_t hashtags,
                                double smoothing) {
  LexicalArrays arrays;
  SortedCounts of_features;
  std::vector<std::uint64_t> of_post;
  const auto read = [&](std::uint64_t post) {
    keys.of_post(posts.tokens(post), of_post);
    std::erase_if(of_post, LexicalKeys::is_beginning);
  };
  for (std::uint64_t post = 0; post < posts.count; ++post) {
    read(post);
    of_features.add(of_post);
  }
  std::vector<double> shares;  // P(f), as a count at first
  for (const auto& [key, count] : of_features.take()) {
    arrays.keys.push_back(key);
    shares.push_back(count);
  }
  const double all = std::accumulate(shares.begin(), shares.end(), 0.0);
  for (double& share : shares) share /= all;

  SortedCounts of_places;               // feature * 2^32 + hashtag
  std::vector<double> sizes(hashtags);  // c[h]
  std::vector<double> carriers(hashtags);
  const LexicalVocabulary vocabulary = arrays.vocabulary();
  std::vector<std::uint64_t> places;
  for (std::uint64_t post = 0; post < posts.count; ++post) {
    read(post);
    places.clear();
    for (const std::uint64_t key : of_post) {
      const std::uint64_t feature = vocabulary.find(key);
      for (const std::uint32_t hashtag : posts.hashtags(post)) places.push_back((feature << 32U) | hashtag);
    }
    of_places.add(places);
    for (const std::uint32_t hashtag : posts.hashtags(post)) {
      sizes[hashtag] += static_cast<double>(of_post.size());
      ++carriers[hashtag];
    }
  }

  const auto met = of_places.take();
  if (arrays.keys.size() + 2 > std::numeric_limits<std::uint32_t>::max() ||
      met.size() + 2 * std::uint64_t{hashtags} > std::numeric_limits<std::uint32_t>::max()) {
    throw Error(
        "lexical.type \"naive_bayes\" would have more than 4,294,967,295 weights for these training posts");
  }
  for (const std::uint64_t key : arrays.keys)
    arrays.feature_weights.push_back(LexicalKeys::weight_of_kind(key));
  for (const std::uint64_t key : {LexicalKeys::kConstant, LexicalKeys::kSize}) {
    arrays.keys.push_back(key);
    arrays.feature_weights.push_back(1);
  }
  arrays.offsets.assign(arrays.keys.size() + 1, 0);
  for (const auto& [place, count] : met) {
    const std::size_t feature = place >> 32U;
    ++arrays.offsets[feature + 1];
    arrays.targets.push_back(static_cast<std::uint32_t>(place));
    arrays.weights.push_back(static_cast<float>(std::log1p(count / (smoothing * shares[feature]))));
  }
  const double all_carriers = std::accumulate(carriers.begin(), carriers.end(), 0.0);
  const auto add_to_all = [&](std::size_t feature, const auto& weight_of) {
    arrays.offsets[feature + 1] = hashtags;
    for (std::uint32_t hashtag = 0; hashtag < hashtags; ++hashtag) {
      arrays.targets.push_back(hashtag);
      arrays.weights.push_back(static_cast<float>(weight_of(hashtag)));
    }
  };
  // A hashtag has training posts, but for those whose text is empty: half a post to it then, not log 0.
  add_to_all(arrays.keys.size() - 2,
             [&](std::uint32_t h) { return std::log(std::max(0.5, carriers[h]) / all_carriers); });
  add_to_all(arrays.keys.size() - 1, [&](std::uint32_t h) { return -std::log1p(sizes[h] / smoothing); });
  std::partial_sum(arrays.offsets.begin(), arrays.offsets.end(), arrays.offsets.begin());
  return arrays;
}

}  // namespace tagspace
