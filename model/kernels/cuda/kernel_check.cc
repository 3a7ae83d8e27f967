// The program `tagspace_kernel_check`: runs the CUDA kernels of WARP and of the row update on a random
// problem, and compares all that they write with the plain reference.
//
// It needs the kernels and a few calls of the CUDA runtime, nothing else, so that it can be taken to a
// machine, or run by a tool, on its own. tests/simt compiles it for the emulator.
//
// Exit status: 0 if all agree, 1 if something differs or there is no usable GPU, 2 for wrong usage. The table
// goes to stdout, messages to stderr.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <new>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "model/kernels/bfloat16.h"
#include "model/kernels/cuda/device_array.h"
#include "model/kernels/cuda/kernel_check_options.h"
#include "model/kernels/cuda/kernel_check_report.h"
#include "model/kernels/cuda/row_update.cuh"
#include "model/kernels/cuda/warp.cuh"
#include "model/kernels/hogwild.h"

namespace tagspace::kernels::check {
namespace {

constexpr float kMargin = 0.1F;
constexpr float kGradientScale = 0.125F;  // large enough for the steps of single pairs to be seen
constexpr float kLearningRate = 0.05F;
constexpr std::uint64_t kStep = 5'000'000'000;  // needs both words of the counter
constexpr std::uint32_t kFirstPair = 17;
constexpr unsigned kUpdateWarps = 4;
constexpr double kHalfUnit = 1.0 / (1 << 24);  // a float operation's rounding, as a share of its result

using cuda::DeviceArray;
using cuda::require;

// Waits for the kernels that were launched.
void finish(const std::string& what) { require(cudaDeviceSynchronize(), what); }

// --- The problem.

// Arrays of a WarpBatch, and the table that it starts from.
struct Problem {
  std::uint32_t posts = 0;
  std::uint32_t dim = 0;
  std::uint32_t rows = 0;
  std::vector<float> vectors, table, sums;
  std::vector<std::uint32_t> own, own_offsets = {0};
  std::vector<std::uint32_t> positives, positive_offsets = {0};

  [[nodiscard]] std::size_t pairs() const { return positives.size(); }
  [[nodiscard]] WarpBatch batch() const {
    return {posts,
            dim,
            rows,
            vectors.data(),
            table.data(),
            own.data(),
            own_offsets.data(),
            positives.data(),
            positive_offsets.data(),
            kStep,
            kFirstPair};
  }
};

// Posts of 1 to 5 hashtags, now and then of 100, and 1 to 4 pairs. A post's vector leans towards its first
// positive, as far as it happens: from not at all, whose violators are among the first tries, to so far that
// there is none.
Problem make_problem(const Options& options) {
  std::mt19937_64 engine(options.seed);
  std::normal_distribution<float> normal(0, 0.3F);
  Problem problem;
  problem.posts = options.posts;
  problem.dim = options.dim;
  problem.rows = options.hashtags;
  problem.table.resize(std::size_t{options.hashtags} * options.dim);
  for (float& value : problem.table) {
    value = normal(engine);
    if (options.table == TableType::bfloat16) value = to_float(round_to_nearest(value));
    problem.sums.push_back(0.01F + value * value);
  }
  std::vector<std::uint32_t> drawn;
  for (std::uint32_t post = 0; post < options.posts; ++post) {
    const std::uint32_t count = std::min(options.hashtags, post % 16 == 7 ? 100 : 1 + post % 5);
    drawn.clear();
    while (drawn.size() < count) {
      const auto hashtag = static_cast<std::uint32_t>(engine() % options.hashtags);
      if (std::find(drawn.begin(), drawn.end(), hashtag) == drawn.end()) drawn.push_back(hashtag);
    }
    problem.positives.insert(problem.positives.end(), drawn.begin(),
                             drawn.begin() + std::min(count, 1 + post % 4));
    const float* first = &problem.table[std::size_t{drawn[0]} * options.dim];
    const float lean = static_cast<float>(engine() % 4) / std::sqrt(static_cast<float>(options.dim));
    for (std::uint32_t i = 0; i < options.dim; ++i) {
      problem.vectors.push_back(normal(engine) + lean * first[i]);
    }
    std::sort(drawn.begin(), drawn.end());
    problem.own.insert(problem.own.end(), drawn.begin(), drawn.end());
    problem.own_offsets.push_back(static_cast<std::uint32_t>(problem.own.size()));
    problem.positive_offsets.push_back(static_cast<std::uint32_t>(problem.pairs()));
  }
  return problem;
}

// The same pairs, each with a post of its own.
Problem with_a_post_for_each_pair(const Problem& problem) {
  Problem split;
  split.dim = problem.dim;
  split.rows = problem.rows;
  split.table = problem.table;
  split.sums = problem.sums;
  split.positives = problem.positives;
  split.posts = static_cast<std::uint32_t>(problem.pairs());
  for (std::uint32_t post = 0; post < problem.posts; ++post) {
    for (auto pair = problem.positive_offsets[post]; pair < problem.positive_offsets[post + 1]; ++pair) {
      const auto vector = problem.vectors.begin() + static_cast<std::ptrdiff_t>(post) * problem.dim;
      split.vectors.insert(split.vectors.end(), vector, vector + problem.dim);
      split.own.insert(split.own.end(), problem.own.begin() + problem.own_offsets[post],
                       problem.own.begin() + problem.own_offsets[post + 1]);
      split.own_offsets.push_back(static_cast<std::uint32_t>(split.own.size()));
      split.positive_offsets.push_back(pair + 1);
    }
  }
  return split;
}

// The same posts, each with row 0 for its only hashtag, which has the length `length` and the direction that
// all posts lean towards.
Problem with_one_positive(const Problem& problem, float length) {
  Problem one = problem;
  const float element = 1 / std::sqrt(static_cast<float>(one.dim));
  std::fill_n(one.table.begin(), one.dim, length * element);
  for (float& value : one.vectors) value += 4 * element;
  one.own.assign(one.posts, 0);
  one.positives = one.own;
  one.own_offsets.resize(one.posts + 1);
  std::iota(one.own_offsets.begin(), one.own_offsets.end(), 0U);
  one.positive_offsets = one.own_offsets;
  return one;
}

// What a search returns.
struct Outcome {
  std::vector<std::uint32_t> violator, tries;
  std::vector<float> loss;
  std::vector<RowGradient> positive, negative;
  std::vector<float> post_gradient;

  explicit Outcome(const Problem& problem)
      : violator(problem.pairs()),
        tries(problem.pairs()),
        loss(problem.pairs()),
        positive(problem.pairs()),
        negative(problem.pairs()),
        post_gradient(problem.vectors.size()) {}
  [[nodiscard]] WarpResult result() {
    return {violator.data(), tries.data(),    loss.data(),
            positive.data(), negative.data(), post_gradient.data()};
  }
};

// --- Both on the device.

struct DeviceTable {
  bool is_bfloat16;
  DeviceArray<float> floats;
  DeviceArray<Bfloat16> halves;
  DeviceArray<float> sums;

  DeviceTable(const Problem& problem, bool bfloat16)
      : is_bfloat16(bfloat16),
        floats(bfloat16 ? std::vector<float>() : problem.table),
        halves(bfloat16 ? narrowed(problem.table) : std::vector<Bfloat16>()),
        sums(problem.sums) {}

  [[nodiscard]] cuda::Table pointers(OptimizerKind optimizer) const {
    return {floats.data(), halves.data(), optimizer == OptimizerKind::adagrad ? sums.data() : nullptr};
  }
  [[nodiscard]] std::vector<float> values() const { return values(0, sums.size()); }
  [[nodiscard]] std::vector<float> values(std::size_t first, std::size_t count) const {
    if (!is_bfloat16) return floats.values(first, count);
    std::vector<float> widened;
    for (const Bfloat16 half : halves.values(first, count)) widened.push_back(to_float(half));
    return widened;
  }

 private:
  static std::vector<Bfloat16> narrowed(const std::vector<float>& values) {
    std::vector<Bfloat16> result(values.size());
    std::transform(values.begin(), values.end(), result.begin(), round_to_nearest);
    return result;
  }
};

// A batch in device memory and the arrays of its result.
struct DeviceBatch {
  std::uint32_t posts;
  std::uint32_t dim;
  std::uint32_t rows;
  DeviceArray<float> vectors, weights;
  DeviceArray<std::uint32_t> own, own_offsets, positives, positive_offsets;
  DeviceArray<std::uint32_t> violator, tries;
  DeviceArray<float> loss, post_gradient;
  // Contributions.
  DeviceArray<std::uint32_t> row, source;
  DeviceArray<float> coefficient, self;

  DeviceBatch(const Problem& problem, const std::vector<float>& weights_of_tries, cuda::Fill fill)
      : posts(problem.posts),
        dim(problem.dim),
        rows(problem.rows),
        vectors(problem.vectors),
        weights(weights_of_tries),
        own(problem.own),
        own_offsets(problem.own_offsets),
        positives(problem.positives),
        positive_offsets(problem.positive_offsets),
        violator(problem.pairs(), fill),
        tries(problem.pairs(), fill),
        loss(problem.pairs(), fill),
        post_gradient(problem.vectors.size(), fill),
        row(2 * problem.pairs(), fill),
        source(2 * problem.pairs(), fill),
        coefficient(2 * problem.pairs(), fill),
        self(2 * problem.pairs(), fill) {}

  [[nodiscard]] cuda::WarpSearch search(const WarpConfig& config) const {
    cuda::WarpSearch search;
    search.config = config;
    search.config.weight_of_tries = weights.data();
    search.batch = {posts,
                    dim,
                    rows,
                    vectors.data(),
                    nullptr,
                    own.data(),
                    own_offsets.data(),
                    positives.data(),
                    positive_offsets.data(),
                    kStep,
                    kFirstPair};
    search.gradient_scale = kGradientScale;
    search.output = {violator.data(), tries.data(),  loss.data(),        post_gradient.data(),
                     row.data(),      source.data(), coefficient.data(), self.data()};
    return search;
  }
};

// Post number `post` of the batch alone. Its pairs keep their numbers.
WarpBatch one_post(const WarpBatch& batch, std::uint32_t post) {
  WarpBatch one = batch;
  one.posts = 1;
  one.post_vectors += std::size_t{post} * batch.dim;
  one.own_offsets += post;
  one.positive_offsets += post;
  return one;
}

// --- The checks.

class Check {
 public:
  explicit Check(const Options& options)
      : options_(options),
        bfloat16_(options.table == TableType::bfloat16),
        fill_(options.fill ? cuda::Fill::pattern : cuda::Fill::none),
        problem_(make_problem(options)),
        weights_(rank_weights(options.rank_weight, options.hashtags, options.tries)),
        config_{options.score, kMargin, options.tries, options.seed, weights_.data()},
        rounding_{options.seed, RandomStream::hashtag_rounding, kStep},
        expected_(problem_) {
    warp_reference(config_, problem_.batch(), kGradientScale, expected_.result());
    const double tries = std::accumulate(expected_.tries.begin(), expected_.tries.end(), 0.0);
    const double mean_tries = tries / static_cast<double>(problem_.pairs());
    shape_ = cuda::warp_shape(problem_.dim, static_cast<float>(mean_tries));
    const auto in_vain = std::count(expected_.violator.begin(), expected_.violator.end(), kNoViolator);
    std::printf("%s\n%zu pairs, %zu of them without a violator, %.1f tries a pair; %u lanes to a post\n",
                summary(options).c_str(), problem_.pairs(), static_cast<std::size_t>(in_vain), mean_tries,
                shape_.lanes);
  }

  // Whether all agree.
  bool run() {
    if (options_.mode == Mode::deterministic) {
      deterministic();
    } else {
      hogwild_standing_still();
      hogwild_in_turn();
      hogwild_at_once();
      if (options_.max_norm > 0) hogwild_on_one_row();
    }
    std::printf("\n%s\n", report_.all_agree() ? "All agree." : "Not all agree.");
    return report_.all_agree();
  }

 private:
  // Of rows that were cut to max_norm. Their length is a sum of dim squares, which the kernel adds up in
  // another order than the reference: an error of half a unit for each addition, half of it after the square
  // root, and a few more for what is left of the step. It may tip a random rounding.
  [[nodiscard]] Tolerance of_cut_rows(std::size_t values) const {
    if (options_.max_norm == 0) return {};
    if (bfloat16_) return {1.0 / 128, 0, 1 + values / 1000};
    return {(problem_.dim / 2.0 + 8) * kHalfUnit};
  }

  void compare_outcome(const DeviceBatch& batch, const Outcome& expected) {
    report_.compare("violators", batch.violator.values(), expected.violator);
    report_.compare("tries", batch.tries.values(), expected.tries);
    report_.compare("losses", batch.loss.values(), expected.loss);
    report_.compare("post gradients", batch.post_gradient.values(), expected.post_gradient, problem_.dim);
  }

  // The search, then a sort of the contributions by row, then the step on the rows.
  void deterministic() {
    const DeviceBatch batch(problem_, weights_, fill_);
    const DeviceTable table(problem_, bfloat16_);
    cuda::WarpSearch search = batch.search(config_);
    search.table = table.pointers(options_.optimizer);
    require(cuda::warp_search(search, shape_, nullptr), "the search");
    finish("the search");

    std::vector<std::uint32_t> rows, sources;
    std::vector<float> coefficients, selves;
    for (std::uint32_t post = 0; post < problem_.posts; ++post) {
      for (auto pair = problem_.positive_offsets[post]; pair < problem_.positive_offsets[post + 1]; ++pair) {
        const bool found = expected_.violator[pair] != kNoViolator;
        rows.insert(rows.end(), {found ? problem_.positives[pair] : kNoRow, expected_.violator[pair]});
        sources.insert(sources.end(), {post, post});
        coefficients.insert(coefficients.end(),
                            {expected_.positive[pair].post, expected_.negative[pair].post});
        selves.insert(selves.end(), {expected_.positive[pair].row, expected_.negative[pair].row});
      }
    }
    report_.section("search");
    compare_outcome(batch, expected_);
    report_.compare("rows", batch.row.values(), rows);
    report_.compare("sources", batch.source.values(), sources);
    report_.compare("coefficients", batch.coefficient.values(), coefficients);
    report_.compare("selves", batch.self.values(), selves);

    const auto count = static_cast<std::uint32_t>(rows.size());
    const DeviceArray<std::uint32_t> sorted_rows(count, fill_);
    const DeviceArray<std::uint32_t> order(count, fill_);
    std::size_t scratch_bytes = 0;
    require(cuda::sort_by_row(batch.row.data(), count, problem_.rows, sorted_rows.data(), order.data(),
                              nullptr, scratch_bytes, nullptr),
            "asking for the sort's memory");
    const DeviceArray<char> scratch(scratch_bytes, fill_);
    require(cuda::sort_by_row(batch.row.data(), count, problem_.rows, sorted_rows.data(), order.data(),
                              scratch.data(), scratch_bytes, nullptr),
            "the sort");
    finish("the sort");
    std::vector<std::uint32_t> expected_order(count);
    std::iota(expected_order.begin(), expected_order.end(), 0U);
    std::stable_sort(expected_order.begin(), expected_order.end(),
                     [&](std::uint32_t a, std::uint32_t b) { return rows[a] < rows[b]; });
    std::vector<std::uint32_t> expected_rows(count);
    std::transform(expected_order.begin(), expected_order.end(), expected_rows.begin(),
                   [&](std::uint32_t c) { return rows[c]; });
    report_.section("sort by row");
    report_.compare("rows", sorted_rows.values(), expected_rows);
    report_.compare("order", order.values(), expected_order);

    cuda::RowUpdate update;
    update.optimizer = {options_.optimizer, kLearningRate, options_.max_norm};
    update.contributions = count;
    update.rows = sorted_rows.data();
    update.order = order.data();
    update.from = {batch.vectors.data(), batch.source.data(), batch.coefficient.data(), batch.self.data()};
    update.dim = problem_.dim;
    update.table = table.pointers(options_.optimizer);
    update.rounding = rounding_;
    require(cuda::update_rows(update, kUpdateWarps, nullptr), "the update");
    finish("the update");
    std::vector<float> expected_table = problem_.table;
    std::vector<float> expected_sums = problem_.sums;
    RowGroups groups;
    RowGrouper().group(rows.data(), count, groups);
    update_rows_reference(update.optimizer, groups,
                          {problem_.vectors.data(), sources.data(), coefficients.data(), selves.data()},
                          problem_.dim, expected_table.data(), expected_sums.data());
    if (bfloat16_) round_rows(groups.rows, expected_table);
    report_.section("update of the rows");
    report_.compare("table", table.values(), expected_table, problem_.dim,
                    of_cut_rows(groups.rows.size() * problem_.dim));
    if (options_.optimizer == OptimizerKind::adagrad) {
      report_.compare("sums", table.sums.values(), expected_sums, problem_.dim);
    }
  }

  void round_rows(const std::vector<std::uint32_t>& rows, std::vector<float>& table) const {
    for (const std::uint32_t row : rows) {
      for (std::uint32_t i = 0; i < problem_.dim; ++i) {
        float& value = table[std::size_t{row} * problem_.dim + i];
        value = to_float(round_at_random(value, rounding_words(rounding_, row, i / 4).word[i % 4]));
      }
    }
  }

  // All posts at once, but with the learning rate 0: the table stands still, and the results are those of the
  // reference, whatever the schedule. Adagrad's sums do grow, by squares that do not depend on it.
  void hogwild_standing_still() {
    const DeviceBatch batch(problem_, weights_, fill_);
    const DeviceTable table(problem_, bfloat16_);
    cuda::WarpSearch search = batch.search(config_);
    search.table = table.pointers(options_.optimizer);
    search.hogwild = true;
    search.optimizer = {options_.optimizer, 0, 0};
    require(cuda::warp_search(search, shape_, nullptr), "hogwild with the learning rate 0");
    finish("hogwild with the learning rate 0");
    report_.section("hogwild, all posts at once, learning rate 0");
    compare_outcome(batch, expected_);
    report_.compare("table", table.values(), problem_.table, problem_.dim);
    if (options_.optimizer != OptimizerKind::adagrad) return;

    std::vector<double> sums(problem_.sums.begin(), problem_.sums.end());
    std::vector<std::uint32_t> additions(problem_.rows);
    const auto add = [&](std::uint32_t post, std::uint32_t row, const RowGradient& of) {
      ++additions[row];
      for (std::size_t i = 0; i < problem_.dim; ++i) {
        const std::size_t at = std::size_t{row} * problem_.dim + i;
        const float from_post = of.post * problem_.vectors[std::size_t{post} * problem_.dim + i];
        const float from_row = of.row * problem_.table[at];
        const float gradient = from_post + from_row;
        const float square = gradient * gradient;
        sums[at] += double{square};
      }
    };
    for (std::uint32_t post = 0; post < problem_.posts; ++post) {
      for (auto pair = problem_.positive_offsets[post]; pair < problem_.positive_offsets[post + 1]; ++pair) {
        if (expected_.violator[pair] == kNoViolator) continue;
        add(post, problem_.positives[pair], expected_.positive[pair]);
        add(post, expected_.violator[pair], expected_.negative[pair]);
      }
    }
    // No term is negative: an error of half a unit of the sum for each addition.
    const std::uint32_t most = *std::max_element(additions.begin(), additions.end());
    report_.compare("sums", table.sums.values(), sums, problem_.dim, {(most + 1) * kHalfUnit});
  }

  // One launch for each post, in order: the sequential algorithm. With max_norm a launch for each pair, after
  // which the reference goes on from the row that the kernel has cut: a difference in its last digit must not
  // grow, nor change what the next pair finds.
  void hogwild_in_turn() {
    const bool cuts = options_.max_norm > 0;
    const Problem problem = cuts ? with_a_post_for_each_pair(problem_) : problem_;
    const std::size_t dim = problem.dim;
    const DeviceBatch batch(problem, weights_, fill_);
    const DeviceTable table(problem, bfloat16_);
    const Optimizer optimizer{options_.optimizer, kLearningRate, options_.max_norm};
    cuda::WarpSearch search = batch.search(config_);
    search.table = table.pointers(options_.optimizer);
    search.hogwild = true;
    search.optimizer = optimizer;
    Outcome expected(problem);
    std::vector<float> expected_table = problem.table;
    std::vector<float> expected_sums = problem.sums;
    std::vector<float> cut_rows, expected_cut_rows;
    for (std::uint32_t post = 0; post < problem.posts; ++post) {
      cuda::WarpSearch one = search;
      one.batch = one_post(search.batch, post);
      one.output.post_gradient += post * dim;
      require(cuda::warp_search(one, shape_, nullptr), "hogwild, one post after the other");

      WarpResult result = expected.result();
      result.post_gradient += post * dim;
      hogwild_reference(config_, one_post(problem.batch(), post), kGradientScale, optimizer, bfloat16_,
                        expected_table.data(), expected_sums.data(), result);
      if (!cuts || expected.violator[post] == kNoViolator) continue;
      for (const std::uint32_t row : {problem.positives[post], expected.violator[post]}) {
        const std::vector<float> actual = table.values(row * dim, dim);
        const auto of_reference = expected_table.begin() + static_cast<std::ptrdiff_t>(row * dim);
        cut_rows.insert(cut_rows.end(), actual.begin(), actual.end());
        expected_cut_rows.insert(expected_cut_rows.end(), of_reference,
                                 of_reference + static_cast<std::ptrdiff_t>(dim));
        std::copy(actual.begin(), actual.end(), of_reference);
      }
    }
    finish("hogwild, one post after the other");
    report_.section(cuts ? "hogwild, one pair after the other" : "hogwild, one post after the other");
    compare_outcome(batch, expected);
    if (cuts) {
      report_.compare("rows after a step", cut_rows, expected_cut_rows, dim, of_cut_rows(cut_rows.size()));
    }
    report_.compare("table", table.values(), expected_table, dim);
    if (options_.optimizer == OptimizerKind::adagrad) {
      report_.compare("sums", table.sums.values(), expected_sums, dim);
    }
  }

  // All posts at once: which pair sees which state of the table is open, but with the dot product and plain
  // gradient descent what a pair adds depends on its tries alone, and no addition to a float32 table may be
  // lost.
  void hogwild_at_once() {
    if (options_.score != Score::dot || bfloat16_) {
      std::printf(
          "\nhogwild, all posts at once: nothing to compare but with --score dot and --table float32\n");
      return;
    }
    const DeviceBatch batch(problem_, weights_, fill_);
    const DeviceTable table(problem_, false);
    cuda::WarpSearch search = batch.search(config_);
    search.table = table.pointers(OptimizerKind::sgd);
    search.hogwild = true;
    search.optimizer = {OptimizerKind::sgd, kLearningRate, 0};
    require(cuda::warp_search(search, shape_, nullptr), "hogwild, all posts at once");
    finish("hogwild, all posts at once");

    const std::vector<std::uint32_t> violator = batch.violator.values();
    const std::vector<std::uint32_t> tries = batch.tries.values();
    std::vector<std::uint32_t> impossible(problem_.pairs());
    std::vector<double> expected(problem_.table.begin(), problem_.table.end());
    std::vector<double> magnitude(expected.size());  // of an element, if all its additions had one sign
    for (std::size_t i = 0; i < expected.size(); ++i) magnitude[i] = std::abs(expected[i]);
    std::vector<std::uint32_t> additions(problem_.rows);
    for (std::uint32_t post = 0; post < problem_.posts; ++post) {
      const auto own_begin = problem_.own.begin() + problem_.own_offsets[post];
      const auto own_end = problem_.own.begin() + problem_.own_offsets[post + 1];
      for (auto pair = problem_.positive_offsets[post]; pair < problem_.positive_offsets[post + 1]; ++pair) {
        if (violator[pair] == kNoViolator && tries[pair] <= options_.tries) continue;
        impossible[pair] = violator[pair] >= problem_.rows || tries[pair] < 1 ||
                                   tries[pair] > options_.tries ||
                                   std::binary_search(own_begin, own_end, violator[pair])
                               ? 1
                               : 0;
        if (impossible[pair] != 0) continue;
        const double w = double{kLearningRate} * double{weights_[tries[pair] - 1]} * double{kGradientScale};
        ++additions[problem_.positives[pair]];
        ++additions[violator[pair]];
        for (std::size_t i = 0; i < problem_.dim; ++i) {
          const double term = w * double{problem_.vectors[std::size_t{post} * problem_.dim + i]};
          const std::size_t to_positive = std::size_t{problem_.positives[pair]} * problem_.dim + i;
          const std::size_t to_violator = std::size_t{violator[pair]} * problem_.dim + i;
          expected[to_positive] += term;
          expected[to_violator] -= term;
          magnitude[to_positive] += std::abs(term);
          magnitude[to_violator] += std::abs(term);
        }
      }
    }
    // An error of half a unit for each addition, and for the three products that make a term.
    const std::uint32_t most = *std::max_element(additions.begin(), additions.end());
    const double largest = *std::max_element(magnitude.begin(), magnitude.end());
    report_.section("hogwild, all posts at once, plain gradient descent");
    report_.compare("impossible violators", impossible, std::vector<std::uint32_t>(problem_.pairs()));
    report_.compare("table", table.values(), expected, problem_.dim, {0, (most + 4) * kHalfUnit * largest});
  }

  // All posts at once have the same positive, of length max_norm, and each makes it longer: it is cut to
  // about max_norm, whatever the schedule.
  void hogwild_on_one_row() {
    const double longest = options_.max_norm;
    const auto [uncut, uncut_tries] = all_posts_on_one_row(0);
    const auto [length, tries] = all_posts_on_one_row(options_.max_norm);
    // Two groups may meet in the middle of a cut, after which a row that was r times as long as it may be has
    // sqrt(2 / (r + 1)) of that length at least: see HogwildCutsAHotRowOnce in tests/simt. The row is nowhere
    // longer than without any cut. It is not short by more, nor longer than what is under way adds to it.
    const double r = std::max(1.0, uncut / longest);
    const double lowest = (std::sqrt(2 / (r + 1)) - 0.01) * longest;
    const double highest = 1.1 * longest;
    report_.section("hogwild, all posts on one row");
    report_.compare("tries", tries, std::vector<std::uint32_t>(problem_.posts, 1));
    report_.compare("length of the row", std::vector<double>{length},
                    std::vector<double>{(lowest + highest) / 2}, 1, {0, (highest - lowest) / 2});
  }

  // The length of the row after a step of that kind, and the tries.
  std::pair<double, std::vector<std::uint32_t>> all_posts_on_one_row(float max_norm) {
    const Problem problem = with_one_positive(problem_, options_.max_norm);
    const DeviceBatch batch(problem, weights_, fill_);
    const DeviceTable table(problem, bfloat16_);
    WarpConfig config = config_;
    config.margin = 1e6F;  // the first try finds a violator
    cuda::WarpSearch search = batch.search(config);
    search.table = table.pointers(options_.optimizer);
    search.hogwild = true;
    search.optimizer = {options_.optimizer, kLearningRate, max_norm};
    require(cuda::warp_search(search, shape_, nullptr), "hogwild, all posts on one row");
    finish("hogwild, all posts on one row");
    double squares = 0;
    for (const float x : table.values(0, problem.dim)) squares += double{x} * double{x};
    return {std::sqrt(squares), batch.tries.values()};
  }

  Options options_;
  bool bfloat16_;
  cuda::Fill fill_;
  Problem problem_;
  std::vector<float> weights_;
  WarpConfig config_;
  RoundingSource rounding_;
  Outcome expected_;  // warp_reference's
  cuda::WarpShape shape_;
  Report report_;
};

int fail(const std::string& message, int status) {
  std::fflush(stdout);
  std::fprintf(stderr, "tagspace_kernel_check: error: %s\n", message.c_str());
  return status;
}

int run(const std::vector<std::string>& arguments) {
  const Options options = parse_options(arguments);
  if (options.help) {
    std::fputs(help_text().c_str(), stdout);
    return 0;
  }
  cuda::require_device();
  return Check(options).run() ? 0 : 1;
}

}  // namespace
}  // namespace tagspace::kernels::check

int main(int argc, char** argv) {
  using tagspace::kernels::check::fail;
  try {
    return tagspace::kernels::check::run({argv + 1, argv + argc});
  } catch (const tagspace::kernels::check::UsageError& error) {
    return fail(error.what(), 2);
  } catch (const std::bad_alloc&) {
    return fail("there is not enough memory", 1);
  } catch (const std::exception& error) {
    return fail(error.what(), 1);
  }
}
