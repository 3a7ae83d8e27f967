#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <gtest/gtest.h>
#include <limits>
#include <random>
#include <string>

#include "base/error.h"
#include "base/files.h"
#include "model/checkpoint.h"
#include "model/inference/inference_model.h"
#include "model/inference/ranking.h"
#include "model/model.h"

namespace tagspace {
namespace {

ModelConfig small(EncoderType encoder) {
  ModelConfig config;
  config.vocab_size = 60;
  config.hashtags = 20;
  config.encoder = encoder;
  config.dim = 16;
  config.filters = 40;
  config.word_dropout = 0.1F;
  config.dropout = 0.1F;
  config.max_norm = 1.5F;
  return config;
}

// Post i of topic h has words of the range that belongs to hashtag h: learnable.
PackedBatch topics(std::uint64_t seed, std::size_t posts) {
  std::mt19937_64 random(seed);
  PackedBatch batch;
  for (std::size_t i = 0; i < posts; ++i) {
    const auto hashtag = static_cast<std::uint32_t>(random() % 20);
    for (std::uint64_t t = 0; t < 1 + random() % 8; ++t) {
      batch.tokens.push_back(3 * hashtag + static_cast<std::uint32_t>(random() % 3));
    }
    batch.hashtags.push_back(hashtag);
    batch.end_post();
  }
  return batch;
}

double precision_at_1(const Model& model, const PackedBatch& batch, bool as_bag) {
  std::vector<float> vectors(batch.posts() * model.config().dim);
  model.encode(batch, as_bag, vectors.data());
  kernels::CpuContext context(2);
  const auto ranks = rank_hashtags(batch, vectors, model.hashtag_vectors(), model.config().dim, context);
  RankingMetrics sum;
  for (std::size_t i = 0; i < batch.posts(); ++i) sum.add(of_post(batch, ranks.ranks, i));
  return sum.averages().precision_at_1;
}

class Files : public testing::Test {
 protected:
  void SetUp() override {
    folder = std::filesystem::path(testing::TempDir()) /
             (std::string("model-") + testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::create_directories(folder);
  }
  void TearDown() override { std::filesystem::remove_all(folder); }
  std::filesystem::path folder;
};
using ModelTest = Files;

TEST(ModelMemory, ThatIsNotThereIsAnErrorForPeople) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers end the program where memory is not there";
#endif
  ModelConfig config = small(EncoderType::bag);
  config.vocab_size = ~std::uint32_t{0};
  config.dim = 8192;  // 128 TiB, more than there are addresses
  try {
    const Model model(config);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).find("LibTorch reports: "), 0U) << error.what();
  }
}

TEST_F(ModelTest, LearnsTopicsWithEveryEncoderScoreWeightAndOptimizer) {
  for (const auto encoder : {EncoderType::bag, EncoderType::cnn}) {
    for (const auto score : {ScoreType::dot, ScoreType::cosine}) {
      for (const auto optimizer : {OptimizerType::adagrad, OptimizerType::sgd}) {
        auto config = small(encoder);
        config.score = score;
        config.optimizer = optimizer;
        config.margin = score == ScoreType::cosine ? 0.5F : 0.1F;
        config.learning_rate = optimizer == OptimizerType::sgd ? 2 : 0.1F;
        config.encoder_learning_rate = optimizer == OptimizerType::sgd ? 0.5F : 0.05F;
        if (encoder == EncoderType::cnn) config.initial_scale = 0.1F;
        Model model(config);
        for (std::uint64_t step = 0; step < 300; ++step) model.train_step(topics(step, 64), step, 1, false);
        EXPECT_GT(precision_at_1(model, topics(12345, 300), false), 0.9)
            << static_cast<int>(encoder) << static_cast<int>(score) << static_cast<int>(optimizer);
      }
    }
  }
}

TEST_F(ModelTest, LearnsWithNegativesFromAnywhereAndChoosesTheCheapest) {
  std::vector<std::string> models;
  for (const auto negatives :
       {NegativesType::sampled, NegativesType::shared, NegativesType::exact, NegativesType::automatic}) {
    auto config = small(EncoderType::bag);
    config.learning_rate = 0.1F;
    config.negatives = negatives;
    Model model(config);
    for (std::uint64_t step = 0; step < 300; ++step) model.train_step(topics(step, 64), step, 1, false);
    EXPECT_GT(precision_at_1(model, topics(12345, 300), false), 0.9) << static_cast<int>(negatives);
    model.save(folder / "model", "{}", true);
    models.push_back(read_file(folder / "model"));
    const bool automatic = negatives == NegativesType::automatic;
    EXPECT_EQ(model.choose_negatives(3), automatic ? NegativesType::shared : negatives);
    EXPECT_EQ(model.choose_negatives(500), automatic ? NegativesType::exact : negatives);  // 20 hashtags
  }
  EXPECT_NE(models[0], models[1]);
  EXPECT_NE(models[0], models[2]);
  EXPECT_NE(models[1], models[2]);
  EXPECT_EQ(models[3], models[1]) << "shared, before a choice is made";
}

TEST_F(ModelTest, LearnsUnderEveryLoss) {
  for (const auto loss :
       {LossType::warp, LossType::hinge, LossType::bpr, LossType::starspace, LossType::softmax}) {
    for (const bool all_positives : {false, true}) {
      if (all_positives && (loss == LossType::starspace || loss == LossType::softmax)) continue;
      auto config = small(EncoderType::bag);
      config.learning_rate = 0.1F;
      config.loss = loss;
      config.all_positives = all_positives;
      if (loss == LossType::starspace) config.negative_samples = 10;
      Model model(config);
      for (std::uint64_t step = 0; step < 300; ++step) model.train_step(topics(step, 64), step, 1, false);
      EXPECT_GT(precision_at_1(model, topics(12345, 300), false), 0.9) << static_cast<int>(loss);
    }
  }
}

TEST_F(ModelTest, TheSameBitsForAnyNumberOfThreads) {
  const auto with = [](EncoderType encoder, LossType loss, std::uint32_t negative_samples) {
    auto config = small(encoder);
    config.loss = loss;
    config.negative_samples = negative_samples;
    return config;
  };
  for (ModelConfig config :
       {small(EncoderType::bag), small(EncoderType::cnn), with(EncoderType::bag, LossType::softmax, 0),
        with(EncoderType::cnn, LossType::starspace, 13)}) {
    std::string first;
    for (const std::uint32_t threads : {1, 2, 3, 7}) {
      config.threads = threads;
      Model model(config);
      for (std::uint64_t step = 0; step < 20; ++step) model.train_step(topics(step, 100), step, 1, step < 5);
      model.save(folder / "model", "{}", true);
      const auto bytes = read_file(folder / "model");
      if (threads == 1) first = bytes;
      EXPECT_TRUE(bytes == first) << threads << " threads";
    }
  }
}

TEST_F(ModelTest, GoesOnFromACheckpointAsIfNeverInterrupted) {
  for (const auto encoder : {EncoderType::bag, EncoderType::cnn}) {
    const auto config = small(encoder);
    const auto steps = [](Model& model, std::uint64_t begin, std::uint64_t end) {
      for (std::uint64_t step = begin; step < end; ++step)
        model.train_step(topics(step, 50), step, 0.9F, false);
    };
    Model whole(config);
    steps(whole, 0, 20);
    whole.save(folder / "whole", "{}", true);

    Model half(config);
    steps(half, 0, 9);
    half.save(folder / "half", R"({"step": 9})", true);
    auto other = config;
    other.seed = 1;
    Model resumed(other);
    resumed.train_step(topics(77, 50), 1, 1, false);
    EXPECT_EQ(resumed.load(folder / "half", true), R"({"step": 9})");
    steps(resumed, 9, 20);
    resumed.save(folder / "resumed", "{}", true);
    EXPECT_TRUE(read_file(folder / "whole") == read_file(folder / "resumed"));
  }
}

TEST_F(ModelTest, RefusesACheckpointOfAnotherShapeOrWithoutTheOptimizer) {
  const Model model(small(EncoderType::bag));
  model.save(folder / "model", "{}", false);
  const auto message = [&](ModelConfig config, bool optimizer) {
    Model other(config);
    try {
      other.load(folder / "model", optimizer);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(message(small(EncoderType::bag), false), "");
  EXPECT_NE(message(small(EncoderType::bag), true).find("no array 'adagrad.words'"), std::string::npos);
  auto wide = small(EncoderType::bag);
  wide.dim = 17;
  EXPECT_NE(message(wide, false).find("'words' is 60 x 16, and should be 60 x 17"), std::string::npos);
  EXPECT_NE(message(small(EncoderType::cnn), false).find("no array 'convolution.weight'"), std::string::npos);
}

TEST_F(ModelTest, RowsStayWithinTheMaximumNorm) {
  auto config = small(EncoderType::bag);
  config.max_norm = 0.2F;
  Model model(config);
  for (std::uint64_t step = 0; step < 50; ++step) model.train_step(topics(step, 64), step, 1, false);
  for (const auto& table : {model.word_vectors(), model.hashtag_vectors()}) {
    float longest = 0;
    for (std::size_t row = 0; row < table.size(); row += config.dim) {
      float squared = 0;
      for (std::size_t i = 0; i < config.dim; ++i) squared += table[row + i] * table[row + i];
      longest = std::max(longest, std::sqrt(squared));
    }
    EXPECT_NEAR(longest, 0.2F, 1e-6F);
  }
}

TEST_F(ModelTest, AStepCallsWhatIsToBeDoneMeanwhileOnce) {
  for (const auto encoder : {EncoderType::bag, EncoderType::cnn}) {
    for (const std::uint32_t threads : {1U, 3U}) {
      auto config = small(encoder);
      config.threads = threads;
      Model model(config);
      std::atomic<int> calls = 0;
      for (const std::size_t posts : {0, 1, 64}) {
        for (const bool as_bag : {true, false}) {
          calls = 0;
          model.train_step(topics(1, posts), 1, 1, as_bag, [&] { ++calls; });
          EXPECT_EQ(calls, 1) << posts << " posts";
        }
      }
    }
  }
}

TEST_F(ModelTest, TheTrainingsNumbersAreThoseOfPrediction) {
  for (const auto encoder : {EncoderType::bag, EncoderType::cnn}) {
    for (const auto score : {ScoreType::dot, ScoreType::cosine}) {
      auto config = small(encoder);
      config.score = score;
      config.threads = 2;
      Model model(config);
      for (std::uint64_t step = 0; step < 20; ++step) model.train_step(topics(step, 64), step, 1, false);
      model.save(folder / "model", R"({"step": 20})", false);

      InferenceModel read(folder / "model", config);
      EXPECT_EQ(read.state(), R"({"step": 20})");
      const auto hashtags = read.hashtag_vectors();
      EXPECT_EQ(std::vector<float>(hashtags.begin(), hashtags.end()), model.hashtag_vectors());
      EXPECT_EQ(read.word_vectors(), model.word_vectors());
      const auto batch = topics(77, 300);
      kernels::CpuContext context(3);
      for (const bool as_bag : {false, true}) {
        std::vector<float> expected(batch.posts() * config.dim);
        std::vector<float> actual(expected.size());
        model.encode(batch, as_bag, expected.data());
        read.encode(batch, as_bag, actual.data(), context);
        EXPECT_EQ(actual, expected);  // bit for bit
      }
      auto other = config;
      other.hashtags = 21;
      EXPECT_THROW(InferenceModel(folder / "model", other), Error);
    }
  }
}

TEST_F(ModelTest, EncodesEveryPostAloneAsAmongOthers) {
  for (const auto encoder : {EncoderType::bag, EncoderType::cnn}) {
    for (const auto score : {ScoreType::dot, ScoreType::cosine}) {
      auto config = small(encoder);
      config.score = score;
      config.threads = 3;
      const Model model(config);
      auto batch = topics(3, 2500);
      batch.hashtags.push_back(1);
      batch.end_post();  // no token
      std::vector<float> all(batch.posts() * config.dim);
      model.encode(batch, false, all.data());
      for (const std::size_t i : {std::size_t{0}, std::size_t{1023}, std::size_t{1024}, batch.posts() - 1}) {
        PackedBatch alone;
        alone.tokens.assign(batch.tokens.begin() + batch.token_offsets[i],
                            batch.tokens.begin() + batch.token_offsets[i + 1]);
        alone.end_post();
        std::vector<float> vector(config.dim);
        model.encode(alone, false, vector.data());
        float squared = 0;
        for (std::size_t j = 0; j < config.dim; ++j) {
          ASSERT_EQ(vector[j], all[i * config.dim + j]);
          squared += vector[j] * vector[j];
        }
        if (score == ScoreType::cosine && !alone.tokens.empty()) {
          EXPECT_NEAR(squared, 1, 1e-5F);
        }
      }
    }
  }
}

TEST_F(ModelTest, BeginsWithGivenWordVectors) {
  const ModelConfig config = small(EncoderType::bag);
  Model model(config);
  std::vector<float> expected = model.word_vectors();
  const std::vector<float> hashtags = model.hashtag_vectors();
  const std::vector<std::uint32_t> rows = {0, 7, 59};
  std::vector<float> vectors(rows.size() * config.dim);
  for (std::size_t i = 0; i < vectors.size(); ++i) vectors[i] = 0.01F * static_cast<float>(1 + i);
  model.set_word_vectors(rows, vectors);
  for (std::size_t i = 0; i < vectors.size(); ++i) {
    expected[std::size_t{rows[i / config.dim]} * config.dim + i % config.dim] = vectors[i];
  }
  EXPECT_EQ(model.word_vectors(), expected);
  EXPECT_EQ(model.hashtag_vectors(), hashtags);
  // They are those that encode and are trained.
  PackedBatch post;
  post.tokens = {7};
  post.end_post();
  std::vector<float> encoded(config.dim);
  model.encode(post, true, encoded.data());
  const auto row = expected.begin() + 7 * std::ptrdiff_t{config.dim};
  EXPECT_EQ(encoded, std::vector<float>(row, row + config.dim));
  const PackedBatch batch = topics(1, 500);
  for (std::uint64_t step = 0; step < 30; ++step) (void)model.train_step(batch, step, 1, true);
  EXPECT_GT(precision_at_1(model, batch, true), 0.9);
  EXPECT_NE(model.word_vectors(), expected);
}

TEST_F(ModelTest, ADivergedLossIsAnError) {
  auto config = small(EncoderType::cnn);
  config.optimizer = OptimizerType::sgd;
  config.learning_rate = config.encoder_learning_rate = 1e20F;
  config.max_norm = 0;
  Model model(config);
  std::string message;
  try {
    for (std::uint64_t step = 0; step < 50; ++step) model.train_step(topics(step, 64), step, 1, false);
  } catch (const Error& error) {
    message = error.what();
  }
  EXPECT_NE(message.find("not a finite number"), std::string::npos);
  EXPECT_NE(message.find("optimizer.learning_rate"), std::string::npos);
}

}  // namespace
}  // namespace tagspace
