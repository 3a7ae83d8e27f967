#include "model/word2vec.h"

#include <algorithm>
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

}  // namespace

Word2Vec::Word2Vec(TrainingPosts posts, std::uint32_t words, std::uint32_t hashtags, const Options& options)
    : posts_(std::move(posts)),
      words_(words),
      options_(options),
      inputs_((words_ + hashtags) * dim()),
      outputs_((words_ + hashtags) * dim()),
      columns_(words_ + hashtags) {
  Random random(options_.seed, kFirstVectors, 0);
  // Uniform numbers of that standard deviation.
  const double limit = std::sqrt(3.0) * options_.initial_scale;
  for (float& value : inputs_) value = static_cast<float>(limit * (2 * share(random) - 1));
  make_columns();
}

// As Vose, "A linear algorithm for generating random numbers with a given distribution", IEEE Trans. Software
// Engineering 1991: a column that is not full is filled up by a token that has more than a column.
void Word2Vec::make_columns() {
  std::vector<double> shares(columns_.size());
  for (std::uint64_t post = 0; post < posts_.count; ++post) {
    for (const std::uint32_t word : posts_.tokens(post)) ++shares[word];
    for (const std::uint32_t hashtag : posts_.hashtags(post)) ++shares[words_ + hashtag];
  }
  for (double& count : shares) count = std::pow(count, kPower);
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  if (sum == 0) return;  // nothing is drawn without posts
  std::vector<std::uint32_t> less;
  std::vector<std::uint32_t> more;
  for (std::uint32_t token = 0; token < shares.size(); ++token) {
    shares[token] *= static_cast<double>(shares.size()) / sum;
    (shares[token] < 1 ? less : more).push_back(token);
  }
  const auto whole = [&](std::uint32_t token) { columns_[token] = {~std::uint32_t{0}, token}; };
  while (!less.empty() && !more.empty()) {
    const std::uint32_t token = less.back();
    const std::uint32_t other = more.back();
    less.pop_back();
    columns_[token] = {static_cast<std::uint32_t>(shares[token] * 0x1p32), other};
    shares[other] -= 1 - shares[token];
    if (shares[other] >= 1) continue;
    more.pop_back();
    less.push_back(other);
  }
  // What roundings have left.
  std::for_each(less.begin(), less.end(), whole);
  std::for_each(more.begin(), more.end(), whole);
}

std::uint32_t Word2Vec::draw_token(Random& random) const {
  const std::uint64_t number = random.next();
  const auto column = static_cast<std::uint32_t>(((number >> 32U) * columns_.size()) >> 32U);
  return static_cast<std::uint32_t>(number) < columns_[column].own ? column : columns_[column].other;
}

void Word2Vec::mix(std::uint64_t post, Random& random, std::vector<std::uint32_t>& tokens) const {
  const auto words = posts_.tokens(post);
  tokens.assign(words.begin(), words.end());
  for (const std::uint32_t hashtag : posts_.hashtags(post)) {
    const auto place = static_cast<std::ptrdiff_t>(random.below(tokens.size() + 1));
    tokens.insert(tokens.begin() + place, static_cast<std::uint32_t>(words_ + hashtag));
  }
}

void Word2Vec::append_steps(std::uint64_t epoch, std::uint64_t post, kernels::SkipgramSteps& steps) const {
  Random random(options_.seed, epoch, kPosts + post);
  std::vector<std::uint32_t> tokens;
  mix(post, random, tokens);
  for (std::size_t centre = 0; centre < tokens.size(); ++centre) {
    const std::size_t reach = 1 + random.below(options_.window);
    const std::size_t end = std::min(tokens.size(), centre + reach + 1);
    for (std::size_t i = centre - std::min(centre, reach); i < end; ++i) {
      if (i == centre) continue;
      steps.neighbors.push_back(tokens[i]);
      steps.rows.push_back(tokens[centre]);
      for (std::uint32_t n = 0; n < options_.negatives; ++n) steps.rows.push_back(draw_token(random));
    }
  }
}

double Word2Vec::train_epoch(std::uint64_t epoch, float first_rate, float last_rate,
                             const std::function<bool()>& stop_asked, kernels::CpuContext& context) {
  std::vector<std::uint64_t> order(posts_.count);
  std::iota(order.begin(), order.end(), std::uint64_t{0});
  Random(options_.seed, epoch, kOrder).shuffle(std::span(order));
  const kernels::SkipgramTables tables{inputs_.data(), outputs_.data(), dim()};
  kernels::SkipgramSteps now{1 + std::size_t{options_.negatives}, {}, {}};
  kernels::SkipgramSteps next = now;
  const auto draw = [&](std::size_t begin) {
    next.neighbors.clear();
    next.rows.clear();
    for (std::size_t place = begin; place < std::min(order.size(), begin + kPostsAtOnce); ++place)
      append_steps(epoch, order[place], next);
  };
  double loss = 0;
  std::uint64_t steps = 0;
  draw(0);
  for (std::size_t begin = 0; begin < order.size(); begin += kPostsAtOnce) {
    if (stop_asked()) return -1;
    const auto done = static_cast<float>(begin) / static_cast<float>(order.size());
    const float rate = first_rate + (last_rate - first_rate) * done;
    std::swap(now, next);
    steps += now.neighbors.size();
    context.pool.run(2, [&](std::size_t task, std::size_t) {
      if (task == 0) {
        loss += kernels::take_skipgram_steps(now, tables, rate, context);
      } else {
        draw(begin + kPostsAtOnce);
      }
    });
  }
  return loss / static_cast<double>(std::max<std::uint64_t>(1, steps));
}

}  // namespace tagspace
