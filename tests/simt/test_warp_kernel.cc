// The WARP kernel, run on the CPU, against the plain reference: everything bit for bit.
#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <random>
#include <string>
#include <sys/mman.h>
#include <vector>

#include "model/kernels/cuda/warp.cuh"
#include "model/kernels/warp.h"
#include "tests/model/warp_cases.h"
#include "tests/simt/simt.h"

namespace tagspace::kernels {
namespace {

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  std::uint32_t below(std::uint32_t n) {
    return std::uniform_int_distribution<std::uint32_t>(0, n - 1)(engine_);
  }
  std::vector<float> normals(std::size_t count) {
    std::normal_distribution<float> normal(0, 0.3F);
    std::vector<float> values(count);
    for (auto& value : values) value = normal(engine_);
    return values;
  }

 private:
  std::mt19937_64 engine_;
};

// Random posts, post i with own_of(i) hashtags, or all; no more than four of them are its positives, of every
// seventh post none.
struct Problem : WarpProblem {
  template <typename Own>
  Problem(std::uint32_t post_count, std::uint32_t dimension, std::uint32_t row_count, std::uint64_t seed,
          const Own& own_of)
      : WarpProblem(post_count, dimension, row_count) {
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

using Outcome = WarpOutcome;

constexpr float kScale = 0.125F;

Outcome reference(const Problem& problem, const WarpConfig& config, std::uint64_t step) {
  Outcome out(problem);
  warp_reference(config, problem.batch(step), kScale, out.result());
  return out;
}

int search(const Problem& problem, const WarpConfig& config, std::uint64_t step, const cuda::WarpShape& shape,
           Outcome& out) {
  static_assert(sizeof(RowGradient) == 2 * sizeof(float));
  const WarpBatch batch = problem.batch(step);
  return cuda::warp_search({config.score == Score::cosine,
                            config.margin,
                            config.max_tries,
                            config.seed,
                            config.weight_of_tries,
                            problem.posts,
                            problem.dim,
                            batch.rows,
                            batch.post_vectors,
                            batch.table,
                            batch.own,
                            batch.own_offsets,
                            batch.positives,
                            batch.positive_offsets,
                            batch.step,
                            batch.first_pair,
                            kScale,
                            out.violator.data(),
                            out.tries.data(),
                            out.loss.data(),
                            reinterpret_cast<float*>(out.positive.data()),
                            reinterpret_cast<float*>(out.negative.data()),
                            out.post.data()},
                           shape, nullptr);
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
  void TearDown() override { simt::schedule_seed = 0; }
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
          const auto weights = rank_weights(rank_weight, rows, max_tries);
          const float spread = score == Score::cosine ? 1 / std::sqrt(static_cast<float>(dim))
                                                      : 0.09F * std::sqrt(static_cast<float>(dim));
          const WarpConfig config{score, difficulty * spread, max_tries, 42, weights.data()};
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
            simt::schedule_seed = number % 4 == 0 ? 0 : number;
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
    const auto weights = rank_weights(RankWeight::harmonic, 60, 20);
    for (const auto score : {Score::dot, Score::cosine}) {
      const WarpConfig config{score, score == Score::dot ? -2.0F : -0.05F, 20, 3, weights.data()};
      const Outcome expected = reference(problem, config, 1);
      for (const unsigned lanes : {8U, 16U, 32U}) {
        for (unsigned warps = 1; warps <= 8; ++warps) {
          const cuda::WarpShape shape{lanes, warps};
          SCOPED_TRACE("dim " + std::to_string(dim) + ", lanes " + std::to_string(lanes) + ", warps " +
                       std::to_string(warps));
          simt::schedule_seed = warps;
          Outcome actual(problem);
          const int status = search(problem, config, 1, shape, actual);
          const bool fits =
              (dim <= 128 && dim % 4 == 0) || warps * (32 / lanes) * (dim + 63) / 64 * 64 * 4 <= 48 * 1024;
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
  for (std::uint32_t dim = 1; dim <= 1024; dim += dim < 20 ? 1 : 67) {
    for (const float tries : {1.0F, 5.0F, 500.0F}) {
      const auto shape = cuda::warp_shape(dim, tries);
      const Problem problem(2, dim, 4, dim, [](std::uint32_t) { return 1U; });
      const auto weights = rank_weights(RankWeight::log, 4, 5);
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

TEST_F(WarpKernelTest, ABatchWithoutPosts) {
  const Problem problem(0, 8, 4, 1, [](std::uint32_t) { return 1U; });
  Outcome out(problem);
  EXPECT_EQ(search(problem, {}, 0, {}, out), 0);
}

TEST_F(WarpKernelTest, VectorsOfLengthZeroHaveScoreZero) {
  Problem problem(8, 20, 30, 1, [](std::uint32_t) { return 2U; });
  std::fill_n(problem.vectors.begin() + 20, 40, 0.0F);
  std::fill_n(problem.table.begin(), 20 * 15, 0.0F);
  const auto weights = rank_weights(RankWeight::linear, 30, 10);
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
  const auto weights = rank_weights(RankWeight::harmonic, 50, 10);
  for (const auto score : {Score::dot, Score::cosine}) {
    Outcome out(problem);
    ASSERT_EQ(search(problem, {score, 0.1F, 10, 1, weights.data()}, 0, {8, 1}, out), 0);
    EXPECT_TRUE(std::isnan(out.loss[1]));
    EXPECT_FALSE(std::isnan(out.loss[0]));
    EXPECT_EQ(out.tries[1], 1U);
  }
}

// A table of which only a few rows exist: one whose offset does not fit into 32 bits is read where it is.
TEST_F(WarpKernelTest, RowOffsetsHave64Bits) {
  constexpr std::uint32_t kRows = 20'000'000;
  constexpr std::uint32_t kDim = 256;
  Problem problem(3, kDim, 3, 1, [](std::uint32_t) { return 1U; });
  // 20 GB of address space, of which the operating system provides the pages that are read: zeros.
  const std::size_t bytes = std::size_t{kRows} * kDim * sizeof(float);
  void* const memory =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) GTEST_SKIP() << "no address space for a table of 20 GB";
  auto* const table = static_cast<float*>(memory);
  const auto weights = rank_weights(RankWeight::harmonic, kRows, 10);
  const std::uint32_t last = kRows - 1;
  std::fill_n(table + std::size_t{last} * kDim, kDim, 1.0F);
  std::fill(problem.vectors.begin(), problem.vectors.end(), 1.0F);
  const std::vector<std::uint32_t> own(3, last);
  std::vector<std::uint32_t> violator(3);
  std::vector<std::uint32_t> tries(3);
  std::vector<float> loss(3);
  std::vector<float> gradients(12);
  std::vector<float> post(problem.vectors.size());
  const std::vector<std::uint32_t> offsets = {0, 1, 2, 3};
  // The positive scores 256, all others 0.
  ASSERT_EQ(cuda::warp_search({false,
                               300,
                               10,
                               1,
                               weights.data(),
                               3,
                               kDim,
                               kRows,
                               problem.vectors.data(),
                               table,
                               own.data(),
                               offsets.data(),
                               own.data(),
                               offsets.data(),
                               0,
                               0,
                               1,
                               violator.data(),
                               tries.data(),
                               loss.data(),
                               gradients.data(),
                               gradients.data() + 6,
                               post.data()},
                              {32, 2}, nullptr),
            0);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(tries[i], 1U);
    EXPECT_EQ(loss[i], weights[0] * (300.0F - 256.0F + 0.0F));
    EXPECT_LT(violator[i], last);
  }
  munmap(memory, bytes);
}

}  // namespace
}  // namespace tagspace::kernels
