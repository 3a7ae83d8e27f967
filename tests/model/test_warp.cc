#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "model/kernels/philox.h"
#include "model/kernels/simd.h"
#include "model/kernels/warp.h"
#include "model/kernels/warp_draws.h"
#include "tests/model/kernel_cases.h"
#include "tests/model/warp_cases.h"

namespace tagspace::kernels {
namespace {

// A problem with `posts` posts, each carrying `own(i)` distinct hashtags, all of which are its positives.
struct Problem : WarpProblem {
  template <typename Own>
  Problem(std::uint32_t post_count, std::uint32_t dimension, std::uint32_t row_count, std::uint64_t seed,
          const Own& own_of)
      : WarpProblem(post_count, dimension, row_count) {
    Random random(seed);
    vectors = random.normals(std::size_t{posts} * dim, 0.3F);
    table = random.normals(std::size_t{rows} * dim, 0.3F);
    for (std::size_t i = 0; i < posts; ++i) {
      std::set<std::uint32_t> hashtags;
      const std::uint32_t wanted = std::min(rows, own_of(i));
      if (wanted > rows / 2) {
        for (std::uint32_t h = 0; h < rows; ++h) hashtags.insert(h);
        while (hashtags.size() > wanted) hashtags.erase(random.below(rows));
      }
      while (hashtags.size() < wanted) hashtags.insert(random.below(rows));
      own.insert(own.end(), hashtags.begin(), hashtags.end());
      own_offsets.push_back(static_cast<std::uint32_t>(own.size()));
      // No more than five pairs of a post.
      std::uint32_t pairs = 0;
      for (const auto hashtag : hashtags) {
        if (pairs++ < 5) positives.push_back(hashtag);
      }
      positive_offsets.push_back(static_cast<std::uint32_t>(positives.size()));
    }
  }
};

using Outcome = WarpOutcome;

constexpr Negatives kAllNegatives[] = {Negatives::sampled, Negatives::shared, Negatives::exact};

// Posts for a test of the distribution, and whether a pair's outcome is independent of the others' for which
// this is true: under `shared`, one pair a step.
std::uint32_t posts_for(Negatives negatives, std::uint32_t posts) {
  return negatives == Negatives::shared ? 5 : posts;
}
bool counts_alone(Negatives negatives, const WarpProblem& problem, std::uint32_t pair, std::uint64_t step) {
  return negatives != Negatives::shared || pair == step % problem.pairs();
}

void expect_equal(const Outcome& actual, const Outcome& expected) {
  EXPECT_EQ(actual.violator, expected.violator);
  EXPECT_EQ(actual.tries, expected.tries);
  EXPECT_EQ(actual.loss, expected.loss);
  for (std::size_t i = 0; i < expected.positive.size(); ++i) {
    ASSERT_EQ(actual.positive[i].post, expected.positive[i].post);
    ASSERT_EQ(actual.positive[i].row, expected.positive[i].row);
    ASSERT_EQ(actual.negative[i].post, expected.negative[i].post);
    ASSERT_EQ(actual.negative[i].row, expected.negative[i].row);
  }
  EXPECT_EQ(actual.post, expected.post);
}

TEST(Philox, KnownAnswers) {
  // Of Random123's kat_vectors, philox4x32 with 10 rounds.
  const auto zero = philox4x32_10(0, {{0, 0, 0, 0}});
  EXPECT_EQ(zero.word[0], 0x6627e8d5U);
  EXPECT_EQ(zero.word[1], 0xe169c58dU);
  EXPECT_EQ(zero.word[2], 0xbc57ac4cU);
  EXPECT_EQ(zero.word[3], 0x9b00dbd8U);
  const auto pi = philox4x32_10(0x299f31d0a4093822U, {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}});
  EXPECT_EQ(pi.word[0], 0xd16cfe09U);
  EXPECT_EQ(pi.word[1], 0x94fdccebU);
  EXPECT_EQ(pi.word[2], 0x5001e420U);
  EXPECT_EQ(pi.word[3], 0x24126ea1U);
}

TEST(Philox, MultiplyHigh) {
  EXPECT_EQ(multiply_high(~0ULL, ~0ULL), ~0ULL - 1);
  EXPECT_EQ(multiply_high(1ULL << 63, 6), 3U);
  Random random(3);
  for (int i = 0; i < 1000; ++i) {
    const std::uint64_t a = std::uint64_t{random.below(~0U)} << 32 | random.below(~0U);
    const std::uint64_t b = std::uint64_t{random.below(~0U)} << 32 | random.below(~0U);
    __extension__ using Wide = unsigned __int128;
    EXPECT_EQ(multiply_high(a, b), static_cast<std::uint64_t>((static_cast<Wide>(a) * b) >> 64));
  }
}

TEST(RankWeights, AsDefined) {
  const auto harmonic = rank_weights(RankWeight::harmonic, 1001, 1000);
  EXPECT_FLOAT_EQ(harmonic[999], 1);                        // rank 1
  EXPECT_FLOAT_EQ(harmonic[333 - 1], 1 + 0.5F + 1.0F / 3);  // rank floor(1000 / 333) = 3
  double sum = 0;
  for (int i = 1; i <= 1000; ++i) sum += 1.0 / i;
  EXPECT_FLOAT_EQ(harmonic[0], static_cast<float>(sum));
  sum = 0;
  for (int i = 1; i <= 99'999'999; ++i) sum += 1.0 / i;
  EXPECT_FLOAT_EQ(rank_weights(RankWeight::harmonic, 100'000'000, 1)[0], static_cast<float>(sum));
  EXPECT_EQ(rank_weights(RankWeight::harmonic, 11, 20)[19], 0);  // rank floor(10 / 20) = 0
  const auto logarithm = rank_weights(RankWeight::log, 1001, 1000);
  EXPECT_FLOAT_EQ(logarithm[0], std::log(1000.0F));
  EXPECT_EQ(logarithm[999], 1);
  const auto linear = rank_weights(RankWeight::linear, 1001, 1000);
  EXPECT_FLOAT_EQ(linear[2], 1000.0F / 3);
}

TEST(Warp, FirstViolatorByHand) {
  // dim 1, p = 1: the scores are the table. The positive is row 0 with score 5; with margin 1, rows above 4
  // violate.
  const std::vector<float> table = {5, 1, 2, 4, 4.5, 9};
  const float p = 1;
  const std::uint32_t own = 0;
  const std::vector<std::uint32_t> offsets = {0, 1};
  const auto weights = rank_weights(RankWeight::harmonic, 6, 50);
  const WarpConfig config{Score::dot, 1, 50, 1, weights.data()};
  for (std::uint64_t step = 0; step < 200; ++step) {
    // The draws by the contract's words, one after the other.
    std::uint32_t tries = 0;
    std::uint32_t row = 0;
    for (std::uint32_t draw = 0;; ++draw) {
      const auto words = philox4x32_10(1, {{draw / 2, 0, static_cast<std::uint32_t>(step), 0}});
      const std::size_t half = 2 * std::size_t{draw % 2};
      const std::uint64_t u = words.word[half] | (std::uint64_t{words.word[half + 1]} << 32);
      row = static_cast<std::uint32_t>(multiply_high(u, 6));
      if (row == 0) continue;
      ++tries;
      if (row >= 4) break;
    }
    const WarpBatch batch{1, 1, 6, &p, table.data(), &own, offsets.data(), &own, offsets.data(), step, 0};
    const auto check = [&](const auto& implementation) {
      std::uint32_t violator = 0;
      std::uint32_t found_tries = 0;
      float loss = 0;
      RowGradient positive;
      RowGradient negative;
      float gradient = 0;
      implementation(WarpResult{&violator, &found_tries, &loss, &positive, &negative, &gradient});
      ASSERT_EQ(violator, row);
      ASSERT_EQ(found_tries, tries);
      ASSERT_FLOAT_EQ(loss, weights[tries - 1] * (1 - 5 + table[row]));
      ASSERT_FLOAT_EQ(positive.post, -0.5F * weights[tries - 1]);
      ASSERT_FLOAT_EQ(negative.post, 0.5F * weights[tries - 1]);
      ASSERT_FLOAT_EQ(gradient, 0.5F * weights[tries - 1] * (table[row] - 5));
    };
    check([&](const WarpResult& result) { warp_reference(config, batch, 0.5F, result); });
    for (const auto* simd : available_simd_kernels()) {
      CpuContext context(1, simd);
      check([&](const WarpResult& result) { warp(config, batch, 0.5F, result, context); });
    }
  }
}

TEST(Warp, EqualsTheReferenceTryForTry) {
  struct Case {
    std::uint32_t posts, dim, rows, max_tries;
    float margin;
  };
  for (const auto score : {Score::dot, Score::cosine}) {
    for (const auto weight : {RankWeight::harmonic, RankWeight::log, RankWeight::linear}) {
      for (const auto& [posts, dim, rows, max_tries, margin] :
           {Case{40, 16, 2, 10, 0.1F}, Case{40, 3, 3, 7, 0.1F}, Case{100, 64, 50, 1000, 0.1F},
            Case{100, 20, 1000, 1000, -2.0F}, Case{65, 256, 2000, 333, 0.1F},
            Case{64, 17, 100'000, 1000, -1.5F}, Case{33, 64, 500, 1, 0.1F}}) {
        SCOPED_TRACE("rows " + std::to_string(rows) + ", dim " + std::to_string(dim));
        // None of them, one, some, all but one, all.
        const Problem problem(posts, dim, rows, rows + dim, [rows = rows](std::size_t i) -> std::uint32_t {
          switch (i % 8) {
            case 0:
              return rows < 5000 ? rows - 1 : 9;
            case 1:
              return rows < 5000 ? rows : 12;
            case 2:
              return 30;
            default:
              return 1 + static_cast<std::uint32_t>(i % 3);
          }
        });
        const auto weights = rank_weights(weight, rows, max_tries);
        for (const auto negatives : kAllNegatives) {
          // The reference of `exact` scores every row for every pair.
          if (negatives == Negatives::exact && rows > 1000) continue;
          // The cosine lies between -1 and 1.
          WarpConfig config{
              score, score == Score::cosine ? margin / 4 : margin, max_tries, 42, weights.data(), negatives};
          if (posts == 65) config.loss = PairLoss::logistic;
          config.pool_in_parts = posts % 2 != 0;
          SCOPED_TRACE("negatives " + std::to_string(static_cast<int>(negatives)));
          for (const std::uint64_t step : {std::uint64_t{0}, std::uint64_t{5'000'000'000}}) {
            Outcome expected(problem);
            warp_reference(config, problem.batch(step), 0.125F, expected.result());
            for_each_context([&](CpuContext& context) {
              Outcome actual(problem);
              warp(config, problem.batch(step), 0.125F, actual.result(), context);
              expect_equal(actual, expected);
              if (negatives != Negatives::shared) return;
              // With the pool filled before, in another order.
              Outcome again(problem);
              WarpBatch batch = problem.batch(step);
              for (std::size_t task = start_pool(config, batch.dim, context); task > 0; --task)
                fill_pool(config, batch, task - 1, context);
              batch.pool_is_filled = true;
              warp(config, batch, 0.125F, again.result(), context);
              expect_equal(again, expected);
            });
          }
        }
      }
    }
  }
}

TEST(Warp, APostWithAllHashtagsHasNoNegative) {
  const Problem problem(5, 8, 6, 1, [](std::size_t) { return 6U; });
  const auto weights = rank_weights(RankWeight::harmonic, 6, 100);
  const WarpConfig config{Score::dot, 10, 100, 1, weights.data()};
  for_each_context([&](CpuContext& context) {
    Outcome outcome(problem);
    warp(config, problem.batch(0), 1, outcome.result(), context);
    for (std::size_t i = 0; i < problem.pairs(); ++i) {
      EXPECT_EQ(outcome.violator[i], kNoViolator);
      EXPECT_EQ(outcome.tries[i], 0U);
      EXPECT_EQ(outcome.loss[i], 0);
    }
    EXPECT_EQ(outcome.post, std::vector<float>(std::size_t{problem.posts} * problem.dim, 0));
  });
}

TEST(Warp, AScoreThatIsNoNumberReachesTheLoss) {
  Problem problem(3, 8, 50, 1, [](std::size_t) { return 1U; });
  problem.vectors[8] = std::numeric_limits<float>::quiet_NaN();
  const auto weights = rank_weights(RankWeight::harmonic, 50, 10);
  const WarpConfig config{Score::dot, 0.1F, 10, 1, weights.data()};
  for_each_context([&](CpuContext& context) {
    Outcome outcome(problem);
    warp(config, problem.batch(0), 1, outcome.result(), context);
    EXPECT_TRUE(std::isnan(outcome.loss[1]));
  });
}

// Pearson's statistic of `counts` against equal shares, divided so that it is about standard normal for many
// cells.
double chi_square_deviation(const std::vector<std::uint64_t>& counts) {
  double total = 0;
  for (const auto count : counts) total += static_cast<double>(count);
  const double expected = total / static_cast<double>(counts.size());
  double statistic = 0;
  for (const auto count : counts) {
    statistic += (static_cast<double>(count) - expected) * (static_cast<double>(count) - expected) / expected;
  }
  const auto degrees = static_cast<double>(counts.size() - 1);
  return (statistic - degrees) / std::sqrt(2 * degrees);
}

TEST(Warp, NegativesAreUniformOverTheHashtagsThePostDoesNotCarry) {
  // Every negative violates (a huge margin), so the violator is the first allowed draw.
  const std::uint32_t rows = 101;
  const auto weights = rank_weights(RankWeight::harmonic, rows, 10);
  CpuContext context(2);
  for (const auto negatives : kAllNegatives) {
    SCOPED_TRACE("negatives " + std::to_string(static_cast<int>(negatives)));
    const Problem problem(posts_for(negatives, 400), 4, rows, 7, [](std::size_t) { return 3U; });
    const WarpConfig config{Score::dot, 1e6F, 10, 99, weights.data(), negatives};
    const std::uint64_t steps = negatives == Negatives::shared ? 40'000 : 1000;
    std::vector<std::vector<std::uint64_t>> counts(problem.posts, std::vector<std::uint64_t>(rows));
    for (std::uint64_t step = 0; step < steps; ++step) {
      Outcome outcome(problem);
      const WarpBatch batch = problem.batch(step);
      warp(config, batch, 1, outcome.result(), context);
      for (std::size_t post = 0; post < problem.posts; ++post) {
        for (auto pair = problem.positive_offsets[post]; pair < problem.positive_offsets[post + 1]; ++pair) {
          ASSERT_EQ(outcome.tries[pair], 1U);
          if (counts_alone(negatives, problem, pair, step)) ++counts[post][outcome.violator[pair]];
        }
      }
    }
    std::vector<std::uint64_t> allowed;
    for (std::size_t post = 0; post < problem.posts; ++post) {
      for (auto at = problem.own_offsets[post]; at < problem.own_offsets[post + 1]; ++at) {
        ASSERT_EQ(counts[post][problem.own[at]], 0U);
        counts[post][problem.own[at]] = ~0ULL;
      }
      if (std::all_of(counts[post].begin(), counts[post].end(),
                      [](std::uint64_t count) { return count == 0 || count == ~0ULL; })) {
        continue;
      }
      for (const auto count : counts[post]) {
        if (count != ~0ULL) allowed.push_back(count);
      }
    }
    // 39,200 cells of about 30 counts each, under `shared` 490 of about 80: a deviation of 5 has probability
    // 6e-7.
    EXPECT_EQ(allowed.size(), problem.posts * (rows - 3));
    EXPECT_LT(std::abs(chi_square_deviation(allowed)), 5);
  }
}

TEST(Warp, TriesFollowTheGeometricDistribution) {
  // dim 1: a tenth of the rows violate, so P(N > n) = 0.9^n, and each of them is as likely as another.
  const std::uint32_t rows = 1001;
  const std::uint32_t violators = 100;
  std::vector<float> table(rows, 0);
  for (std::uint32_t i = 0; i < violators; ++i) table[7 + 9 * i] = 2;
  table[1000] = 1;
  const std::uint32_t max_tries = 25;
  const auto weights = rank_weights(RankWeight::harmonic, rows, max_tries);
  CpuContext context(2);
  for (const auto negatives : kAllNegatives) {
    SCOPED_TRACE("negatives " + std::to_string(static_cast<int>(negatives)));
    WarpProblem problem(posts_for(negatives, 4000), 1, rows);
    problem.table = table;
    problem.vectors.assign(problem.posts, 1);
    problem.own.assign(problem.posts, 1000);
    problem.positives = problem.own;
    for (std::uint32_t i = 1; i <= problem.posts; ++i) problem.own_offsets.push_back(i);
    problem.positive_offsets = problem.own_offsets;
    const WarpConfig config{Score::dot, 0.5F, max_tries, 3, weights.data(), negatives};
    std::vector<std::uint32_t> tries;
    std::uint32_t in_vain = 0;
    std::vector<std::uint64_t> counts(violators);
    for (std::uint64_t step = 0; tries.size() < 20'000; ++step) {
      Outcome outcome(problem);
      const WarpBatch batch = problem.batch(step);
      warp(config, batch, 1, outcome.result(), context);
      for (std::uint32_t pair = 0; pair < problem.pairs(); ++pair) {
        if (!counts_alone(negatives, problem, pair, step)) continue;
        tries.push_back(outcome.tries[pair]);
        if (outcome.violator[pair] == kNoViolator) {
          ASSERT_EQ(outcome.tries[pair], max_tries);
          ++in_vain;
        } else {
          ASSERT_EQ(outcome.violator[pair] % 9, 7U);
          ++counts[outcome.violator[pair] / 9];
        }
      }
    }
    const auto expect_share = [&](std::uint64_t count, double p) {
      const auto total = static_cast<double>(tries.size());
      EXPECT_LT(std::abs(static_cast<double>(count) - p * total), 5 * std::sqrt(p * (1 - p) * total)) << p;
    };
    for (const std::uint32_t n : {1U, 2U, 5U, 10U, 20U}) {
      const auto more = std::count_if(tries.begin(), tries.end(), [n](std::uint32_t t) { return t > n; });
      expect_share(static_cast<std::uint64_t>(more), std::pow(0.9, n));
    }
    expect_share(in_vain, std::pow(0.9, max_tries));
    EXPECT_LT(std::abs(chi_square_deviation(counts)), 5);
  }
}

TEST(Warp, ThePoolsSize) {
  EXPECT_EQ(pool_size(1, 1), 1024U);
  EXPECT_EQ(pool_size(256, 1000), 1024U);
  EXPECT_EQ(pool_size(257, 1000), 2048U);
  EXPECT_EQ(pool_size(1, 1025), 2048U);
  EXPECT_EQ(pool_size(1'000'000'000, 1), kLargestPool);
  EXPECT_EQ(pool_size(1, 100'000'000), kLargestPool);
}

TEST(Warp, EveryPairComesToAllOfThePoolInAnOrderOfItsOwn) {
  for (const std::uint32_t pool : {kSmallestPool, 1024U, 8192U, kLargestPool}) {
    for (const bool in_parts : {false, true}) {
      WarpConfig config;
      config.pool = pool;
      config.pool_in_parts = in_parts;
      std::set<std::vector<std::uint32_t>> orders;
      std::set<std::uint32_t> firsts;
      for (std::uint32_t pair = 0; pair < 100; ++pair) {
        std::set<std::uint32_t> places;
        for (std::uint32_t draw = 0; draw < pool; ++draw) {
          const std::uint32_t place = place_in_pool(config, pair, draw);
          ASSERT_LT(place, pool);
          // Whole groups, one after the other.
          const std::uint32_t group =
              place_in_pool(config, pair, draw / kPoolGroup * kPoolGroup) / kPoolGroup;
          ASSERT_EQ(place / kPoolGroup, group);
          if (in_parts) {
            for (const std::uint32_t part : {pool / 4, pool / 2}) ASSERT_EQ(place < part, draw < part);
          }
          places.insert(place);
        }
        EXPECT_EQ(places.size(), pool);
        firsts.insert(place_in_pool(config, pair, 0));
        orders.insert({place_in_pool(config, pair, 0), place_in_pool(config, pair, kPoolGroup),
                       place_in_pool(config, pair, 2 * kPoolGroup)});
      }
      EXPECT_GT(orders.size(), 90U);
      // As many of the pool's draws are some pair's first, whether it is searched in parts or not.
      if (pool == 1024) {
        EXPECT_GT(firsts.size(), 60U);
      }
    }
  }
}

TEST(Warp, FewTriesAreSearchedInParts) {
  EXPECT_FALSE(searches_in_parts(1));  // it may be unknown
  EXPECT_TRUE(searches_in_parts(4));
  EXPECT_TRUE(searches_in_parts(25));
  EXPECT_FALSE(searches_in_parts(40));
}

TEST(Warp, SearchesOfThePoolByHand) {
  // A row's score is its number: 99 of 50,000 rows violate.
  const std::uint32_t rows = 50'000;
  WarpProblem problem(70, 1, rows);
  for (std::uint32_t i = 0; i < rows; ++i) problem.table.push_back(static_cast<float>(i));
  problem.vectors.assign(problem.posts, 1);
  problem.own.assign(problem.posts, rows - 100);
  problem.positives = problem.own;
  for (std::uint32_t i = 1; i <= problem.posts; ++i) problem.own_offsets.push_back(i);
  problem.positive_offsets = problem.own_offsets;
  const auto weights = rank_weights(RankWeight::harmonic, rows, 5000);
  const WarpConfig config{Score::dot, 0.5F, 5000, 99, weights.data(), Negatives::shared, 8192};
  const std::uint64_t step = (std::uint64_t{7} << 32) + 3;
  const WarpBatch batch = problem.batch(step);
  CpuContext context(2);
  Outcome outcome(problem);
  warp(config, batch, 1, outcome.result(), context);
  std::set<std::uint32_t> violators;
  for (std::uint32_t pair = 0; pair < problem.pairs(); ++pair) {
    std::uint32_t tries = 0;
    for (std::uint32_t draw = 0;; ++draw) {
      const std::uint32_t at = place_in_pool(config, batch.first_pair + pair, draw);
      const auto words = philox4x32_10(
          99, {{at / 2, 0, static_cast<std::uint32_t>(step), static_cast<std::uint32_t>(step >> 32)}});
      const std::size_t half = 2 * std::size_t{at % 2};
      const std::uint64_t u = words.word[half] | (std::uint64_t{words.word[half + 1]} << 32);
      const auto row = static_cast<std::uint32_t>(multiply_high(u, rows));
      if (row == rows - 100) continue;
      ++tries;
      if (row <= rows - 100) continue;
      EXPECT_EQ(outcome.violator[pair], row);
      EXPECT_EQ(outcome.tries[pair], tries);
      violators.insert(row);
      break;
    }
  }
  // Of about 16 in the pool, nearly all are some pair's first.
  EXPECT_GT(violators.size(), 8U);
  EXPECT_LT(violators.size(), 40U);
}

}  // namespace
}  // namespace tagspace::kernels
