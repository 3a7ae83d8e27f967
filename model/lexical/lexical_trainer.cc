#include "model/lexical/lexical_trainer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <unordered_map>

#include "base/error.h"
#include "base/files.h"
#include "base/random.h"
#include "model/kernels/tasks.h"
#include "model/lexical/sorted_counts.h"

namespace tagspace {
namespace {

constexpr float kSmallSlope = 1e-5F;        // smaller ones change no weight
constexpr float kWeightOfName = 1;          // of a token, or a pair, that is a hashtag's name
constexpr float kWeightOfBeginning = 0.3F;  // of the beginnings of the name

// A name as it may stand in a text: "stock_exchange" as "stock exchange" or "stockexchange".
std::string joined(const std::string& name) {
  std::string text;
  for (const char c : name) {
    if (c != '_' && c != ' ') text += c;
  }
  return text;
}

}  // namespace

LexicalTrainer::LexicalTrainer(const LexicalKeys& keys, TrainingPosts posts,
                               std::span<const std::string> hashtag_names, const Options& options,
                               kernels::CpuContext& context)
    : keys_(keys),
      hashtags_(hashtag_names.size()),
      posts_(std::move(posts)),
      options_(options),
      context_(context),
      vectors_(kPostsAtOnce),
      slopes_(kPostsAtOnce * hashtag_names.size()),
      losses_(kPostsAtOnce) {
  count_features();
  find_weights(hashtag_names);
}

void LexicalTrainer::count_features() {
  SortedCounts counts;
  std::vector<std::uint64_t> keys;
  for (std::uint64_t post = 0; post < posts_.count; ++post) {
    keys_.of_post(posts_.tokens(post), keys);
    std::sort(keys.begin(), keys.end());
    keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
    counts.add(keys);
  }
  for (const auto& [key, count] : counts.take()) {
    const double rarity = std::log(static_cast<double>(posts_.count + 1) / count);
    arrays_.keys.push_back(key);
    arrays_.feature_weights.push_back(LexicalKeys::weight_of_kind(key) * static_cast<float>(rarity));
  }
  if (arrays_.keys.size() >= std::numeric_limits<std::uint32_t>::max()) {
    throw Error(
        "the training posts have more than 4,294,967,295 words, pairs of words and beginnings of words: "
        "too many for lexical.type \"linear\"");
  }
}

// The features and hashtags that occur together, and those that are names.
void LexicalTrainer::find_weights(std::span<const std::string> hashtag_names) {
  const LexicalVocabulary vocabulary = arrays_.vocabulary();
  const auto place_of = [](std::size_t feature, std::uint32_t hashtag) {
    return (std::uint64_t{feature} << 32U) | hashtag;
  };
  std::vector<std::pair<std::uint64_t, float>> first;  // weights that do not begin at 0
  const auto begin_with = [&](std::uint64_t key, std::uint32_t hashtag, float weight) {
    const std::size_t feature = vocabulary.find(key);
    if (feature < vocabulary.keys.size()) first.emplace_back(place_of(feature, hashtag), weight);
  };
  std::unordered_map<std::string, std::uint32_t> names;
  std::vector<std::uint64_t> keys;
  for (std::uint32_t h = 0; h < hashtag_names.size(); ++h) {
    names[joined(hashtag_names[h])] = h;
    keys.clear();
    LexicalKeys::of_beginnings(hashtag_names[h], keys);
    for (const std::uint64_t key : keys) begin_with(key, h, kWeightOfBeginning);
  }
  for (std::uint32_t token = 0; token < keys_.tokens().size(); ++token) {
    const auto name = names.find(joined(keys_.tokens()[token]));
    if (name != names.end()) begin_with(LexicalKeys::of_token(token), name->second, kWeightOfName);
  }

  SortedCounts counts;
  std::vector<LexicalFeature> vector;
  std::vector<std::uint64_t> places;
  std::string pair;
  for (std::uint64_t post = 0; post < posts_.count; ++post) {
    const auto tokens = posts_.tokens(post);
    for (std::size_t i = 1; i < tokens.size(); ++i) {
      pair = joined(keys_.tokens()[tokens[i - 1]]) + joined(keys_.tokens()[tokens[i]]);
      const auto name = names.find(pair);
      if (name == names.end()) continue;
      begin_with(LexicalKeys::of_pair(tokens[i - 1], tokens[i]), name->second, kWeightOfName);
    }
    keys_.of_post(tokens, keys);
    vocabulary.vector_of(keys, vector);
    places.clear();
    for (const LexicalFeature& feature : vector) {
      for (const std::uint32_t hashtag : posts_.hashtags(post))
        places.push_back(place_of(feature.number, hashtag));
    }
    counts.add(places);
  }
  std::sort(first.begin(), first.end());
  first.erase(std::unique(first.begin(), first.end()), first.end());
  for (const auto& [place, weight] : first) counts.add({&place, 1});

  const auto all = counts.take();
  if (all.size() >= std::numeric_limits<std::uint32_t>::max()) {
    throw Error(
        "lexical.type \"linear\" would have more than 4,294,967,295 weights for these training posts");
  }
  arrays_.offsets.assign(arrays_.keys.size() + 1, 0);
  arrays_.targets.reserve(all.size());
  arrays_.weights.reserve(all.size());
  auto next = first.begin();
  for (const auto& [place, count] : all) {
    ++arrays_.offsets[(place >> 32U) + 1];
    arrays_.targets.push_back(static_cast<std::uint32_t>(place));
    float weight = 0;
    for (; next != first.end() && next->first == place; ++next) weight += next->second;
    arrays_.weights.push_back(weight);
  }
  std::partial_sum(arrays_.offsets.begin(), arrays_.offsets.end(), arrays_.offsets.begin());
}

double LexicalTrainer::train_epoch(std::uint64_t epoch, const std::function<bool()>& stop_asked) {
  std::vector<std::uint64_t> order(posts_.count);
  std::iota(order.begin(), order.end(), std::uint64_t{0});
  Random(options_.seed, epoch, 0).shuffle(std::span(order));
  double loss = 0;
  for (std::size_t begin = 0; begin < order.size(); begin += kPostsAtOnce) {
    if (stop_asked()) return -1;
    loss += step(std::span(order).subspan(begin, std::min(kPostsAtOnce, order.size() - begin)));
  }
  return loss / static_cast<double>(std::max<std::uint64_t>(1, posts_.count));
}

double LexicalTrainer::step(std::span<const std::uint64_t> posts) {
  context_.pool.run(posts.size(), [&](std::size_t i, std::size_t) { score(posts[i], i); });

  contributions_.clear();
  for (std::uint32_t i = 0; i < posts.size(); ++i) {
    for (const LexicalFeature& feature : vectors_[i])
      contributions_.push_back({feature.number, i, feature.value});
  }
  std::sort(contributions_.begin(), contributions_.end(), [](const Contribution& a, const Contribution& b) {
    return a.feature != b.feature ? a.feature < b.feature : a.post < b.post;
  });
  groups_.clear();
  for (std::size_t i = 0; i < contributions_.size(); ++i) {
    if (i == 0 || contributions_[i].feature != contributions_[i - 1].feature) groups_.push_back(i);
  }
  groups_.push_back(contributions_.size());

  constexpr std::size_t kFeaturesPerTask = 32;
  for_ranges(context_, groups_.size() - 1, kFeaturesPerTask,
             [&](std::size_t begin, std::size_t end) { update_features(begin, end); });
  double loss = 0;
  for (std::size_t i = 0; i < posts.size(); ++i) loss += losses_[i];
  return loss;
}

// The post's vector, and the loss with its derivatives.
void LexicalTrainer::score(std::uint64_t post, std::size_t place) {
  vectors_[place] = lexical_vector(keys_, arrays_.vocabulary(), posts_.tokens(post));
  const std::span<float> scores(slopes_.data() + place * hashtags_, hashtags_);
  std::fill(scores.begin(), scores.end(), 0.0F);
  arrays_.scorer().add_scores(vectors_[place], 1, scores);
  // The sums without the -1 that all scores begin with.
  double loss = 0;
  std::vector<float> missing;  // of its hashtags
  for (const std::uint32_t own : posts_.hashtags(post)) {
    missing.push_back(std::max(0.0F, 2 - scores[own]));
    scores[own] = 0;  // no negative
  }
  for (float& score : scores) {
    const float excess = std::max(0.0F, score);
    loss += double{excess} * excess;
    score = 2 * excess;
  }
  std::size_t i = 0;
  for (const std::uint32_t own : posts_.hashtags(post)) {
    loss += double{missing[i]} * missing[i];
    scores[own] = -2 * missing[i++];
  }
  losses_[place] = loss;
}

// Features groups_[begin .. end) of the step.
void LexicalTrainer::update_features(std::size_t begin, std::size_t end) {
  for (std::size_t group = begin; group < end; ++group) {
    const std::uint32_t feature = contributions_[groups_[group]].feature;
    for (std::size_t i = groups_[group]; i < groups_[group + 1]; ++i) {
      const float* slopes = slopes_.data() + contributions_[i].post * hashtags_;
      const float rate = options_.learning_rate * contributions_[i].value;
      for (std::size_t w = arrays_.offsets[feature]; w < arrays_.offsets[feature + 1]; ++w) {
        const float slope = slopes[arrays_.targets[w]];
        if (std::abs(slope) >= kSmallSlope) arrays_.weights[w] -= rate * slope;
      }
    }
  }
}

}  // namespace tagspace
