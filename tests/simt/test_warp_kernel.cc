// The WARP kernel, on the emulator or on a GPU, against the plain reference: everything bit for bit, but for
// what depends on the schedule.
#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "model/kernels/cuda/warp.cuh"
#include "model/kernels/hogwild.h"
#include "model/kernels/philox.h"
#include "model/kernels/warp.h"
#include "tests/model/warp_cases.h"
#include "tests/simt/kernel_arrays.h"
#include "tests/simt/sparse_array.h"

namespace tagspace::kernels {
namespace {

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  std::uint32_t below(std::uint32_t n) {
    return std::uniform_int_distribution<std::uint32_t>(0, n - 1)(engine_);
  }
  Array<float> normals(std::size_t count) {
    std::normal_distribution<float> normal(0, 0.3F);
    Array<float> values(count);
    for (auto& value : values) value = normal(engine_);
    return values;
  }

 private:
  std::mt19937_64 engine_;
};

// Random posts, post i with own_of(i) hashtags, or all; no more than four of them are its positives, of every
// seventh post none.
struct Problem : BasicWarpProblem<Array> {
  template <typename Own>
  Problem(std::uint32_t post_count, std::uint32_t dimension, std::uint32_t row_count, std::uint64_t seed,
          const Own& own_of)
      : BasicWarpProblem(post_count, dimension, row_count) {
    Random random(seed);
    vectors = random.normals(std::size_t{posts} * dim);
    table = random.normals(std::size_t{rows} * dim);
    for (std::uint32_t i = 0; i < posts; ++i) {
      std::vector<std::uint32_t> hashtags(rows);
      for (std::uint32_t h = 0; h < rows; ++h) hashtags[h] = h;
      // The first of a random permutation.
      const std::uint32_t count = std::min(rows, own_of(i));
      for (std::uint32_t h = 0; h < count; ++h) std::swap(hashtags[h], hashtags[h + random.below(rows - h)]);
      hashtags.resize(count);
      if (i % 7 != 6) {
        positives.insert(positives.end(), hashtags.begin(), hashtags.begin() + std::min(count, 1 + i % 4));
      }
      std::sort(hashtags.begin(), hashtags.end());
      own.insert(own.end(), hashtags.begin(), hashtags.end());
      own_offsets.push_back(static_cast<std::uint32_t>(own.size()));
      positive_offsets.push_back(static_cast<std::uint32_t>(positives.size()));
    }
  }
};

using Outcome = BasicWarpOutcome<Array>;

constexpr float kScale = 0.125F;

// rank_weights(), where the kernel can read them.
Array<float> weights_of(RankWeight rank_weight, std::uint32_t rows, std::uint32_t max_tries) {
  const std::vector<float> weights = rank_weights(rank_weight, rows, max_tries);
  return {weights.begin(), weights.end()};
}

Outcome reference(const Problem& problem, const WarpConfig& config, std::uint64_t step) {
  Outcome out(problem);
  warp_reference(config, problem.batch(step), kScale, out.result());
  return out;
}

// The arrays that the kernel writes, and the outcome that they amount to.
struct Arrays {
  Array<std::uint32_t> rows, sources;
  Array<float> coefficients, selves;

  explicit Arrays(std::size_t pairs)
      : rows(2 * pairs, 99), sources(2 * pairs, 99), coefficients(2 * pairs, 99), selves(2 * pairs, 99) {}

  [[nodiscard]] cuda::WarpOutput output(Outcome& out) {
    return {out.violator.data(), out.tries.data(), out.loss.data(),     out.post.data(),
            rows.data(),         sources.data(),   coefficients.data(), selves.data()};
  }
};

cuda::WarpSearch search_of(const Problem& problem, const WarpConfig& config, std::uint64_t step) {
  cuda::WarpSearch search;
  search.config = config;
  search.batch = problem.batch(step);
  // Without hogwild it is not written to.
  search.table.floats = const_cast<float*>(search.batch.table);  // NOLINT(*-const-cast)
  search.batch.table = nullptr;
  search.gradient_scale = kScale;
  return search;
}

int run(cuda::WarpSearch search, const Problem& problem, const cuda::WarpShape& shape, Outcome& out) {
  Arrays arrays(problem.pairs());
  search.output = arrays.output(out);
  const int status = cuda::warp_search(search, shape, nullptr);
  if (status != 0) return status;
  for (std::uint32_t post = 0; post < problem.posts; ++post) {
    for (auto pair = problem.positive_offsets[post]; pair < problem.positive_offsets[post + 1]; ++pair) {
      const std::size_t c = std::size_t{2} * pair;
      const bool found = out.violator[pair] != kNoViolator;
      EXPECT_EQ(arrays.rows[c], found ? problem.positives[pair] : kNoRow);
      EXPECT_EQ(arrays.rows[c + 1], out.violator[pair]);
      EXPECT_EQ(arrays.sources[c], post);
      EXPECT_EQ(arrays.sources[c + 1], post);
      out.positive[pair] = {arrays.coefficients[c], arrays.selves[c]};
      out.negative[pair] = {arrays.coefficients[c + 1], arrays.selves[c + 1]};
    }
  }
  return status;
}

int search(const Problem& problem, const WarpConfig& config, std::uint64_t step, const cuda::WarpShape& shape,
           Outcome& out) {
  return run(search_of(problem, config, step), problem, shape, out);
}

void expect_equal(const Outcome& actual, const Outcome& expected) {
  EXPECT_EQ(actual.violator, expected.violator);
  EXPECT_EQ(actual.tries, expected.tries);
  EXPECT_EQ(actual.loss, expected.loss);
  for (std::size_t i = 0; i < expected.positive.size(); ++i) {
    EXPECT_EQ(actual.positive[i].post, expected.positive[i].post) << "pair " << i;
    EXPECT_EQ(actual.positive[i].row, expected.positive[i].row) << "pair " << i;
    EXPECT_EQ(actual.negative[i].post, expected.negative[i].post) << "pair " << i;
    EXPECT_EQ(actual.negative[i].row, expected.negative[i].row) << "pair " << i;
  }
  EXPECT_EQ(actual.post, expected.post);
}

// None of them, a few, many, all but one, all.
std::uint32_t own_of(std::uint32_t rows, std::uint32_t post) {
  switch (post % 8) {
    case 0:
      return rows - 1;
    case 1:
      return rows;
    case 2:
      return 30;
    case 3:
      return rows / 2;
    default:
      return 1 + post % 3;
  }
}

// The shape of the test number `number`: lanes are given, warps from 1 to 8 as far as shared memory allows.
cuda::WarpShape shape_of(unsigned lanes, std::uint32_t dim, unsigned number) {
  cuda::WarpShape shape{lanes, 1 + number % 8};
  while (std::size_t{shape.warps} * (32 / lanes) * (dim + 64) * sizeof(float) > std::size_t{48} * 1024)
    shape.warps = (shape.warps + 1) / 2;
  return shape;
}

class WarpKernelTest : public testing::Test {
 protected:
  void TearDown() override { set_schedule(0); }
};
class WarpKernelOfDim : public WarpKernelTest, public testing::WithParamInterface<std::uint32_t> {};

TEST_P(WarpKernelOfDim, EqualsTheReferenceTryForTry) {
  const std::uint32_t dim = GetParam();
  std::uint64_t found = 0;
  std::uint64_t in_vain = 0;
  std::uint64_t longest = 0;
  unsigned number = dim;
  for (const std::uint32_t rows : {2U, 3U, 50U, 1000U, 5000U}) {
    const Problem problem(23, dim, rows, rows + dim,
                          [rows](std::uint32_t post) { return own_of(rows, post); });
    for (const auto score : {Score::dot, Score::cosine}) {
      for (const auto rank_weight : {RankWeight::harmonic, RankWeight::log, RankWeight::linear}) {
        // An easy, a middling and a hard search: violators at the first tries, later, and mostly none.
        for (const float difficulty : {0.1F, -0.5F, -1.5F}) {
          const std::uint32_t max_tries = std::vector<std::uint32_t>{100, 1, 37, 9}[number % 4];
          const Array<float> weights = weights_of(rank_weight, rows, max_tries);
          const float spread = score == Score::cosine ? 1 / std::sqrt(static_cast<float>(dim))
                                                      : 0.09F * std::sqrt(static_cast<float>(dim));
          const auto negatives = number % 3 == 0 ? Negatives::shared : Negatives::sampled;
          WarpConfig config{score, difficulty * spread, max_tries, 42, weights.data(), negatives};
          config.pool_in_parts = score == Score::cosine;
          const std::uint64_t step = number % 3 == 0 ? 5'000'000'000 : number;
          const Outcome expected = reference(problem, config, step);
          for (std::size_t i = 0; i < expected.tries.size(); ++i) {
            (expected.violator[i] == kNoViolator ? in_vain : found) += 1;
            longest = std::max<std::uint64_t>(longest, expected.tries[i]);
          }
          for (const unsigned lanes : {8U, 16U, 32U}) {
            const auto shape = shape_of(lanes, dim, number++);
            SCOPED_TRACE("rows " + std::to_string(rows) + ", lanes " + std::to_string(lanes) + ", warps " +
                         std::to_string(shape.warps) + ", max_tries " + std::to_string(max_tries) +
                         ", cosine " + std::to_string(static_cast<int>(score == Score::cosine)) +
                         ", schedule " + std::to_string(number));
            set_schedule(number % 4 == 0 ? 0 : number);
            Outcome actual(problem);
            ASSERT_EQ(search(problem, config, step, shape, actual), 0);
            expect_equal(actual, expected);
            if (HasFailure()) return;
          }
        }
      }
    }
  }
  // The problems are what they are meant to be.
  EXPECT_GT(found, 500U);
  EXPECT_GT(in_vain, 500U);
  EXPECT_EQ(longest, 100U);
}

INSTANTIATE_TEST_SUITE_P(Dims, WarpKernelOfDim, testing::Values(1, 3, 16, 20, 64, 100, 256),
                         [](const auto& test) { return "Dim" + std::to_string(test.param); });

TEST_F(WarpKernelTest, TheLargestDimsAndEveryBlockSize) {
  for (const std::uint32_t dim : {127U, 128U, 132U, 1021U, 1024U}) {
    const Problem problem(9, dim, 60, dim, [](std::uint32_t post) { return 1 + post; });
    const Array<float> weights = weights_of(RankWeight::harmonic, 60, 20);
    for (const auto score : {Score::dot, Score::cosine}) {
      const WarpConfig config{score, score == Score::dot ? -2.0F : -0.05F, 20, 3, weights.data()};
      const Outcome expected = reference(problem, config, 1);
      for (const unsigned lanes : {8U, 16U, 32U}) {
        for (unsigned warps = 1; warps <= 8; ++warps) {
          const cuda::WarpShape shape{lanes, warps};
          SCOPED_TRACE("dim " + std::to_string(dim) + ", lanes " + std::to_string(lanes) + ", warps " +
                       std::to_string(warps));
          set_schedule(warps);
          Outcome actual(problem);
          const int status = search(problem, config, 1, shape, actual);
          const bool fits = warps * (32 / lanes) * (dim + 63) / 64 * 64 * 4 <= 48 * 1024;
          if (status != 0 && !fits) continue;
          ASSERT_EQ(status, 0);
          expect_equal(actual, expected);
          if (HasFailure()) return;
        }
      }
    }
  }
}

TEST_F(WarpKernelTest, ShapesThatAreChosenAreShapesThatCanBe) {
  for (std::uint32_t dim = 1; dim <= 8192; dim += dim < 20 ? 1 : dim < 1024 ? 67 : 1024 - dim % 1024) {
    for (const float tries : {1.0F, 5.0F, 500.0F}) {
      const auto shape = cuda::warp_shape(dim, tries);
      const Problem problem(2, dim, 4, dim, [](std::uint32_t) { return 1U; });
      const Array<float> weights = weights_of(RankWeight::log, 4, 5);
      const WarpConfig config{Score::dot, 0.1F, 5, 3, weights.data()};
      Outcome actual(problem);
      ASSERT_EQ(search(problem, config, 0, shape, actual), 0) << dim;
      expect_equal(actual, reference(problem, config, 0));
    }
  }
}

TEST_F(WarpKernelTest, RefusesShapesThatCannotBe) {
  const Problem problem(2, 1024, 4, 1, [](std::uint32_t) { return 1U; });
  const WarpConfig config;
  Outcome out(problem);
  for (const cuda::WarpShape shape : {cuda::WarpShape{4, 1}, {64, 1}, {32, 0}, {32, 9}, {8, 8}}) {
    EXPECT_EQ(search(problem, config, 0, shape, out), static_cast<int>(cudaErrorInvalidValue));
  }
}

TEST_F(WarpKernelTest, RefusesSearchesThatCannotBe) {
  const Problem problem(2, 8, 4, 1, [](std::uint32_t) { return 1U; });
  const Array<float> weights = weights_of(RankWeight::log, 4, 5);
  const WarpConfig config{Score::dot, 0.1F, 5, 3, weights.data()};
  Outcome out(problem);
  const cuda::WarpSearch right = search_of(problem, config, 0);
  EXPECT_EQ(run(right, problem, {}, out), 0);
  const auto expect_refused = [&](const auto& spoil) {
    cuda::WarpSearch search = right;
    spoil(search);
    EXPECT_EQ(run(search, problem, {}, out), static_cast<int>(cudaErrorInvalidValue));
  };
  Bfloat16 half{};
  expect_refused([](auto& search) { search.batch.dim = 0; });
  expect_refused([](auto& search) { search.batch.rows = 1; });
  expect_refused([](auto& search) { search.config.max_tries = (1U << 29) + 1; });
  expect_refused([](auto& search) { search.config.negatives = Negatives::exact; });
  expect_refused([](auto& search) { search.table = {}; });
  expect_refused([&](auto& search) { search.table.halves = &half; });
  expect_refused([](auto& search) { search.hogwild = true; });  // adagrad without sums
}

TEST_F(WarpKernelTest, ABatchWithoutPosts) {
  const Problem problem(0, 8, 4, 1, [](std::uint32_t) { return 1U; });
  Outcome out(problem);
  EXPECT_EQ(search(problem, {}, 0, {}, out), 0);
}

TEST_F(WarpKernelTest, VectorsOfLengthZeroHaveScoreZero) {
  Problem problem(8, 20, 30, 1, [](std::uint32_t) { return 2U; });
  std::fill_n(problem.vectors.begin() + 20, 40, 0.0F);
  std::fill_n(problem.table.begin(), 20 * 15, 0.0F);
  const Array<float> weights = weights_of(RankWeight::linear, 30, 10);
  const WarpConfig config{Score::cosine, 0.1F, 10, 5, weights.data()};
  for (const unsigned lanes : {8U, 16U, 32U}) {
    Outcome actual(problem);
    ASSERT_EQ(search(problem, config, 3, {lanes, 2}, actual), 0);
    expect_equal(actual, reference(problem, config, 3));
  }
}

TEST_F(WarpKernelTest, AScoreThatIsNoNumberReachesTheLoss) {
  Problem problem(3, 8, 50, 1, [](std::uint32_t) { return 1U; });
  problem.vectors[8] = std::numeric_limits<float>::quiet_NaN();
  const Array<float> weights = weights_of(RankWeight::harmonic, 50, 10);
  for (const auto score : {Score::dot, Score::cosine}) {
    Outcome out(problem);
    ASSERT_EQ(search(problem, {score, 0.1F, 10, 1, weights.data()}, 0, {8, 1}, out), 0);
    EXPECT_TRUE(std::isnan(out.loss[1]));
    EXPECT_FALSE(std::isnan(out.loss[0]));
    EXPECT_EQ(out.tries[1], 1U);
  }
}

// Rounds a table to bfloat16, which it then is exactly, and returns it so.
Array<Bfloat16> round_to_halves(Array<float>& table) {
  Array<Bfloat16> halves;
  for (float& value : table) {
    halves.push_back(round_to_nearest(value));
    value = to_float(halves.back());
  }
  return halves;
}

// bfloat16 tables: all as for the widened table.
TEST_F(WarpKernelTest, HalfTablesGiveWhatTheirWidenedOnesGive) {
  unsigned number = 0;
  for (const std::uint32_t dim : {3U, 20U, 64U, 132U, 256U}) {
    for (const std::uint32_t rows : {2U, 60U, 3000U}) {
      Problem problem(23, dim, rows, rows + dim, [rows](std::uint32_t post) { return own_of(rows, post); });
      const Array<Bfloat16> halves = round_to_halves(problem.table);
      const Array<float> weights = weights_of(RankWeight::harmonic, rows, 40);
      for (const auto score : {Score::dot, Score::cosine}) {
        const float spread = score == Score::cosine ? 1 / std::sqrt(static_cast<float>(dim))
                                                    : 0.09F * std::sqrt(static_cast<float>(dim));
        const WarpConfig config{score, -0.5F * spread, 40, 42, weights.data()};
        const Outcome expected = reference(problem, config, 5);
        for (const unsigned lanes : {8U, 16U, 32U}) {
          SCOPED_TRACE("dim " + std::to_string(dim) + ", rows " + std::to_string(rows) + ", lanes " +
                       std::to_string(lanes));
          set_schedule(++number);
          cuda::WarpSearch search = search_of(problem, config, 5);
          Array<Bfloat16> half_table = halves;
          search.table = {nullptr, half_table.data(), nullptr};
          Outcome actual(problem);
          ASSERT_EQ(run(search, problem, shape_of(lanes, dim, number), actual), 0);
          expect_equal(actual, expected);
        }
      }
    }
  }
}

// --- Hogwild.

// What the plain algorithm makes of the problem's table, and of sums that begin at 0.01.
struct Sequential {
  Array<float> table, sums;
  Outcome out;

  Sequential(const Problem& problem, const WarpConfig& config, std::uint64_t step, const Optimizer& optimizer,
             bool halves)
      : table(problem.table), sums(problem.table.size(), 0.01F), out(problem) {
    hogwild_reference(config, problem.batch(step), kScale, optimizer, halves, table.data(), sums.data(),
                      out.result());
  }
};

// What the kernel makes of the same, one launch after the other for the first `posts` posts: the groups of
// one launch would take turns, and mix pairs. `halves`: the problem's table, or empty for one in float32.
struct OnePostAfterTheOther {
  Array<float> table, sums;
  Outcome out;

  OnePostAfterTheOther(const Problem& problem, const Array<Bfloat16>& halves, const WarpConfig& config,
                       std::uint64_t step, const Optimizer& optimizer, unsigned lanes, std::uint32_t posts)
      : table(problem.table), sums(problem.table.size(), 0.01F), out(problem) {
    Array<Bfloat16> half_table = halves;
    cuda::WarpSearch search = search_of(problem, config, step);
    search.hogwild = true;
    search.optimizer = optimizer;
    search.table = {halves.empty() ? table.data() : nullptr, halves.empty() ? nullptr : half_table.data(),
                    optimizer.kind == OptimizerKind::adagrad ? sums.data() : nullptr};
    search.output = {out.violator.data(), out.tries.data(), out.loss.data(), out.post.data()};
    for (std::uint32_t post = 0; post < posts; ++post) {
      cuda::WarpSearch one = search;
      one.batch.posts = 1;
      one.batch.post_vectors += std::size_t{post} * problem.dim;
      one.batch.own_offsets += post;
      one.batch.positive_offsets += post;
      one.output.post_gradient += std::size_t{post} * problem.dim;
      EXPECT_EQ(cuda::warp_search(one, {lanes, 1}, nullptr), 0);
    }
    for (std::size_t i = 0; i < half_table.size(); ++i) table[i] = to_float(half_table[i]);
  }
};

TEST_F(WarpKernelTest, HogwildOnePairAfterTheOtherEqualsTheSequentialAlgorithm) {
  for (const std::uint32_t dim : {1U, 16U, 50U, 64U, 100U, 256U}) {
    const std::uint32_t rows = 40;  // few: rows are met again and again
    Problem problem(25, dim, rows, dim, [](std::uint32_t post) { return 1 + post % 5; });
    const Array<Bfloat16> halves = round_to_halves(problem.table);
    const Array<float> weights = weights_of(RankWeight::harmonic, rows, 20);
    for (const auto score : {Score::dot, Score::cosine}) {
      for (const bool in_halves : {false, true}) {
        for (const auto kind : {OptimizerKind::adagrad, OptimizerKind::sgd}) {
          const WarpConfig config{score, 0.1F, 20, 7, weights.data()};
          // A norm is a sum that the kernel adds up in another order: a case of its own, below.
          const Optimizer optimizer{kind, 0.05F, 0};
          const Sequential expected(problem, config, 3, optimizer, in_halves);
          for (const unsigned lanes : {8U, 16U, 32U}) {
            SCOPED_TRACE("dim " + std::to_string(dim) + ", lanes " + std::to_string(lanes) + ", cosine " +
                         std::to_string(static_cast<int>(score == Score::cosine)) + ", halves " +
                         std::to_string(static_cast<int>(in_halves)));
            const OnePostAfterTheOther actual(problem, in_halves ? halves : Array<Bfloat16>(), config, 3,
                                              optimizer, lanes, problem.posts);
            EXPECT_EQ(actual.out.violator, expected.out.violator);
            EXPECT_EQ(actual.out.tries, expected.out.tries);
            EXPECT_EQ(actual.out.loss, expected.out.loss);
            EXPECT_EQ(actual.out.post, expected.out.post);
            EXPECT_EQ(actual.table, expected.table);
            if (kind == OptimizerKind::adagrad) {
              EXPECT_EQ(actual.sums, expected.sums);
            }
            EXPECT_NE(actual.table, problem.table);
            if (HasFailure()) return;
          }
        }
      }
    }
  }
}

// The norm is added up in another order than the reference's: rows, of length 1, differ by about as much as
// that changes, and in bfloat16 now and then by a rounding.
TEST_F(WarpKernelTest, HogwildCutsRowsThatAreTooLong) {
  // An odd dim: halves of bfloat16 one by one, and not in pairs.
  for (const std::uint32_t dim : {50U, 49U}) {
    // All but two hashtags are the post's: pair after pair meets the rows that the last one cut.
    Problem problem(12, dim, 7, dim, [](std::uint32_t) { return 5U; });
    const Array<Bfloat16> halves = round_to_halves(problem.table);
    const Array<float> weights = weights_of(RankWeight::harmonic, 7, 20);
    const WarpConfig config{Score::dot, 0.1F, 20, 7, weights.data()};
    const float longest = 1;  // of rows whose length is about 2
    const Optimizer optimizer{OptimizerKind::adagrad, 0.05F, longest};
    for (const bool in_halves : {false, true}) {
      for (const std::uint32_t posts : {4U, 12U}) {
        Problem part = problem;
        part.posts = posts;
        const Sequential expected(part, config, 3, optimizer, in_halves);
        for (const unsigned lanes : {8U, 16U, 32U}) {
          SCOPED_TRACE("dim " + std::to_string(dim) + ", lanes " + std::to_string(lanes) + ", halves " +
                       std::to_string(static_cast<int>(in_halves)));
          const OnePostAfterTheOther actual(problem, in_halves ? halves : Array<Bfloat16>(), config, 3,
                                            optimizer, lanes, posts);
          const Array<float>& table = actual.table;
          std::size_t differing = 0;
          unsigned cut = 0;
          for (std::size_t row = 0; row < problem.rows; ++row) {
            for (std::size_t i = row * dim; i < (row + 1) * dim; ++i) {
              differing += std::abs(table[i] - expected.table[i]) <= 1e-6F ? 0 : 1;
            }
            const float* x = &table[row * dim];
            if (std::equal(x, x + dim, &problem.table[row * dim])) continue;
            const float norm = std::sqrt(dot_reference(x, x, dim));
            EXPECT_TRUE(norm <= longest + (in_halves ? 1e-2F : 1e-5F)) << "row " << row;
            ++cut;
          }
          EXPECT_LE(differing, in_halves ? table.size() / 50 : 0);
          EXPECT_GE(cut, 5U);
        }
      }
    }
  }
}

// Many groups at once, in a random order: which pair sees which state of the table is open, but every pair
// has a violator that its post does not carry, no addition is lost, and the emulator's schedule matters.
TEST_F(WarpKernelTest, HogwildInAnyOrderLosesNothing) {
  const std::uint32_t dim = 20;
  const Problem problem(60, dim, 30, 1, [](std::uint32_t post) { return 1 + post % 5; });
  const Array<float> weights = weights_of(RankWeight::linear, 30, 20);
  const WarpConfig config{Score::dot, 0.1F, 20, 7, weights.data()};
  std::vector<Array<float>> tables;
  for (const std::uint64_t schedule : {1U, 2U, 3U}) {
    set_schedule(schedule);
    Array<float> table = problem.table;
    Outcome actual(problem);
    cuda::WarpSearch search = search_of(problem, config, 3);
    search.hogwild = true;
    search.optimizer = {OptimizerKind::sgd, 0.05F, 0};
    search.table = {table.data(), nullptr, nullptr};
    search.output = {actual.violator.data(), actual.tries.data(), actual.loss.data(), actual.post.data()};
    ASSERT_EQ(cuda::warp_search(search, {8, 4}, nullptr), 0);
    // With the dot product and plain gradient descent what a pair adds depends on its rank weight alone.
    std::vector<double> expected(problem.table.begin(), problem.table.end());
    for (std::uint32_t post = 0; post < problem.posts; ++post) {
      const auto own =
          std::span(problem.own)
              .subspan(problem.own_offsets[post], problem.own_offsets[post + 1] - problem.own_offsets[post]);
      for (auto pair = problem.positive_offsets[post]; pair < problem.positive_offsets[post + 1]; ++pair) {
        if (actual.violator[pair] == kNoViolator) continue;
        EXPECT_FALSE(std::binary_search(own.begin(), own.end(), actual.violator[pair]));
        const double w = 0.05 * double{weights[actual.tries[pair] - 1]} * double{kScale};
        for (std::size_t i = 0; i < dim; ++i) {
          const double p = problem.vectors[std::size_t{post} * dim + i];
          expected[std::size_t{problem.positives[pair]} * dim + i] += w * p;
          expected[std::size_t{actual.violator[pair]} * dim + i] -= w * p;
        }
      }
    }
    for (std::size_t i = 0; i < table.size(); ++i) {
      ASSERT_TRUE(std::abs(table[i] - expected[i]) <= 1e-5 * (1 + std::abs(expected[i]))) << i;
    }
    tables.push_back(table);
  }
#ifndef TAGSPACE_ON_GPU  // whose schedule may be the same each time
  EXPECT_NE(tables[0], tables[1]);
  EXPECT_NE(tables[1], tables[2]);
#endif
}

// One row that all posts make longer at once: cut to max_norm, not to a part of it for each group that saw it
// too long.
TEST_F(WarpKernelTest, HogwildCutsAHotRowOnce) {
  const std::uint32_t dim = 64;
  const std::uint32_t posts = 32;
  const float longest = 1.2F;
  Problem problem(posts, dim, 200, 5, [](std::uint32_t) { return 1U; });
  problem.own.assign(posts, 0);
  problem.positives = problem.own;
  for (std::uint32_t i = 0; i <= posts; ++i) problem.own_offsets[i] = problem.positive_offsets[i] = i;
  // All push it into about the same direction.
  for (std::uint32_t i = 0; i < posts * dim; ++i) problem.vectors[i] += i % 2 == 0 ? 0.4F : -0.4F;
  std::fill_n(problem.table.begin(), dim, 0.14F);
  const Array<Bfloat16> halves = round_to_halves(problem.table);
  const Array<float> weights = weights_of(RankWeight::harmonic, problem.rows, 100);
  const WarpConfig config{Score::dot, 9, 100, 7, weights.data()};
  const auto norm_of = [&](OptimizerKind kind, bool in_halves, float max_norm, const cuda::WarpShape& shape,
                           std::uint64_t schedule) {
    set_schedule(schedule);
    Array<float> table = problem.table;
    Array<Bfloat16> half_table = halves;
    Array<float> sums(table.size(), 0.01F);
    Outcome out(problem);
    cuda::WarpSearch search = search_of(problem, config, 3);
    search.hogwild = true;
    search.optimizer = {kind, 0.05F, max_norm};
    search.table = {in_halves ? nullptr : table.data(), in_halves ? half_table.data() : nullptr, sums.data()};
    search.output = {out.violator.data(), out.tries.data(), out.loss.data(), out.post.data()};
    EXPECT_EQ(cuda::warp_search(search, shape, nullptr), 0);
    EXPECT_EQ(std::count(out.violator.begin(), out.violator.end(), kNoViolator), 0);
    if (in_halves) std::transform(half_table.begin(), half_table.begin() + dim, table.begin(), to_float);
    return std::sqrt(dot_reference(table.data(), table.data(), dim));
  };
  for (const auto kind : {OptimizerKind::adagrad, OptimizerKind::sgd}) {
    const float uncut = norm_of(kind, false, 0, {8, 8}, 1);
    EXPECT_GT(uncut, 1.5F * longest);
#ifdef TAGSPACE_ON_GPU
    // Groups that run at the same time may meet in the middle of a cut. Of a row r times as long as it may
    // be, one has cut a share s of the squared length, by 1 / r, when another measures it; that one cuts the
    // share again, by f' with f'^2 = 1 / (s + (1 - s) r^2), and the first goes on with the rest. What is
    // left, s f'^2 + 1 - s, is least for s = r / (r + 1): 2 / (r + 1). Two whole cuts would leave 1 / r^2.
    const float shortest = std::sqrt(2 / (uncut / longest + 1));
#else
    const float shortest = 1;  // groups take turns at collectives, and a cut has none
#endif
    for (const bool in_halves : {false, true}) {
      for (const auto& shape : {cuda::WarpShape{8, 8}, cuda::WarpShape{16, 8}, cuda::WarpShape{32, 4}}) {
        for (std::uint64_t schedule = 1; schedule <= 10; ++schedule) {
          const float norm = norm_of(kind, in_halves, longest, shape, schedule);
          EXPECT_TRUE(norm / longest >= shortest - 0.01F && norm / longest <= 1.01F)
              << norm << " with " << shape.lanes << " lanes, schedule " << schedule << ", halves "
              << static_cast<int>(in_halves) << ", sgd " << static_cast<int>(kind == OptimizerKind::sgd);
        }
      }
    }
  }
}

// Rows whose offsets do not fit into 32 bits are read and changed where they are.
TEST_F(WarpKernelTest, RowOffsetsHave64Bits) {
  constexpr std::uint32_t kRows = 20'000'000;
  constexpr std::uint32_t kDim = 256;
  constexpr std::uint32_t kPosts = 30;
  Problem problem(kPosts, kDim, 3, 1, [](std::uint32_t) { return 1U; });
  SparseArray<float> table(std::size_t{kRows} * kDim);
  SparseArray<float> sums(std::size_t{kRows} * kDim);
  if (!table.exists() || !sums.exists()) GTEST_SKIP() << "no sparse tables of 20 GB here";
  const auto row = [](SparseArray<float>& array, std::uint32_t number) {
    return std::span(array.data() + std::size_t{number} * kDim, kDim);
  };
  const Array<float> weights = weights_of(RankWeight::harmonic, kRows, 10);
  std::fill(problem.vectors.begin(), problem.vectors.end(), 1.0F);
  Array<std::uint32_t> offsets(kPosts + 1);
  for (std::uint32_t i = 0; i <= kPosts; ++i) offsets[i] = i;
  const Array<std::uint32_t> own(kPosts, kRows - 1);
  Outcome out(problem);
  for (auto* array : {&out.violator, &out.tries}) array->resize(kPosts);
  out.loss.resize(kPosts);
  Arrays arrays(kPosts);
  cuda::WarpSearch search;
  search.config = {Score::dot, 300, 10, 1, weights.data()};
  search.batch = {kPosts,     kDim,           kRows,      problem.vectors.data(), nullptr,
                  own.data(), offsets.data(), own.data(), offsets.data(),         0,
                  0};
  search.table = {table.data(), nullptr, sums.data()};
  search.output = arrays.output(out);
  // The positive, the last row, scores 256; the first draw of each pair 128 and is the violator.
  Array<std::uint32_t> first_draws;
  unsigned far = 0;
  std::ranges::fill(row(table, kRows - 1), 1.0F);
  std::ranges::fill(row(sums, kRows - 1), 0.0F);
  for (std::uint32_t i = 0; i < kPosts; ++i) {
    first_draws.push_back(negative_of_words(random_words(1, RandomStream::negatives, 0, i, 0), 0, kRows));
    std::ranges::fill(row(table, first_draws.back()), 0.5F);
    std::ranges::fill(row(sums, first_draws.back()), 0.0F);
    far += std::uint64_t{first_draws.back()} * kDim >> 32 != 0 ? 1 : 0;
  }
  ASSERT_GE(far, 1U);
  ASSERT_EQ(cuda::warp_search(search, {32, 2}, nullptr), 0);
  EXPECT_EQ(out.violator, first_draws);
  EXPECT_EQ(out.tries, Array<std::uint32_t>(kPosts, 1));
  EXPECT_EQ(out.loss, Array<float>(kPosts, weights[0] * (300.0F - 256.0F + 128.0F)));
  EXPECT_EQ(out.post, Array<float>(out.post.size(), weights[0] * 0.5F - weights[0]));

  search.hogwild = true;
  ASSERT_EQ(cuda::warp_search(search, {32, 2}, nullptr), 0);
  EXPECT_EQ(out.violator, first_draws);
  for (const std::uint32_t number : first_draws) {
    EXPECT_TRUE(
        std::ranges::all_of(row(sums, number), [&](float x) { return x == weights[0] * weights[0]; }));
    EXPECT_TRUE(std::ranges::all_of(row(table, number), [](float x) { return std::abs(x - 0.45F) < 1e-6F; }));
  }
  EXPECT_TRUE(std::ranges::all_of(row(table, kRows - 1), [](float x) { return x > 1; }));
}

}  // namespace
}  // namespace tagspace::kernels
