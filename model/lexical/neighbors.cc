#include "model/lexical/neighbors.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/error.h"
#include "model/lexical/sorted_counts.h"

namespace tagspace {

LexicalArrays index_neighbors(const LexicalKeys& keys, const TrainingPosts& posts, std::uint32_t neighbors) {
  LexicalArrays arrays;
  arrays.neighbors = neighbors;
  SortedCounts counts;
  std::vector<std::uint64_t> of_post;
  for (std::uint64_t post = 0; post < posts.count; ++post) {
    keys.of_post(posts.tokens(post), of_post);
    std::erase_if(of_post, LexicalKeys::is_beginning);
    std::sort(of_post.begin(), of_post.end());
    of_post.erase(std::unique(of_post.begin(), of_post.end()), of_post.end());
    counts.add(of_post);
  }
  arrays.offsets.push_back(0);
  std::uint64_t entries = 0;
  for (const auto& [key, count] : counts.take()) {
    const double rarity = std::log(static_cast<double>(posts.count + 1) / count);
    arrays.keys.push_back(key);
    arrays.feature_weights.push_back(LexicalKeys::weight_of_kind(key) * static_cast<float>(rarity));
    entries += count;
    arrays.offsets.push_back(static_cast<std::uint32_t>(entries));
  }
  if (std::max(entries, posts.count) >= std::numeric_limits<std::uint32_t>::max()) {
    throw Error(
        "lexical.type \"neighbors\" would keep more than 4,294,967,295 words and pairs of words of these "
        "training posts");
  }
  arrays.targets.resize(entries);
  arrays.weights.resize(entries);
  std::vector<std::uint32_t> next(arrays.offsets.begin(), arrays.offsets.end() - 1);
  arrays.post_offsets.push_back(0);
  for (std::uint32_t post = 0; post < posts.count; ++post) {
    for (const auto& [feature, value] : lexical_vector(keys, arrays.vocabulary(), posts.tokens(post))) {
      arrays.targets[next[feature]] = post;
      arrays.weights[next[feature]++] = value;
    }
    const auto own = posts.hashtags(post);
    arrays.post_hashtags.insert(arrays.post_hashtags.end(), own.begin(), own.end());
    arrays.post_offsets.push_back(static_cast<std::uint32_t>(arrays.post_hashtags.size()));
  }
  return arrays;
}

}  // namespace tagspace
