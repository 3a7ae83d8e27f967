// Whole training steps of tagspace against the same steps written in eager LibTorch, in turn, in one process.
//
//   benchmark_training [threads] [rounds]
//   benchmark_training threads [threads] [rounds]   steps with that many threads against steps with one
//   benchmark_training lengths [threads] [rounds]   steps on posts of 8 to 64 tokens
//
// The eager side is what a good user would write: padded posts, one matrix product over unfolded windows,
// tanh after the maximum, scores of the whole table in one product with the sampling's outcome drawn from
// them, autograd, and Adagrad over all parameters. Posts are synthetic: word frequencies after Zipf, 4 to 30
// words a post where nothing else is said.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <algorithm>
#include <cctype>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "model/model.h"

namespace tagspace {
namespace {

constexpr std::int64_t kWords = 40'000;
constexpr std::int64_t kHashtags = 5'000;
constexpr std::size_t kBatch = 256;
constexpr std::size_t kBatches = 24;

struct BatchShape {
  std::size_t posts = kBatch;
  int shortest = 4;  // words
  int longest = 30;
};

std::vector<PackedBatch> synthetic_batches(const BatchShape& shape) {
  std::mt19937_64 random(1);
  std::vector<double> weights;
  for (std::int64_t i = 0; i < kWords; ++i) weights.push_back(1 / (static_cast<double>(i) + 5));
  std::discrete_distribution<std::uint32_t> word(weights.begin(), weights.end());
  weights.resize(kHashtags);
  std::discrete_distribution<std::uint32_t> hashtag(weights.begin(), weights.end());
  std::uniform_int_distribution<int> length(shape.shortest, shape.longest);
  std::vector<PackedBatch> batches(kBatches);
  for (auto& batch : batches) {
    for (std::size_t post = 0; post < shape.posts; ++post) {
      for (int t = length(random); t > 0; --t) batch.tokens.push_back(word(random));
      batch.hashtags.push_back(hashtag(random));
      batch.end_post();
    }
  }
  return batches;
}

// The eager form.
class EagerModel {
 public:
  explicit EagerModel(const ModelConfig& config) : config_(config) {
    const auto dim = static_cast<std::int64_t>(config.dim);
    const auto filters = static_cast<std::int64_t>(config.filters);
    const auto add = [&](at::Tensor value) {
      parameters_.push_back(value.requires_grad_(true));
      sums_.push_back(at::zeros_like(value));
    };
    add(at::randn({kWords + 1, dim}) * config.initial_scale);  // the last row is the padding
    add(at::randn({kHashtags, dim}) * config.initial_scale);
    if (config.encoder == EncoderType::cnn) {
      add(at::randn({filters, config.window * dim}) * 0.05);
      add(at::zeros({filters}));
      add(at::randn({dim, filters}) * 0.02);
      add(at::zeros({dim}));
    }
    std::vector<double> harmonic = {0};
    for (std::int64_t i = 1; i < kHashtags; ++i)
      harmonic.push_back(harmonic.back() + 1 / static_cast<double>(i));
    harmonic_ = at::tensor(harmonic, at::kFloat);
  }

  void train_step(const PackedBatch& batch) {
    const auto posts = static_cast<std::int64_t>(batch.posts());
    std::int64_t longest = config_.window;
    for (std::size_t i = 0; i < batch.posts(); ++i) {
      longest = std::max<std::int64_t>(longest, batch.token_offsets[i + 1] - batch.token_offsets[i]);
    }
    at::Tensor ids = at::full({posts, longest}, kWords, at::kLong);
    at::Tensor positives = at::empty({posts}, at::kLong);
    for (std::int64_t i = 0; i < posts; ++i) {
      const auto first = batch.token_offsets[static_cast<std::size_t>(i)];
      const auto last = batch.token_offsets[static_cast<std::size_t>(i) + 1];
      std::copy(batch.tokens.begin() + first, batch.tokens.begin() + last,
                ids.mutable_data_ptr<std::int64_t>() + i * longest);
      positives.mutable_data_ptr<std::int64_t>()[i] = batch.hashtags[static_cast<std::size_t>(i)];
    }
    const at::Tensor padding = ids == kWords;
    const at::Tensor embedded = at::embedding(parameters_[0], ids).masked_fill(padding.unsqueeze(2), 0);
    at::Tensor vectors;
    if (config_.encoder == EncoderType::bag) {
      vectors = embedded.sum(1) / padding.logical_not().sum(1, true);
    } else {
      const std::int64_t window = config_.window;
      const at::Tensor padded = at::constant_pad_nd(embedded, {0, 0, window / 2, window / 2});
      const at::Tensor windows = padded.unfold(1, window, 1).transpose(2, 3).reshape({posts * longest, -1});
      const at::Tensor products = at::mm(windows, parameters_[2].t()).view({posts, longest, -1});
      const at::Tensor maxima = products.masked_fill(padding.unsqueeze(2), -1e9).amax({1}) + parameters_[3];
      vectors = at::addmm(parameters_[5], at::tanh(at::tanh(maxima)), parameters_[4].t());
    }

    // All scores at once; tries from the geometric distribution, and a uniform violator.
    const at::Tensor scores = at::mm(vectors.detach(), parameters_[1].detach().t());
    const at::Tensor own = scores.gather(1, positives.unsqueeze(1));
    at::Tensor violates = scores > own - config_.margin;
    violates.scatter_(1, positives.unsqueeze(1), false);
    const at::Tensor share = violates.sum(1).to(at::kFloat) / (kHashtags - 1);
    const at::Tensor tries =
        at::floor(at::log(at::rand({posts}).clamp_min(1e-12)) / at::log1p(-share.clamp_max(1 - 1e-7))) + 1;
    const at::Tensor found = (share > 0).logical_and(tries <= static_cast<double>(config_.max_tries));
    const at::Tensor counts = violates.sum(1);
    const at::Tensor all = violates.view({-1}).nonzero().squeeze(1);
    const at::Tensor drawn = counts.cumsum(0) - counts + (at::rand({posts}) * counts).to(at::kLong);
    const at::Tensor violators = all.index_select(0, drawn.clamp_max(all.size(0) - 1)).remainder(kHashtags);
    const at::Tensor ranks = at::floor((kHashtags - 1) / tries.clamp(1, kHashtags - 1)).to(at::kLong);
    const at::Tensor weights = harmonic_.index_select(0, ranks) * found;
    const at::Tensor positive_scores = (vectors * at::embedding(parameters_[1], positives)).sum(1);
    const at::Tensor negative_scores = (vectors * at::embedding(parameters_[1], violators)).sum(1);
    const at::Tensor loss =
        (weights * at::relu(static_cast<double>(config_.margin) - positive_scores + negative_scores)).mean();
    loss.backward();

    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      const at::Tensor gradient = parameters_[i].grad();
      if (!gradient.defined()) continue;
      sums_[i].addcmul_(gradient, gradient);
      parameters_[i].detach().addcdiv_(gradient, sums_[i].sqrt().add_(1e-10), -config_.learning_rate);
      parameters_[i].mutable_grad() = at::Tensor();
    }
  }

 private:
  ModelConfig config_;
  std::vector<at::Tensor> parameters_, sums_;
  at::Tensor harmonic_;
};

template <typename Step>
double posts_per_second(const std::vector<PackedBatch>& batches, const Step& step) {
  const auto start = std::chrono::steady_clock::now();
  for (const auto& batch : batches) step(batch);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return static_cast<double>(batches.size() * batches[0].posts()) / seconds.count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

ModelConfig config_of(EncoderType encoder, std::uint32_t threads) {
  ModelConfig config;
  config.vocab_size = kWords;
  config.hashtags = kHashtags;
  config.encoder = encoder;
  config.threads = threads;
  return config;
}

void compare(const char* name, EncoderType encoder, std::uint32_t threads, int rounds) {
  const auto batches = synthetic_batches({});
  const ModelConfig config = config_of(encoder, threads);
  Model model(config);
  EagerModel eager(config);
  std::uint64_t number = 0;
  std::vector<double> ours;
  std::vector<double> theirs;
  std::vector<double> ratios;
  for (int round = 0; round < rounds; ++round) {
    ours.push_back(posts_per_second(
        batches, [&](const PackedBatch& batch) { model.train_step(batch, number++, 1, false); }));
    at::set_num_threads(static_cast<int>(threads));
    theirs.push_back(posts_per_second(batches, [&](const PackedBatch& batch) { eager.train_step(batch); }));
    ratios.push_back(ours.back() / theirs.back());
  }
  std::sort(ratios.begin(), ratios.end());
  std::printf("%-28s %12.0f %12.0f %8.1f  (%.1f to %.1f)\n", name, median(ours), median(theirs),
              median(ratios), ratios.front(), ratios.back());
}

// Both models take the same steps in turn, so that they do the same work.
void compare_threads(const char* name, EncoderType encoder, std::size_t posts, std::uint32_t threads,
                     int rounds) {
  const auto batches = synthetic_batches({posts});
  Model one(config_of(encoder, 1));
  Model many(config_of(encoder, threads));
  std::uint64_t number = 0;
  std::vector<double> single;
  std::vector<double> multiple;
  std::vector<double> ratios;
  for (int round = -1; round < rounds; ++round) {
    const auto measure = [&](Model& model) {
      std::uint64_t step = number;
      return posts_per_second(batches,
                              [&](const PackedBatch& batch) { model.train_step(batch, step++, 1, false); });
    };
    const double with_one = measure(one);
    const double with_many = measure(many);
    number += batches.size();
    if (round < 0) continue;  // memory is new
    single.push_back(with_one);
    multiple.push_back(with_many);
    ratios.push_back(with_many / with_one);
  }
  std::sort(ratios.begin(), ratios.end());
  std::printf("%-28s %6zu %12.0f %12.0f %8.2f  (%.2f to %.2f)\n", name, posts, median(single),
              median(multiple), median(ratios), ratios.front(), ratios.back());
}

void compare_lengths(const char* name, EncoderType encoder, std::uint32_t threads, int rounds) {
  for (const int length : {8, 16, 32, 64}) {
    const auto batches = synthetic_batches({kBatch, length, length});
    Model model(config_of(encoder, threads));
    std::uint64_t number = 0;
    std::vector<double> speeds;
    for (int round = -1; round < rounds; ++round) {
      const double speed = posts_per_second(
          batches, [&](const PackedBatch& batch) { model.train_step(batch, number++, 1, false); });
      if (round >= 0) speeds.push_back(speed);
    }
    std::printf("%-28s %6d %12.0f %12.1f\n", name, length, median(speeds), 1e9 / median(speeds) / length);
  }
}

}  // namespace
}  // namespace tagspace

int main(int argc, char** argv) {
  using tagspace::EncoderType;
  std::string mode;
  if (argc > 1 && std::isdigit(static_cast<unsigned char>(*argv[1])) == 0) {
    mode = argv[1];
    --argc;
    ++argv;
  }
  const auto threads = static_cast<std::uint32_t>(argc > 1 ? std::stoul(argv[1]) : 2);
  const int rounds = argc > 2 ? std::stoi(argv[2]) : 5;
  const char* const bag = "bag, dim 64";
  const char* const cnn = "cnn, dim 64, 1000 filters";
  if (mode.empty()) {
    std::printf("posts per second, %u threads, medians of %d rounds\n", threads, rounds);
    std::printf("%-28s %12s %12s %8s\n", "", "tagspace", "eager", "ratio");
    tagspace::compare(bag, EncoderType::bag, threads, rounds);
    tagspace::compare(cnn, EncoderType::cnn, threads, rounds);
  } else if (mode == "threads") {
    std::printf("posts per second, medians of %d rounds\n", rounds);
    std::printf("%-28s %6s %12s %11u%c %8s\n", "", "batch", "one thread", threads, 'x', "ratio");
    for (const std::size_t posts : {128, 256}) {
      tagspace::compare_threads(bag, EncoderType::bag, posts, threads, rounds);
      tagspace::compare_threads(cnn, EncoderType::cnn, posts, threads, rounds);
    }
  } else if (mode == "lengths") {
    std::printf("%u threads, medians of %d rounds\n", threads, rounds);
    std::printf("%-28s %6s %12s %12s\n", "", "tokens", "posts/s", "ns a token");
    tagspace::compare_lengths(bag, EncoderType::bag, threads, rounds);
    tagspace::compare_lengths(cnn, EncoderType::cnn, threads, rounds);
  } else {
    std::fprintf(stderr, "benchmark_training: no '%s'; it is threads, lengths or nothing\n", mode.c_str());
    return 2;
  }
}
