// The gradients of a training step against LibTorch's autograd and against finite differences.
//
// With plain gradient descent at rate 1 a step moves every parameter by minus its gradient, which is read off
// the checkpoints before and after. The same loss is written here in eager LibTorch, in double precision.
#include <ATen/ATen.h>
#include <algorithm>
#include <c10/core/GradMode.h>
#include <cmath>
#include <filesystem>
#include <gtest/gtest.h>
#include <map>
#include <random>
#include <string>
#include <unistd.h>

#include "model/checkpoint.h"
#include "model/kernels/philox.h"
#include "model/kernels/warp.h"
#include "model/model.h"

namespace tagspace {
namespace {

using Parameters = std::map<std::string, at::Tensor>;

Parameters read_parameters(const std::filesystem::path& path) {
  const CheckpointFile file(path);
  Parameters parameters;
  for (const auto& array : file.arrays()) {
    const std::vector<std::int64_t> shape(array.shape.begin(), array.shape.end());
    at::Tensor value = at::empty(shape, at::kFloat);
    std::copy_n(array.data, array.size(), value.mutable_data_ptr<float>());
    parameters[array.name] = value.to(at::kDouble);
  }
  return parameters;
}

PackedBatch random_batch(const ModelConfig& config, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  PackedBatch batch;
  for (const std::uint32_t length : {1, 0, 2, 4, 5, 9, 30, 3, 7, 1, 6}) {
    for (std::uint32_t t = 0; t < length; ++t) {
      batch.tokens.push_back(static_cast<std::uint32_t>(random() % config.vocab_size));
    }
    std::vector<std::uint32_t> own = {static_cast<std::uint32_t>(random() % config.hashtags)};
    const auto other = static_cast<std::uint32_t>(random() % config.hashtags);
    if (other != own[0]) own.push_back(other);
    std::sort(own.begin(), own.end());
    batch.hashtags.insert(batch.hashtags.end(), own.begin(), own.end());
    batch.end_post();
  }
  return batch;
}

std::uint32_t sixteen_bits(const kernels::Philox4& words, std::size_t j) {
  return (words.word[j / 2] >> (16 * (j % 2))) & 0xFFFF;
}

// Post vectors [posts, dim], written as one would in a notebook.
at::Tensor post_vectors(const ModelConfig& config, const Parameters& p, const PackedBatch& batch,
                        std::uint64_t step) {
  std::vector<at::Tensor> vectors;
  const auto drop = [&](const at::Tensor& x, std::size_t post) {
    at::Tensor mask = at::ones({x.size(0)}, at::kDouble);
    for (std::int64_t i = 0; i < x.size(0); ++i) {
      const auto words =
          kernels::random_words(config.seed, kernels::RandomStream::feature_dropout, step,
                                static_cast<std::uint32_t>(post), static_cast<std::uint32_t>(i / 8));
      if (sixteen_bits(words, static_cast<std::size_t>(i % 8)) < std::lround(config.dropout * 65536)) {
        mask[i] = 0;
      }
    }
    return x * mask / (1 - static_cast<double>(config.dropout));
  };
  const auto pooled = [&](const at::Tensor& rows) {
    return config.pooling == PoolingType::mean ? rows.mean(0)
                                               : rows.sum(0) / std::sqrt(static_cast<double>(rows.size(0)));
  };
  for (std::size_t post = 0; post < batch.posts(); ++post) {
    std::vector<at::Tensor> rows;
    for (std::size_t t = batch.token_offsets[post]; t < batch.token_offsets[post + 1]; ++t) {
      const auto words = kernels::random_words(config.seed, kernels::RandomStream::word_dropout, step,
                                               static_cast<std::uint32_t>(t / 8), 0);
      const bool dropped = sixteen_bits(words, t % 8) < std::lround(config.word_dropout * 65536);
      const at::Tensor row = p.at("words")[batch.tokens[t]];
      if (!dropped) {
        rows.push_back(row);
      } else if (config.encoder == EncoderType::cnn) {
        rows.push_back(at::zeros_like(row));
      }
    }
    const at::Tensor zero = at::zeros({config.dim}, at::kDouble);
    if (config.encoder == EncoderType::bag) {
      vectors.push_back(drop(rows.empty() ? zero : pooled(at::stack(rows)), post));
      continue;
    }
    if (rows.empty()) rows.push_back(zero);
    // Convolution weights are [filters, window, dim] here and [filters, dim, window] in LibTorch.
    const std::int64_t left = (config.window - 1) / 2;
    const at::Tensor padded =
        at::constant_pad_nd(at::stack(rows).t().unsqueeze(0), {left, config.window - 1 - left});
    const at::Tensor convolved =
        at::conv1d(padded, p.at("convolution.weight").transpose(1, 2), p.at("convolution.bias"));
    const at::Tensor features = at::tanh(at::tanh(convolved).amax({2})).squeeze(0);
    vectors.push_back(at::mv(p.at("linear.weight"), drop(features, post)) + p.at("linear.bias"));
  }
  return at::stack(vectors);
}

// The pairs of a step, and what they were compared with.
struct Choice {
  std::vector<std::uint32_t> post, positive, violator, tries;  // [pairs]
  std::vector<std::int64_t> negatives;                         // of all pairs, with a loss of scores
};

std::vector<float> weights_of(const ModelConfig& config) {
  if (config.loss != LossType::warp) return {1};
  return kernels::rank_weights(static_cast<kernels::RankWeight>(config.rank_weight), config.hashtags,
                               config.max_tries);
}

// What the reference kernel draws for these post vectors and this table.
Choice choose(const ModelConfig& config, const Parameters& p, const PackedBatch& batch, std::uint64_t step) {
  const std::size_t posts = batch.posts();
  Choice choice;
  std::vector<std::uint32_t> offsets = {0};
  for (std::uint32_t i = 0; i < posts; ++i) {
    const auto first = batch.hashtag_offsets[i];
    const auto count = batch.hashtag_offsets[i + 1] - first;
    if (config.all_positives) {
      choice.positive.insert(choice.positive.end(), batch.hashtags.begin() + first,
                             batch.hashtags.begin() + first + count);
    } else {
      const auto words = kernels::random_words(config.seed, kernels::RandomStream::positives, step, i, 0);
      choice.positive.push_back(batch.hashtags[first + kernels::negative_of_words(words, 0, count)]);
    }
    choice.post.resize(choice.positive.size(), i);
    offsets.push_back(static_cast<std::uint32_t>(choice.positive.size()));
  }
  const std::size_t pairs = choice.positive.size();
  choice.violator.assign(pairs, kernels::kNoViolator);
  choice.tries.resize(pairs);
  if (is_scored(config.loss)) {
    const std::uint32_t count = scored_negatives(config);
    for (std::uint32_t i = 0; i < count; ++i) {
      const auto words = kernels::random_words(config.seed, kernels::RandomStream::negatives, step, 0, i / 2);
      choice.negatives.push_back(
          config.negative_samples > 0 ? kernels::negative_of_words(words, i, config.hashtags) : i);
    }
    return choice;
  }
  const std::vector<float> weights = weights_of(config);
  const at::Tensor vectors = post_vectors(config, p, batch, step).to(at::kFloat).contiguous();
  const at::Tensor table = p.at("hashtags").to(at::kFloat).contiguous();
  std::vector<float> losses(pairs);
  std::vector<kernels::RowGradient> gradients(2 * pairs);
  std::vector<float> post_gradient(posts * config.dim);
  kernels::WarpConfig search;
  search.score = static_cast<kernels::Score>(config.score);
  search.margin = config.margin;
  search.max_tries = static_cast<std::uint32_t>(weights.size());
  search.seed = config.seed;
  search.weight_of_tries = weights.data();
  search.negatives = config.loss == LossType::warp ? kernels::Negatives::shared : kernels::Negatives::sampled;
  search.loss = config.loss == LossType::bpr ? kernels::PairLoss::logistic : kernels::PairLoss::margin;
  kernels::warp_reference(
      search,
      {posts, config.dim, config.hashtags, vectors.const_data_ptr<float>(), table.const_data_ptr<float>(),
       batch.hashtags.data(), batch.hashtag_offsets.data(), choice.positive.data(), offsets.data(), step, 0},
      1,
      {choice.violator.data(), choice.tries.data(), losses.data(), gradients.data(), gradients.data() + pairs,
       post_gradient.data()});
  return choice;
}

at::Tensor mean_loss(const ModelConfig& config, const Parameters& p, const PackedBatch& batch,
                     std::uint64_t step, const Choice& choice) {
  const at::Tensor vectors = post_vectors(config, p, batch, step);
  const auto score = [&](std::size_t post, std::int64_t row) {
    const at::Tensor a = vectors[static_cast<std::int64_t>(post)];
    const at::Tensor b = p.at("hashtags")[row];
    at::Tensor product = (a * b).sum();
    if (config.score == ScoreType::dot) return product;
    const at::Tensor lengths = a.norm() * b.norm();
    return lengths.item<double>() == 0 ? product : product / lengths;
  };
  const std::vector<float> weights = weights_of(config);
  const auto margin = static_cast<double>(config.margin);
  const std::size_t pairs = choice.positive.size();
  at::Tensor sum = at::zeros({}, at::kDouble);
  for (std::size_t i = 0; i < pairs; ++i) {
    const std::size_t post = choice.post[i];
    const at::Tensor positive = score(post, choice.positive[i]);
    std::vector<at::Tensor> others;  // scores of the negatives that the post does not carry
    for (const std::int64_t row : choice.negatives) {
      const auto* const own = batch.hashtags.data();
      const auto* const end = own + batch.hashtag_offsets[post + 1];
      if (std::find(own + batch.hashtag_offsets[post], end, row) == end) others.push_back(score(post, row));
    }
    switch (config.loss) {
      case LossType::skipgram:
        throw std::logic_error("no loss of the model's");
      case LossType::warp:
      case LossType::hinge:
        if (choice.violator[i] == kernels::kNoViolator) break;
        sum = sum + weights[choice.tries[i] - 1] * (margin - positive + score(post, choice.violator[i]));
        break;
      case LossType::bpr:
        sum = sum - at::log(at::sigmoid(positive - score(post, choice.violator[i])));
        break;
      case LossType::softmax: {
        // A sampled hashtag stands for as many as are in the table to one in the sample.
        const double stands_for =
            config.negative_samples > 0 ? (config.hashtags - 1.0) / config.negative_samples : 1.0;
        at::Tensor total = at::exp(positive);
        for (const at::Tensor& other : others) total = total + stands_for * at::exp(other);
        sum = sum - at::log(at::exp(positive) / total);
        break;
      }
      case LossType::starspace: {
        at::Tensor excess = at::zeros({}, at::kDouble);
        int violators = 0;
        for (const at::Tensor& other : others) {
          const at::Tensor above = margin - positive + other;
          if (above.item<double>() <= 0) continue;
          excess = excess + above;
          ++violators;
        }
        if (violators > 0) sum = sum + excess / violators;
        break;
      }
    }
  }
  return sum / static_cast<double>(pairs);
}

ModelConfig small_config(EncoderType encoder, ScoreType score, bool dropout) {
  ModelConfig config;
  config.seed = 7;
  config.vocab_size = 23;
  config.hashtags = 40;
  config.encoder = encoder;
  config.dim = 12;
  config.window = 4;
  config.filters = 21;
  config.initial_scale = 0.6F;
  config.score = score;
  config.margin = 0.3F;
  config.max_tries = 60;
  config.optimizer = OptimizerType::sgd;
  config.learning_rate = config.encoder_learning_rate = 1;
  config.threads = 2;
  if (dropout) config.word_dropout = config.dropout = 0.3F;
  return config;
}

void expect_gradients_of_a_step(const ModelConfig& config) {
  const std::uint64_t step = 3;
  const PackedBatch batch = random_batch(config, 5);

  const auto folder = std::filesystem::path(testing::TempDir()) /
                      ("gradients-" + std::to_string(testing::UnitTest::GetInstance()->random_seed()) + "-" +
                       std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  Model model(config);
  model.save(folder / "before", "{}", false);
  const auto statistics = model.train_step(batch, step, 1, false);
  model.save(folder / "after", "{}", false);
  Parameters before = read_parameters(folder / "before");
  const Parameters after = read_parameters(folder / "after");
  std::filesystem::remove_all(folder);

  const Choice choice = choose(config, before, batch, step);
  EXPECT_EQ(statistics.posts, batch.posts());
  EXPECT_EQ(statistics.pairs, choice.positive.size());
  if (!is_scored(config.loss)) {
    const auto violators = static_cast<std::uint64_t>(std::count_if(
        choice.violator.begin(), choice.violator.end(), [](auto v) { return v != kernels::kNoViolator; }));
    ASSERT_GT(violators, 3U);
    EXPECT_EQ(statistics.violators, violators);
  }

  for (auto& [name, value] : before) value.requires_grad_(true);
  const at::Tensor loss = mean_loss(config, before, batch, step, choice);
  EXPECT_NEAR(statistics.loss / static_cast<double>(statistics.pairs), loss.item<double>(),
              1e-5 * loss.item<double>());
  loss.backward();
  const c10::NoGradGuard no_grad;
  std::mt19937_64 random(1);
  for (auto& [name, value] : before) {
    SCOPED_TRACE(name);
    const at::Tensor step_taken = value - after.at(name);
    const at::Tensor gradient = value.grad().defined() ? value.grad() : at::zeros_like(value);
    const double largest = gradient.abs().max().item<double>();
    ASSERT_GT(largest, 0);
    EXPECT_LE((step_taken - gradient).abs().max().item<double>(), 2e-5 * std::max(1.0, largest));

    for (int trial = 0; trial < 8; ++trial) {
      const auto at = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(value.numel()));
      at::Tensor element = value.detach().view({-1})[at];
      const double original = element.item<double>();
      constexpr double kShift = 1e-6;
      element.fill_(original + kShift);
      const double up = mean_loss(config, before, batch, step, choice).item<double>();
      element.fill_(original - kShift);
      const double down = mean_loss(config, before, batch, step, choice).item<double>();
      element.fill_(original);
      EXPECT_NEAR(step_taken.view({-1})[at].item<double>(), (up - down) / (2 * kShift),
                  2e-5 * std::max(1.0, largest));
    }
  }
}

class Gradients : public testing::TestWithParam<std::tuple<EncoderType, ScoreType, RankWeightType, bool>> {};

TEST_P(Gradients, EqualAutogradAndFiniteDifferences) {
  const auto [encoder, score, weight, dropout] = GetParam();
  ModelConfig config = small_config(encoder, score, dropout);
  config.rank_weight = weight;
  expect_gradients_of_a_step(config);
}

std::string name_of(const testing::TestParamInfo<Gradients::ParamType>& info) {
  const auto [encoder, score, weight, dropout] = info.param;
  const char* const weights[] = {"Harmonic", "Log", "Linear"};
  return std::string(encoder == EncoderType::cnn ? "Cnn" : "Bag") +
         (score == ScoreType::dot ? "Dot" : "Cosine") + weights[static_cast<int>(weight)] +
         (dropout ? "WithDropout" : "");
}

INSTANTIATE_TEST_SUITE_P(All, Gradients,
                         testing::Combine(testing::Values(EncoderType::bag, EncoderType::cnn),
                                          testing::Values(ScoreType::dot, ScoreType::cosine),
                                          testing::Values(RankWeightType::harmonic, RankWeightType::log,
                                                          RankWeightType::linear),
                                          testing::Bool()),
                         name_of);

struct LossCase {
  const char* name;
  LossType loss;
  std::uint32_t negative_samples;
  bool all_positives;
};
class Losses : public testing::TestWithParam<std::tuple<EncoderType, ScoreType, LossCase>> {};

TEST_P(Losses, EqualAutogradAndFiniteDifferences) {
  const auto [encoder, score, loss] = GetParam();
  ModelConfig config = small_config(encoder, score, true);
  config.loss = loss.loss;
  config.negative_samples = loss.negative_samples;
  config.all_positives = loss.all_positives;
  expect_gradients_of_a_step(config);
}

TEST(Pooling, SqrtnHasTheGradientsOfAutograd) {
  for (const bool dropout : {false, true}) {
    ModelConfig config = small_config(EncoderType::bag, ScoreType::dot, dropout);
    config.pooling = PoolingType::sqrtn;
    expect_gradients_of_a_step(config);
  }
}

std::string name_of_loss(const testing::TestParamInfo<Losses::ParamType>& info) {
  const auto [encoder, score, loss] = info.param;
  return std::string(encoder == EncoderType::cnn ? "Cnn" : "Bag") +
         (score == ScoreType::dot ? "Dot" : "Cosine") + loss.name;
}

INSTANTIATE_TEST_SUITE_P(
    All, Losses,
    testing::Combine(testing::Values(EncoderType::bag, EncoderType::cnn),
                     testing::Values(ScoreType::dot, ScoreType::cosine),
                     testing::Values(LossCase{"WarpOfAllPositives", LossType::warp, 0, true},
                                     LossCase{"Hinge", LossType::hinge, 0, false},
                                     LossCase{"HingeOfAllPositives", LossType::hinge, 0, true},
                                     LossCase{"Bpr", LossType::bpr, 0, false},
                                     LossCase{"Softmax", LossType::softmax, 0, false},
                                     LossCase{"SampledSoftmax", LossType::softmax, 17, false},
                                     LossCase{"Starspace", LossType::starspace, 25, false})),
    name_of_loss);

}  // namespace
}  // namespace tagspace
