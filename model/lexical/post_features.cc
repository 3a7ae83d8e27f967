#include "model/lexical/post_features.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <utility>

#include "base/error.h"
#include "model/checkpoint.h"
#include "model/lexical/sorted_counts.h"

namespace tagspace {
namespace {

// A key's two highest bits are its kind; what follows is a hash.
std::uint64_t place_of(std::uint64_t key) { return std::rotl(key, 2); }

}  // namespace

PostFeatures::PostFeatures(std::span<const std::string> texts, Kinds kinds, std::vector<std::uint64_t> places)
    : tokens_(static_cast<std::uint32_t>(texts.size())), kinds_(kinds), places_(std::move(places)) {
  if (places_.size() >= std::numeric_limits<std::uint32_t>::max() - tokens_) {
    throw Error(
        "the training posts have more than 4,294,967,295 words, pairs of words and beginnings of words: "
        "raise "
        "encoder.min_count");
  }
  bucket_bits_ = static_cast<unsigned>(std::bit_width(places_.size() | 1U));
  buckets_.assign((std::size_t{1} << bucket_bits_) + 1, 0);
  for (const std::uint64_t place : places_) ++buckets_[(place >> (64 - bucket_bits_)) + 1];
  for (std::size_t i = 1; i < buckets_.size(); ++i) buckets_[i] += buckets_[i - 1];

  beginning_offsets_.push_back(0);
  std::vector<std::uint64_t> keys;
  for (const std::string& text : texts) {
    keys.clear();
    if (kinds_.beginnings) LexicalKeys::of_beginnings(text, keys);
    for (const std::uint64_t key : keys) {
      if (const std::uint32_t row = find(place_of(key)); row != rows()) beginnings_.push_back(row);
    }
    beginning_offsets_.push_back(static_cast<std::uint32_t>(beginnings_.size()));
  }
}

PostFeatures PostFeatures::count(std::span<const std::string> texts, Kinds kinds, const TrainingPosts& posts,
                                 std::uint32_t min_posts) {
  std::vector<std::vector<std::uint64_t>> beginnings(kinds.beginnings ? texts.size() : 0);
  for (std::size_t i = 0; i < beginnings.size(); ++i) LexicalKeys::of_beginnings(texts[i], beginnings[i]);
  SortedCounts counts;
  std::vector<std::uint64_t> of_post;
  for (std::uint64_t post = 0; post < posts.count; ++post) {
    const auto tokens = posts.tokens(post);
    of_post.clear();
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (kinds.pairs && i > 0) of_post.push_back(place_of(LexicalKeys::of_pair(tokens[i - 1], tokens[i])));
      if (!kinds.beginnings) continue;
      for (const std::uint64_t key : beginnings[tokens[i]]) of_post.push_back(place_of(key));
    }
    std::sort(of_post.begin(), of_post.end());
    of_post.erase(std::unique(of_post.begin(), of_post.end()), of_post.end());
    counts.add(of_post);
  }
  std::vector<std::uint64_t> places;
  for (const auto& [place, times] : counts.take()) {
    if (times >= min_posts) places.push_back(place);
  }
  return {texts, kinds, std::move(places)};
}

void PostFeatures::save(const std::filesystem::path& path) const {
  const std::vector<std::uint32_t> halves = to_halves(places_);
  const std::vector<NamedArray> arrays = {{"features", {places_.size(), 2}, nullptr, halves.data()}};
  write_checkpoint(path, arrays, "");
}

PostFeatures PostFeatures::load(const std::filesystem::path& path, std::span<const std::string> texts,
                                Kinds kinds) {
  const CheckpointFile file(path);
  if (file.arrays().size() != 1 || file.arrays()[0].shape.size() != 2)
    throw Error("'" + path.string() + "' holds no features of posts");
  const std::uint64_t count = file.arrays()[0].shape[0];
  std::vector<std::uint64_t> places = from_halves(file.get_integers("features", {count, 2}));
  if (!std::is_sorted(places.begin(), places.end()))
    throw Error("'" + path.string() + "' is damaged: its features are not in order");
  return {texts, kinds, std::move(places)};
}

std::uint32_t PostFeatures::find(std::uint64_t place) const {
  const std::size_t bucket = place >> (64 - bucket_bits_);
  for (std::uint32_t i = buckets_[bucket]; i < buckets_[bucket + 1]; ++i) {
    if (places_[i] == place) return tokens_ + i;
  }
  return rows();
}

void PostFeatures::expand(std::span<const std::uint32_t> tokens,
                          std::vector<std::uint32_t>& rows_of_post) const {
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const std::uint32_t token = tokens[i];
    rows_of_post.push_back(token);
    if (kinds_.pairs && i > 0) {
      const std::uint32_t row = find(place_of(LexicalKeys::of_pair(tokens[i - 1], token)));
      if (row != rows()) rows_of_post.push_back(row);
    }
    rows_of_post.insert(rows_of_post.end(), beginnings_.begin() + beginning_offsets_[token],
                        beginnings_.begin() + beginning_offsets_[token + 1]);
  }
}

PackedBatch PostFeatures::expanded(const PackedBatch& batch) const {
  PackedBatch result;
  result.tokens.reserve(6 * batch.tokens.size());
  for (std::size_t post = 0; post < batch.posts(); ++post) {
    const std::uint32_t begin = batch.token_offsets[post];
    expand(std::span(batch.tokens).subspan(begin, batch.token_offsets[post + 1] - begin), result.tokens);
    result.end_post();
  }
  return result;
}

void PostFeatures::expand(PackedBatch& batch) const {
  PackedBatch result = expanded(batch);
  batch.tokens = std::move(result.tokens);
  batch.token_offsets = std::move(result.token_offsets);
}

}  // namespace tagspace
