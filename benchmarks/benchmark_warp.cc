// What WARP costs a post, by the way in which negatives are had, for tables of 10^3 to 10^6 hashtags and few
// to many tries.
//
//   benchmark_warp [--threads N] [--rounds N] [--dim N] [--posts N] [--json]
//
// Tables are made so that a given share of the hashtags violates for every post, whatever the table's size.
// Tables and ways take turns, some batches each, one after the other as in training: threads are awake, and
// posts' hashtags are not in the caches. Medians over the rounds. `auto` is the way that cheapest_negatives()
// picks.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "model/kernels/cpu_context.h"
#include "model/kernels/huge_pages.h"
#include "model/kernels/warp.h"

namespace tagspace::kernels {
namespace {

constexpr std::uint32_t kMaxTries = 1000;
constexpr std::size_t kBatches = 8;  // of a way in a round; and one before them, which is not timed
const std::map<Negatives, std::string> kNames = {
    {Negatives::sampled, "sampled"}, {Negatives::shared, "shared"}, {Negatives::exact, "exact"}};

struct Options {
  std::size_t threads = 2;
  int rounds = 21;
  std::size_t dim = 64;
  std::uint32_t posts = 256;
  bool json = false;
};

// One batch after another of posts of which every hashtag with a 1 in front of its vector is a violator.
class Problem {
 public:
  Problem(const Options& options, std::uint32_t rows, double tries)
      : options_(options), rows_(rows), expected_tries_(tries), random_(rows) {
    table_.reserve(std::size_t{rows} * options.dim);
    ask_for_huge_pages(table_.data(), table_.capacity() * sizeof(float));
    table_.resize(std::size_t{rows} * options.dim);
    std::uniform_real_distribution<float> small(-0.01F, 0.01F);
    for (float& value : table_) value = small(random_);
    const auto violators = std::max<std::uint32_t>(1, static_cast<std::uint32_t>(rows / tries));
    std::uniform_int_distribution<std::uint32_t> any(0, rows - 1);
    for (std::uint32_t i = 0; i < violators;) {
      float& front = table_[std::size_t{any(random_)} * options.dim];
      if (front == 1) continue;
      front = 1;
      ++i;
    }
    vectors_.assign(options.posts * options.dim, 0.01F);
    for (std::uint32_t post = 0; post < options.posts; ++post) vectors_[post * options.dim] = 1;
    for (std::uint32_t i = 0; i <= options.posts; ++i) offsets_.push_back(i);
    positives_.resize((kBatches + 1) * options.posts);
    violator_.resize(options.posts);
    tries_.resize(options.posts);
    loss_.resize(options.posts);
    gradients_.resize(2 * std::size_t{options.posts});
    post_gradient_.resize(vectors_.size());
    weights_ = rank_weights(RankWeight::harmonic, rows, kMaxTries);
  }

  // Nanoseconds a post, over kBatches new batches.
  double time(Negatives negatives, CpuContext& context) {
    std::uniform_int_distribution<std::uint32_t> any(0, rows_ - 1);
    for (std::uint32_t& positive : positives_) {
      do {
        positive = any(random_);
      } while (table_[std::size_t{positive} * options_.dim] == 1);
    }
    const WarpConfig config{Score::dot,
                            -0.5F,
                            kMaxTries,
                            1,
                            weights_.data(),
                            negatives,
                            pool_size(options_.posts, kMaxTries),
                            searches_in_parts(expected_tries_)};
    const WarpResult result{violator_.data(),
                            tries_.data(),
                            loss_.data(),
                            gradients_.data(),
                            gradients_.data() + options_.posts,
                            post_gradient_.data()};
    std::chrono::duration<double, std::nano> took{0};
    made_ = 0;
    for (std::size_t number = 0; number <= kBatches; ++number) {
      const std::uint32_t* const positives = positives_.data() + number * options_.posts;
      const WarpBatch batch{.posts = options_.posts,
                            .dim = options_.dim,
                            .rows = rows_,
                            .post_vectors = vectors_.data(),
                            .table = table_.data(),
                            .own = positives,
                            .own_offsets = offsets_.data(),
                            .positives = positives,
                            .positive_offsets = offsets_.data(),
                            .step = ++step_};
      const auto start = std::chrono::steady_clock::now();
      warp(config, batch, 1.0F, result, context);
      if (number == 0) continue;  // its threads may have slept while posts were drawn
      took += std::chrono::steady_clock::now() - start;
      for (const auto tries : tries_) made_ += tries;
    }
    return took.count() / static_cast<double>(kBatches * options_.posts);
  }

  // Of what was timed last.
  [[nodiscard]] double mean_tries() const { return made_ / static_cast<double>(kBatches * options_.posts); }

 private:
  const Options& options_;
  std::uint32_t rows_;
  double expected_tries_;
  std::mt19937_64 random_;
  Floats table_;  // [rows, dim]; begins with a cache line, as the program's do
  std::vector<float> vectors_, loss_, post_gradient_, weights_;
  std::vector<std::uint32_t> offsets_, positives_, violator_, tries_;
  std::vector<RowGradient> gradients_;
  std::uint64_t step_ = 0;
  double made_ = 0;
};

// A table, and the times of each way.
struct Timed {
  std::uint32_t rows;
  Problem problem;
  std::map<Negatives, std::vector<double>> times;
  std::vector<double> made;  // tries, by `sampled`
};

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

void run(const Options& options) {
  CpuContext context(options.threads);
  nlohmann::ordered_json lines = nlohmann::json::array();
  if (!options.json) {
    std::printf("nanoseconds a post, %zu threads, dim %zu, %u posts a batch, median of %d rounds\n",
                options.threads, options.dim, options.posts, options.rounds);
    std::printf("%9s %11s %10s %10s %10s   %s\n", "hashtags", "mean tries", "sampled", "shared", "exact",
                "auto");
  }
  for (const double tries : {4.0, 25.0, 250.0}) {
    // Tables take turns, too, so that what changes on the machine meets all of them.
    std::vector<Timed> tables;
    for (const std::uint32_t rows : {1'000U, 10'000U, 100'000U, 1'000'000U})
      tables.push_back({rows, Problem(options, rows, tries), {}, {}});
    for (int round = 0; round < options.rounds; ++round) {
      for (Timed& table : tables) {
        for (const auto& [negatives, name] : kNames) {
          // Scoring all of a large table takes long, and is no candidate.
          if (negatives == Negatives::exact && table.rows > 10'000) continue;
          table.times[negatives].push_back(table.problem.time(negatives, context));
          if (negatives == Negatives::sampled) table.made.push_back(table.problem.mean_tries());
        }
      }
    }
    for (const auto& [rows, problem, times, made] : tables) {
      double mean = 0;
      for (const double m : made) mean += m / static_cast<double>(made.size());
      const Negatives choice = cheapest_negatives(rows, mean, kMaxTries);
      for (const auto& [negatives, values] : times) {
        lines.push_back({{"table", rows},
                         {"tries", mean},
                         {"negatives", kNames.at(negatives)},
                         {"auto", negatives == choice},
                         {"ns_per_post", median(values)}});
      }
      if (options.json) continue;
      std::printf("%9u %11.1f %10.0f %10.0f", rows, mean, median(times.at(Negatives::sampled)),
                  median(times.at(Negatives::shared)));
      if (times.contains(Negatives::exact)) {
        std::printf(" %10.0f", median(times.at(Negatives::exact)));
      } else {
        std::printf(" %10s", "-");
      }
      std::printf("   %s\n", kNames.at(choice).c_str());
      std::fflush(stdout);
    }
  }
  if (options.json) std::printf("%s\n", nlohmann::ordered_json{{"rows", lines}}.dump(1).c_str());
}

}  // namespace
}  // namespace tagspace::kernels

int main(int argc, char** argv) {
  CLI::App program("What WARP costs a post");
  tagspace::kernels::Options options;
  program.add_option("--threads", options.threads, "Threads")->check(CLI::Range(1, 1024));
  program.add_option("--rounds", options.rounds, "Batches of each kind")->check(CLI::Range(1, 100000));
  program.add_option("--dim", options.dim, "Dimensions")->check(CLI::Range(1, 4096));
  program.add_option("--posts", options.posts, "Posts a batch")->check(CLI::Range(1, 100000));
  program.add_flag("--json", options.json, "JSON instead of a table");
  CLI11_PARSE(program, argc, argv);
  tagspace::kernels::run(options);
}
