// Whole training steps as on a GPU, on the CPU: the engine's own code, LibTorch's products on the CPU, and
// the CUDA kernels run by the emulator. Compared with the CPU's engine, which tests/model compares with
// autograd.
#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/max.h>
#include <ATen/ops/mean.h>
#include <algorithm>
#include <array>
#include <c10/util/Exception.h>
#include <cmath>
#include <filesystem>
#include <gtest/gtest.h>
#include <malloc.h>
#include <random>
#include <string>
#include <unistd.h>

#include "base/error.h"
#include "model/gpu_engine.h"
#include "model/gpu_memory.h"

#ifdef TAGSPACE_ON_GPU
#include "tests/gpu/no_gpu.h"
#else
#include "tests/simt/simt.h"
#endif

namespace tagspace {
namespace {

const std::function<void()> kNothing = [] {};

#ifdef TAGSPACE_ON_GPU
const at::Device kDevice(at::kCUDA, 0);
void set_schedule(std::uint64_t /*seed*/) {}  // the GPU's own
#else
const at::Device kDevice(at::kCPU);
void set_schedule(std::uint64_t seed) { simt::schedule_seed = seed; }
#endif

constexpr std::uint32_t kHashtags = 30;
constexpr std::uint32_t kWords = 90;

ModelConfig small(EncoderType encoder) {
  ModelConfig config;
  config.seed = 7;
  config.vocab_size = kWords;
  config.hashtags = kHashtags;
  config.encoder = encoder;
  config.dim = 12;
  config.window = 3;
  config.filters = 40;
  config.initial_scale = 0.3F;
  config.word_dropout = 0.1F;
  config.dropout = 0.2F;
  config.max_tries = 20;
  config.max_norm = 1.5F;
  return config;
}

// Posts whose words belong to one of their hashtags, so that there is something to learn; empty ones among
// them.
PackedBatch batch_of(std::uint64_t seed, std::size_t posts) {
  std::mt19937_64 random(seed);
  PackedBatch batch;
  for (std::size_t i = 0; i < posts; ++i) {
    const auto hashtag = static_cast<std::uint32_t>(random() % (kHashtags - 1));
    const std::uint64_t tokens = i % 11 == 10 ? 0 : 1 + random() % 9;
    for (std::uint64_t t = 0; t < tokens; ++t) {
      batch.tokens.push_back(3 * hashtag + static_cast<std::uint32_t>(random() % 3));
    }
    batch.hashtags.push_back(hashtag);
    if (i % 3 == 0) batch.hashtags.push_back(kHashtags - 1);
    batch.end_post();
  }
  return batch;
}

// A model with an engine of either kind.
struct Trained {
  Trained(const ModelConfig& model_config, bool as_on_gpu, bool tf32 = false)
      : config(model_config),
        parameters(config, as_on_gpu ? kDevice : at::Device(at::kCPU)),
        engine(as_on_gpu ? make_gpu_engine(config, parameters, kDevice)
                         : make_cpu_engine(config, parameters)) {
    // Products in TF32 have another tolerance.
    at::globalContext().setAllowTF32CuBLAS(tf32);
  }

  ModelConfig config;
  Parameters parameters;
  std::unique_ptr<Engine> engine;
};

void copy_parameters(Parameters& to, Parameters& from) {
  const auto targets = to.all();
  const auto sources = from.all();
  for (std::size_t i = 0; i < targets.size(); ++i) {
    targets[i]->value.copy_(sources[i]->value);
    if (targets[i]->sums.defined()) targets[i]->sums.copy_(sources[i]->sums);
  }
}

// The largest difference, relative to 1 where values are below that.
double distance(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor scale = at::clamp(at::abs(b.to(at::kCPU, at::kDouble)), 1);
  return at::max(at::abs(a.to(at::kCPU, at::kDouble) - b.to(at::kCPU, at::kDouble)) / scale).item<double>();
}

void expect_close(Parameters& actual, Parameters& expected, double tolerance) {
  const auto a = actual.all();
  const auto b = expected.all();
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_TRUE(distance(a[i]->value, b[i]->value) <= tolerance)
        << a[i]->name << ": " << distance(a[i]->value, b[i]->value);
    if (!a[i]->sums.defined()) continue;
    EXPECT_TRUE(distance(a[i]->sums, b[i]->sums) <= tolerance)
        << "sums of " << a[i]->name << ": " << distance(a[i]->sums, b[i]->sums);
  }
}

class GpuStep : public testing::Test {
 protected:
#ifdef TAGSPACE_ON_GPU
  void SetUp() override {
    if (no_gpu()) GTEST_SKIP() << "no usable GPU: no device";
    try {
      (void)find_device("cuda");
    } catch (const Error& error) {
      FAIL() << error.what();
    }
  }
#endif
  void TearDown() override { set_schedule(0); }
};

struct Case {
  EncoderType encoder;
  ScoreType score;
  OptimizerType optimizer;
  bool as_bag;
};

// Every loss, likewise.
TEST_F(GpuStep, EqualsTheStepOfTheCpuWithEveryLoss) {
  struct LossCase {
    LossType loss;
    std::uint32_t negative_samples;
    bool all_positives;
  };
  for (const auto& [loss, negative_samples, all_positives] :
       {LossCase{LossType::warp, 0, true}, LossCase{LossType::hinge, 0, false},
        LossCase{LossType::bpr, 0, true}, LossCase{LossType::softmax, 0, false},
        LossCase{LossType::softmax, 30, false}, LossCase{LossType::starspace, 20, false}}) {
    for (const auto encoder : {EncoderType::bag, EncoderType::cnn}) {
      for (const auto score : {ScoreType::dot, ScoreType::cosine}) {
        SCOPED_TRACE("loss " + std::to_string(static_cast<int>(loss)) + ", samples " +
                     std::to_string(negative_samples) + ", cnn " +
                     std::to_string(static_cast<int>(encoder == EncoderType::cnn)) + ", cosine " +
                     std::to_string(static_cast<int>(score == ScoreType::cosine)));
        ModelConfig config = small(encoder);
        config.score = score;
        config.loss = loss;
        config.negative_samples = negative_samples;
        config.all_positives = all_positives;
        config.optimizer = OptimizerType::sgd;
        if (all_positives) config.pooling = PoolingType::sqrtn;
        Trained expected(config, false);
        Trained actual(config, true);
        StepStatistics of_expected;
        StepStatistics of_actual;
        for (std::uint64_t step = 0; step < 3; ++step) {
          const PackedBatch batch = batch_of(step, 20 + 7 * (step % 3));
          copy_parameters(actual.parameters, expected.parameters);
          of_expected += expected.engine->train_step(batch, step, 0.9F, false, kNothing);
          of_actual += actual.engine->train_step(batch, step, 0.9F, false, kNothing);
          expect_close(actual.parameters, expected.parameters, 2e-5);
        }
        of_actual += actual.engine->finish_steps();
        EXPECT_EQ(of_actual.posts, of_expected.posts);
        EXPECT_EQ(of_actual.pairs, of_expected.pairs);
        EXPECT_EQ(of_actual.violators, of_expected.violators);
        EXPECT_EQ(of_actual.tries, of_expected.tries);
        EXPECT_NEAR(of_actual.loss, of_expected.loss, 1e-4 * of_expected.loss);
        if (HasFailure()) return;
      }
    }
  }
}

// Each step from the same parameters: all that a step changes is what the CPU's step changes.
TEST_F(GpuStep, EqualsTheStepOfTheCpu) {
  for (const auto& [encoder, score, optimizer, as_bag] :
       {Case{EncoderType::bag, ScoreType::dot, OptimizerType::adagrad, false},
        Case{EncoderType::bag, ScoreType::cosine, OptimizerType::sgd, false},
        Case{EncoderType::cnn, ScoreType::dot, OptimizerType::adagrad, false},
        Case{EncoderType::cnn, ScoreType::cosine, OptimizerType::adagrad, false},
        Case{EncoderType::cnn, ScoreType::dot, OptimizerType::sgd, false},
        Case{EncoderType::cnn, ScoreType::dot, OptimizerType::adagrad, true}}) {
    ModelConfig config = small(encoder);
    config.score = score;
    config.optimizer = optimizer;
    if (optimizer == OptimizerType::sgd) config.pooling = PoolingType::sqrtn;
    Trained expected(config, false);
    Trained actual(config, true);
    expect_close(actual.parameters, expected.parameters, 0);
    StepStatistics of_expected;
    StepStatistics of_actual;
    for (std::uint64_t step = 0; step < 6; ++step) {
      SCOPED_TRACE("cnn " + std::to_string(static_cast<int>(encoder == EncoderType::cnn)) + ", cosine " +
                   std::to_string(static_cast<int>(score == ScoreType::cosine)) + ", sgd " +
                   std::to_string(static_cast<int>(optimizer == OptimizerType::sgd)) + ", as bag " +
                   std::to_string(static_cast<int>(as_bag)) + ", step " + std::to_string(step));
      set_schedule(step);
      // Of different sizes: memory is used again, and grows.
      const PackedBatch batch = batch_of(step, 20 + 7 * (step % 3));
      copy_parameters(actual.parameters, expected.parameters);
      of_expected += expected.engine->train_step(batch, step, 0.9F, as_bag, kNothing);
      of_actual += actual.engine->train_step(batch, step, 0.9F, as_bag, kNothing);
      expect_close(actual.parameters, expected.parameters, 2e-5);
      if (HasFailure()) return;
    }
    of_actual += actual.engine->finish_steps();
    EXPECT_EQ(of_actual.posts, of_expected.posts);
    EXPECT_EQ(of_actual.violators, of_expected.violators);
    EXPECT_EQ(of_actual.tries, of_expected.tries);
    EXPECT_NEAR(of_actual.loss, of_expected.loss, 1e-4 * of_expected.loss);

    const PackedBatch batch = batch_of(99, 40);
    std::vector<float> vectors(std::size_t{40} * config.dim);
    std::vector<float> expected_vectors(std::size_t{40} * config.dim);
    actual.engine->encode(batch, as_bag, vectors.data());
    copy_parameters(actual.parameters, expected.parameters);
    expected.engine->encode(batch, as_bag, expected_vectors.data());
    for (std::size_t i = 0; i < vectors.size(); ++i) {
      ASSERT_TRUE(std::abs(vectors[i] - expected_vectors[i]) <= 1e-3F * (1 + std::abs(expected_vectors[i])));
    }
  }
}

// As users run it, with products in TF32 on a GPU that has them: 10 bits of a factor are left.
TEST_F(GpuStep, ProductsInTf32AreClose) {
  const ModelConfig config = small(EncoderType::cnn);
  Trained expected(config, false);
  Trained actual(config, true, true);
  for (std::uint64_t step = 0; step < 6; ++step) {
    const PackedBatch batch = batch_of(step, 30);
    copy_parameters(actual.parameters, expected.parameters);
    expected.engine->train_step(batch, step, 0.9F, false, kNothing);
    actual.engine->train_step(batch, step, 0.9F, false, kNothing);
    // Two scores that are nearly equal may be told apart the other way round: of a few posts, or of none.
    const at::Tensor a = actual.parameters.linear.value.to(at::kCPU);
    const at::Tensor b = expected.parameters.linear.value.to(at::kCPU);
    EXPECT_TRUE(at::mean(at::abs(a - b)).item<double>() <= 1e-2 * at::mean(at::abs(b)).item<double>());
  }
  std::vector<float> vectors(std::size_t{40} * config.dim);
  std::vector<float> expected_vectors(vectors.size());
  const PackedBatch batch = batch_of(99, 40);
  copy_parameters(actual.parameters, expected.parameters);
  actual.engine->encode(batch, false, vectors.data());
  expected.engine->encode(batch, false, expected_vectors.data());
  for (std::size_t i = 0; i < vectors.size(); ++i) {
    ASSERT_TRUE(std::abs(vectors[i] - expected_vectors[i]) <= 2e-2F * (1 + std::abs(expected_vectors[i])));
  }
}

// A file in the folder for such, removed again.
struct TemporaryFile {
  std::filesystem::path path = std::filesystem::path(testing::TempDir()) /
                               ("tagspace-gpu-step-" + std::to_string(getpid()) + ".safetensors");
  TemporaryFile() = default;
  ~TemporaryFile() { std::filesystem::remove(path); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  TemporaryFile(TemporaryFile&&) = delete;
  TemporaryFile& operator=(TemporaryFile&&) = delete;
};

// What was trained on either device is the same model on the other: it scores alike, and trains on.
TEST_F(GpuStep, ACheckpointMayBeLoadedOnTheOtherDevice) {
  const TemporaryFile file;
  const PackedBatch batch = batch_of(99, 40);
  for (const auto encoder : {EncoderType::bag, EncoderType::cnn}) {
    for (const auto format : {TableFormat::float32, TableFormat::bfloat16}) {
      for (const bool from_gpu : {true, false}) {
        if (!from_gpu && format == TableFormat::bfloat16) continue;
        SCOPED_TRACE("cnn " + std::to_string(static_cast<int>(encoder == EncoderType::cnn)) +
                     ", from the GPU " + std::to_string(static_cast<int>(from_gpu)));
        ModelConfig config = small(encoder);
        config.table_format = format;
        Trained trained(config, from_gpu);
        for (std::uint64_t step = 0; step < 5; ++step) {
          trained.engine->train_step(batch_of(step, 30), step, 1, false, kNothing);
        }
        trained.engine->finish_steps();
        trained.parameters.save(file.path, "the state", true);
        config.table_format = TableFormat::float32;
        config.seed = 1000;  // other first values
        Trained loaded(config, !from_gpu);
        EXPECT_EQ(loaded.parameters.load(file.path, true), "the state");
        expect_close(loaded.parameters, trained.parameters, 0);
        std::vector<float> vectors(std::size_t{40} * config.dim);
        std::vector<float> expected_vectors(vectors.size());
        loaded.engine->encode(batch, false, vectors.data());
        trained.engine->encode(batch, false, expected_vectors.data());
        for (std::size_t i = 0; i < vectors.size(); ++i) {
          ASSERT_TRUE(std::abs(vectors[i] - expected_vectors[i]) <=
                      1e-3F * (1 + std::abs(expected_vectors[i])));
        }
        if (format == TableFormat::bfloat16) continue;
        // The optimiser's sums came with it: the next step is the same. (The seed draws the negatives.)
        trained.config.seed = loaded.config.seed;
        Trained goes_on(loaded.config, from_gpu);
        copy_parameters(goes_on.parameters, trained.parameters);
        goes_on.engine->train_step(batch, 5, 1, false, kNothing);
        loaded.engine->train_step(batch, 5, 1, false, kNothing);
        expect_close(loaded.parameters, goes_on.parameters, 2e-5);
      }
    }
  }
}

TEST_F(GpuStep, ErrorsOfLibTorchAreErrorsForPeople) {
  const auto error_of = [](const auto& fail) {
    try {
      try {
        fail();
      } catch (const c10::Error&) {
        throw_as_error();
      }
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const c10::SourceLocation here{"here", __FILE__, __LINE__};
  const std::string used_up = error_of([&] { throw c10::OutOfMemoryError(here, "CUDA out of memory"); });
  EXPECT_NE(used_up.find("the GPU's memory is used up"), std::string::npos) << used_up;
  EXPECT_NE(used_up.find("--device cpu"), std::string::npos) << used_up;
  const std::string other = error_of([&] { throw c10::Error(here, "the reason"); });
  EXPECT_EQ(other.find("LibTorch reports: the reason"), 0U) << other;
}

// The mean loss a post of the first and of the last steps.
struct Curve {
  double first = 0;
  double last = 0;
};
Curve train(Trained& model, std::uint64_t steps) {
  Curve curve;
  for (std::uint64_t step = 0; step < steps; ++step) {
    StepStatistics statistics = model.engine->train_step(batch_of(step, 32), step, 1, false, kNothing);
    statistics += model.engine->finish_steps();
    EXPECT_EQ(statistics.posts, 32U);
    const double loss = statistics.loss / 32;
    if (step < 5) curve.first += loss / 5;
    if (step >= steps - 5) curve.last += loss / 5;
  }
  return curve;
}

TEST_F(GpuStep, FiftyStepsLowerTheLossAsOnTheCpu) {
  for (const auto encoder : {EncoderType::bag, EncoderType::cnn}) {
    const ModelConfig config = small(encoder);
    Trained on_cpu(config, false);
    Trained on_gpu(config, true);
    const Curve expected = train(on_cpu, 50);
    const Curve actual = train(on_gpu, 50);
    EXPECT_LT(actual.last, 0.5 * actual.first);
    // A rounding may let another violator be chosen, and paths part: not by much.
    EXPECT_NEAR(actual.last, expected.last, 0.05 * expected.first);
  }
}

TEST_F(GpuStep, FiftyStepsOfHogwildAndOfHalfTablesLowerTheLoss) {
  for (const auto encoder : {EncoderType::bag, EncoderType::cnn}) {
    for (const bool hogwild : {false, true}) {
      for (const auto format : {TableFormat::float32, TableFormat::bfloat16}) {
        if (!hogwild && format == TableFormat::float32) continue;
        SCOPED_TRACE("hogwild " + std::to_string(static_cast<int>(hogwild)) + ", halves " +
                     std::to_string(static_cast<int>(format == TableFormat::bfloat16)));
        ModelConfig config = small(encoder);
        config.row_updates = hogwild ? RowUpdateMode::hogwild : RowUpdateMode::deterministic;
        config.table_format = format;
        Trained model(config, true);
        const Curve curve = train(model, 50);
        EXPECT_LT(curve.last, 0.6 * curve.first);
        EXPECT_EQ(model.parameters.hashtags.value.scalar_type(),
                  format == TableFormat::bfloat16 ? at::kBFloat16 : at::kFloat);
      }
    }
  }
}

TEST_F(GpuStep, TheScheduleChangesNothing) {
  for (const bool hogwild : {false, true}) {
#ifdef TAGSPACE_ON_GPU
    if (hogwild) continue;  // may happen to meet the same schedule
#endif
    ModelConfig config = small(EncoderType::cnn);
    config.row_updates = hogwild ? RowUpdateMode::hogwild : RowUpdateMode::deterministic;
    std::vector<at::Tensor> tables;
    for (const std::uint64_t schedule : {0U, 5U, 6U}) {
      Trained model(config, true);
      set_schedule(schedule);
      train(model, 3);
      tables.push_back(model.parameters.hashtags.value);
    }
    EXPECT_EQ(at::equal(tables[0], tables[1]) && at::equal(tables[1], tables[2]), !hogwild);
  }
}

// Statistics come late, in groups, and all of them by finish_steps().
TEST_F(GpuStep, StatisticsOfAllStepsArrive) {
  Trained model(small(EncoderType::bag), true);
  Trained asked_always(small(EncoderType::bag), true);
  StepStatistics sum;
  StepStatistics expected;
  std::uint64_t readings = 0;
  for (std::uint64_t step = 0; step < 60; ++step) {
    const StepStatistics some = model.engine->train_step(batch_of(step, 10), step, 1, false, kNothing);
    readings += some.posts > 0 ? 1 : 0;
    sum += some;
    asked_always.engine->train_step(batch_of(step, 10), step, 1, false, kNothing);
    const StepStatistics of_step = asked_always.engine->finish_steps();
    EXPECT_EQ(of_step.posts, 10U);
    expected += of_step;
  }
  EXPECT_EQ(readings, 2U);  // after 32 steps of the first 16, after 48 of the next
  EXPECT_EQ(sum.posts, 320U);
  sum += model.engine->finish_steps();
  EXPECT_EQ(sum.posts, 600U);
  EXPECT_EQ(sum.violators, expected.violators);
  EXPECT_EQ(sum.tries, expected.tries);
  EXPECT_NEAR(sum.loss, expected.loss, 1e-9 * expected.loss);
  EXPECT_GE(sum.tries, sum.posts);
  EXPECT_EQ(model.engine->finish_steps().posts, 0U);
}

TEST_F(GpuStep, ALossThatIsNotFiniteIsAnError) {
  Trained model(small(EncoderType::bag), true);
  model.parameters.words.value.fill_(std::numeric_limits<float>::quiet_NaN());
  model.engine->train_step(batch_of(1, 10), 17, 1, false, kNothing);
  try {
    (void)model.engine->finish_steps();
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("at the latest in step 17"), std::string::npos) << error.what();
  }
}

// A piece is limited by the larger of windows and products.
TEST_F(GpuStep, WhatAPieceHolds) {
  ModelConfig config;
  config.window = 5;
  for (const auto& [dim, filters, floats] : {std::array{256U, 100U, 1280U}, std::array{64U, 1000U, 1000U}}) {
    config.dim = dim;
    config.filters = filters;
    EXPECT_EQ(gpu_piece_tokens(config), (32U << 20) / 4 / floats);
  }
}

// More products than one piece may hold: the posts are gone through in pieces.
TEST_F(GpuStep, BatchesOfManyPieces) {
  ModelConfig config = small(EncoderType::cnn);
  config.dim = 4;
  config.window = 2;
  config.filters = 2000;  // 4194 tokens a piece
  PackedBatch batch;
  std::mt19937_64 random(3);
  for (int post = 0; post < 30; ++post) {
    const std::uint64_t tokens = post == 11 ? 5000 : random() % 400;  // one alone is more than a piece
    for (std::uint64_t t = 0; t < tokens; ++t) {
      batch.tokens.push_back(static_cast<std::uint32_t>(random() % kWords));
    }
    batch.hashtags.push_back(static_cast<std::uint32_t>(random() % kHashtags));
    batch.end_post();
  }
  Trained expected(config, false);
  Trained actual(config, true);
  expected.engine->train_step(batch, 0, 1, false, kNothing);
  actual.engine->train_step(batch, 0, 1, false, kNothing);
  expect_close(actual.parameters, expected.parameters, 1e-3);
}

TEST_F(GpuStep, PostsWithoutAnyToken) {
  PackedBatch batch;
  for (int post = 0; post < 5; ++post) {
    batch.hashtags.push_back(static_cast<std::uint32_t>(post));
    batch.end_post();
  }
  for (const auto encoder : {EncoderType::bag, EncoderType::cnn}) {
    Trained expected(small(encoder), false);
    Trained actual(small(encoder), true);
    expected.engine->train_step(batch, 0, 1, false, kNothing);
    actual.engine->train_step(batch, 0, 1, false, kNothing);
    expect_close(actual.parameters, expected.parameters, 1e-5);
  }
}

#ifndef TAGSPACE_ON_GPU
// Bytes of the heap in use.
std::uint64_t heap_bytes() {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

TEST_F(GpuStep, TheEstimateOfMemoryIsWhatAStepTakes) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers have a heap of their own";
#endif
  struct Sizes {
    EncoderType encoder;
    std::uint32_t dim, filters;
  };
  // The second has more pairs than tokens or posts. The last has windows for more than one piece, and a post
  // that is longer than a piece.
  for (const auto& [encoder, dim, filters] :
       {Sizes{EncoderType::bag, 32, 100}, Sizes{EncoderType::bag, 4, 100}, Sizes{EncoderType::cnn, 32, 100},
        Sizes{EncoderType::cnn, 2048, 8}}) {
    SCOPED_TRACE("dim " + std::to_string(dim));
    const bool pairs = dim == 4;
    ModelConfig config = small(encoder);
    config.vocab_size = dim == 2048 ? 2000 : 20000;
    config.hashtags = config.vocab_size / 2;
    config.dim = dim;
    config.filters = filters;
    config.word_dropout = 0.1F;
    std::uint64_t longest_post = 10;
    config.all_positives = pairs;
    PackedBatch batch = batch_of(1, 1000);
    if (pairs) {
      batch.clear();
      for (std::uint32_t post = 0; post < 2000; ++post) {
        batch.tokens.push_back(post % kWords);
        for (std::uint32_t hashtag = 0; hashtag < 8; ++hashtag) batch.hashtags.push_back(hashtag);
        batch.end_post();
      }
    }
    if (dim == 2048) {
      longest_post = 1500;
      batch = batch_of(1, 100);
      for (std::uint64_t t = 0; t < longest_post; ++t)
        batch.tokens.push_back(static_cast<std::uint32_t>(t % kWords));
      batch.hashtags.push_back(1);
      batch.end_post();
      EXPECT_LT(gpu_piece_tokens(config), longest_post);
    }
    // What the emulator and LibTorch keep from their first use on is there before.
    Trained(config, true).engine->train_step(batch, 0, 1, false, kNothing);
    const std::uint64_t before = heap_bytes();
    Trained model(config, true);
    const std::uint64_t with_model = heap_bytes();
    for (std::uint64_t step = 0; step < 3; ++step) model.engine->train_step(batch, step, 1, false, kNothing);
    const auto parameters = static_cast<double>(with_model - before);
    // The pinned memory, which is the host's, is in the heap here too.
    const std::size_t pinned = kGpuBatches * sizeof(std::uint32_t) *
                               (batch.tokens.size() + batch.hashtags.size() + 2 * batch.token_offsets.size());
    const auto workspace = static_cast<double>(heap_bytes() - with_model - pinned);
    const GpuMemory estimate = estimate_gpu_memory(
        config, {batch.posts(), batch.tokens.size(), batch.hashtags.size()}, longest_post);
    EXPECT_NEAR(parameters / static_cast<double>(estimate.parameters), 1, 0.05);
    EXPECT_NEAR(workspace / static_cast<double>(estimate.workspace), 1, 0.08);
  }
}
#endif

TEST_F(GpuStep, TheLargestBatchIsTheLargestThatFits) {
  const ModelConfig config = small(EncoderType::cnn);
  const std::uint64_t bytes = kGpuReserve + 5'000'000;
  const PostSize post{4.5, 1.5};
  const std::uint64_t posts = largest_batch(config, post, 9, bytes);
  const auto total = [&](std::uint64_t count) {
    return estimate_gpu_memory(config, post.times(count), 9).total();
  };
  EXPECT_GT(posts, 100U);
  EXPECT_LE(total(posts), bytes);
  EXPECT_GT(total(posts + 1), bytes);
  EXPECT_EQ(largest_batch(config, post, 9, kGpuReserve), 0U);  // not even the tables

  ModelConfig of_pairs = config;
  of_pairs.all_positives = true;
  EXPECT_LT(largest_batch(of_pairs, post, 9, bytes), posts);
  EXPECT_EQ(largest_batch(of_pairs, {4.5, 1}, 9, bytes), largest_batch(config, {4.5, 1}, 9, bytes));
}

}  // namespace
}  // namespace tagspace
