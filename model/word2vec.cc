#include "model/word2vec.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <utility>

namespace tagspace {
namespace {

// Streams of random numbers: of the first vectors and of the order of posts; those of a post are from kPosts
// on.
constexpr std::uint64_t kFirstVectors = ~std::uint64_t{0};
constexpr std::uint64_t kOrder = 0;
constexpr std::uint64_t kPosts = 1;
constexpr double kPower = 0.75;

// From 0 to below 1.
double share(Random& random) { return static_cast<double>(random.next() >> 11U) * 0x1p-53; }

// Sums that vector code can keep apart.
float product(const float* a, const float* b, std::size_t count) {
  constexpr std::size_t kSums = 8;
  std::array<float, kSums> sums{};
  std::size_t i = 0;
  for (; i + kSums <= count; i += kSums) {
    for (std::size_t k = 0; k < kSums; ++k) sums[k] += a[i + k] * b[i + k];
  }
  float sum = std::accumulate(sums.begin(), sums.end(), 0.0F);
  for (; i < count; ++i) sum += a[i] * b[i];
  return sum;
}

// log(1 + e^-x), without overflow.
double log_of_one_and_exp(float x) { return std::max(0.0F, -x) + std::log1p(std::exp(-std::abs(x))); }

}  // namespace

Word2Vec::Word2Vec(TrainingPosts posts, std::uint32_t words, std::uint32_t hashtags, const Options& options)
    : posts_(std::move(posts)),
      words_(words),
      options_(options),
      inputs_((words_ + hashtags) * dim()),
      outputs_((words_ + hashtags) * dim()),
      ends_(words_ + hashtags),
      change_(dim()) {
  Random random(options_.seed, kFirstVectors, 0);
  // Uniform numbers of that standard deviation.
  const double limit = std::sqrt(3.0) * options_.initial_scale;
  for (float& value : inputs_) value = static_cast<float>(limit * (2 * share(random) - 1));
  for (std::uint64_t post = 0; post < posts_.count; ++post) {
    for (const std::uint32_t word : posts_.tokens(post)) ++ends_[word];
    for (const std::uint32_t hashtag : posts_.hashtags(post)) ++ends_[words_ + hashtag];
  }
  for (double& count : ends_) count = std::pow(count, kPower);
  std::partial_sum(ends_.begin(), ends_.end(), ends_.begin());
}

std::uint32_t Word2Vec::token_at(double position) const {
  const auto at = std::upper_bound(ends_.begin(), ends_.end(), position * ends_.back());
  return static_cast<std::uint32_t>(std::min(at, ends_.end() - 1) - ends_.begin());
}

void Word2Vec::mix(std::uint64_t post, Random& random, std::vector<std::uint32_t>& tokens) const {
  const auto words = posts_.tokens(post);
  tokens.assign(words.begin(), words.end());
  for (const std::uint32_t hashtag : posts_.hashtags(post)) {
    const auto place = static_cast<std::ptrdiff_t>(random.below(tokens.size() + 1));
    tokens.insert(tokens.begin() + place, static_cast<std::uint32_t>(words_ + hashtag));
  }
}

double Word2Vec::step(std::uint32_t neighbor, std::span<const std::uint32_t> targets, float rate) {
  float* const input = inputs_.data() + neighbor * dim();
  std::fill(change_.begin(), change_.end(), 0.0F);
  double loss = 0;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    if (i > 0 && targets[i] == targets[0]) continue;
    float* const output = outputs_.data() + targets[i] * dim();
    const float sign = i == 0 ? 1.0F : -1.0F;
    const float score = sign * product(input, output, dim());
    loss += log_of_one_and_exp(score);
    const float factor = rate * sign / (1 + std::exp(score));
    for (std::size_t d = 0; d < dim(); ++d) {
      change_[d] += factor * output[d];
      output[d] += factor * input[d];
    }
  }
  for (std::size_t d = 0; d < dim(); ++d) input[d] += change_[d];
  return loss;
}

double Word2Vec::train_epoch(std::uint64_t epoch, float first_rate, float last_rate,
                             const std::function<bool()>& stop_asked) {
  std::vector<std::uint64_t> order(posts_.count);
  std::iota(order.begin(), order.end(), std::uint64_t{0});
  Random(options_.seed, epoch, kOrder).shuffle(std::span(order));
  std::vector<std::uint32_t> tokens;
  std::vector<std::uint32_t> targets(1 + options_.negatives);
  double loss = 0;
  std::uint64_t steps = 0;
  for (std::size_t place = 0; place < order.size(); ++place) {
    if (stop_asked()) return -1;
    const auto done = static_cast<float>(place) / static_cast<float>(order.size());
    const float rate = first_rate + (last_rate - first_rate) * done;
    Random random(options_.seed, epoch, kPosts + order[place]);
    mix(order[place], random, tokens);
    for (std::size_t centre = 0; centre < tokens.size(); ++centre) {
      const std::size_t reach = 1 + random.below(options_.window);
      const std::size_t end = std::min(tokens.size(), centre + reach + 1);
      targets[0] = tokens[centre];
      for (std::size_t i = centre - std::min(centre, reach); i < end; ++i) {
        if (i == centre) continue;
        for (std::size_t n = 1; n < targets.size(); ++n) targets[n] = token_at(share(random));
        loss += step(tokens[i], targets, rate);
        ++steps;
      }
    }
  }
  return loss / static_cast<double>(std::max<std::uint64_t>(1, steps));
}

}  // namespace tagspace
