// Scoring, ranking and the program's answers, each against a yardstick, in turn, in one process.
//
//   benchmark_inference [posts] [hashtags] [rounds] [threads]
//   benchmark_inference encode RUN POSTS [rounds] [threads]
//
// The second form: posts a second that a run's encoder alone makes vectors of, tokens in memory, in batches
// of 4,096 posts as `tagspace embed` has them; one number a round. The first:
//
// 1. The kernels: the best 10 hashtags, and ranks, against the matrix product alone: LibTorch's at::mm of the
// same
//    shapes, in blocks whose results stay in the cache.
// 2. `tagspace evaluate` as a whole, on a synthetic run of as many hashtags and 100,000 words, against the
// same product.
// 3. `tagspace predict`: from its start to the answer to its first post, with 10,000 hashtags, and the memory
// that it
//    then holds besides the mapped model.
//
// Seconds on the clock and seconds of all processors; the latter tell more where others use the machine.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include "app/experiment.h"
#include "app/run_folder.h"
#include "base/files.h"
#include "data_pipeline/post_batcher.h"
#include "model/checkpoint.h"
#include "model/inference/inference_model.h"
#include "model/kernels/cpu_context.h"
#include "model/kernels/scoring.h"
#include "model/lexical/post_features.h"

namespace tagspace {
namespace {

constexpr std::uint32_t kWords = 100'000;
constexpr std::uint32_t kDim = 64;
constexpr std::uint32_t kFewHashtags = 10'000;

struct Cost {
  double clock = 0;
  double processors = 0;
};

double seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}
double seconds(const rusage& usage) { return seconds(usage.ru_utime) + seconds(usage.ru_stime); }

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

template <typename Work>
Cost cost_of(const Work& work) {
  rusage before{};
  rusage after{};
  getrusage(RUSAGE_SELF, &before);
  const double start = now();
  work();
  const double clock = now() - start;
  getrusage(RUSAGE_SELF, &after);
  return {clock, seconds(after) - seconds(before)};
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}
Cost median(const std::vector<Cost>& costs) {
  std::vector<double> clock;
  std::vector<double> processors;
  for (const Cost& cost : costs) {
    clock.push_back(cost.clock);
    processors.push_back(cost.processors);
  }
  return {median(clock), median(processors)};
}

std::vector<float> normals(std::size_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, 0.3F);
  std::vector<float> values(count);
  for (auto& value : values) value = normal(random);
  return values;
}

// The product alone, in blocks of a megabyte of scores.
void multiply(const std::vector<float>& posts, const std::vector<float>& table,
              kernels::CpuContext& context) {
  constexpr std::int64_t kPosts = 256;
  constexpr std::int64_t kRows = 1024;
  const auto rows_of = [](const std::vector<float>& values, std::int64_t first, std::int64_t most) {
    const auto all = static_cast<std::int64_t>(values.size() / kDim);
    // Only read from.
    auto* const data = const_cast<float*>(values.data()) + first * kDim;  // NOLINT(*-const-cast)
    return at::from_blob(data, {std::min(most, all - first), kDim}, at::kFloat);
  };
  const std::size_t post_count = posts.size() / kDim;
  context.pool.run((post_count + kPosts - 1) / kPosts, [&](std::size_t task, std::size_t) {
    at::set_num_threads(1);
    const at::Tensor some = rows_of(posts, static_cast<std::int64_t>(task) * kPosts, kPosts);
    at::Tensor scores = at::mm(some, rows_of(table, 0, kRows).t());
    for (std::int64_t row = 0; row < static_cast<std::int64_t>(table.size() / kDim); row += kRows) {
      const at::Tensor rows = rows_of(table, row, kRows);
      at::Tensor out = scores.narrow(1, 0, rows.size(0));
      at::mm_out(out, some, rows.t());
    }
  });
}

std::string word(std::uint32_t i) { return "w" + std::to_string(i); }
std::string hashtag(std::uint32_t i) {
  const std::string digits = std::to_string(i);
  return "h" + std::string(8 - digits.size(), '0') + digits;
}

// A run of a bag with random vectors.
void make_run(const std::filesystem::path& path, std::uint32_t hashtags) {
  const nlohmann::ordered_json json = {
      {"name", "synthetic"},
      {"data", {{"train", "none"}, {"valid", "none"}}},
      {"tokenizer", {{"type", "word"}, {"vocab_size", kWords}, {"min_count", 1}}},
      {"encoder", {{"type", "bag"}, {"dim", kDim}}}};
  const Experiment experiment = experiment_from_json(parse_json(json.dump(), "synthetic"), "synthetic");
  std::uint32_t made = 0;
  const auto tokenizer = Tokenizer::train(
      experiment.tokenizer,
      [&](std::vector<std::string>& texts) {
        texts.clear();
        for (; made < kWords && texts.size() < 1000; ++made) texts.push_back(word(made));
        return !texts.empty();
      },
      1);
  std::vector<HashtagVocabulary::Entry> entries;
  for (std::uint32_t i = 0; i < hashtags; ++i) entries.push_back({hashtag(i), 5});
  const RunFolder run =
      RunFolder::create(path, experiment, *tokenizer, std::nullopt, HashtagVocabulary(std::move(entries)));
  const auto words = normals(std::size_t{kWords} * kDim, 3);
  const auto table = normals(std::size_t{hashtags} * kDim, 4);
  const std::vector<NamedArray> arrays = {{"words", {kWords, kDim}, words.data()},
                                          {"hashtags", {hashtags, kDim}, table.data()}};
  write_checkpoint(run.best(), arrays, R"({"as_bag":true})");
}

void make_posts(const std::filesystem::path& path, std::size_t posts, std::uint32_t hashtags) {
  std::mt19937_64 random(5);
  std::ofstream file(path);
  for (std::size_t i = 0; i < posts; ++i) {
    for (int t = 0; t < 12; ++t) file << word(static_cast<std::uint32_t>(random() % kWords)) << ' ';
    file << '#' << hashtag(static_cast<std::uint32_t>(random() % hashtags)) << '\n';
  }
}

// A started program, with its standard input and output.
class Child {
 public:
  explicit Child(const std::vector<std::string>& arguments) {
    int in[2];
    int out[2];
    if (::pipe2(in, O_CLOEXEC) != 0 || ::pipe2(out, O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
    std::vector<char*> words;
    for (const std::string& argument : arguments)
      words.push_back(const_cast<char*>(argument.c_str()));  // NOLINT
    words.push_back(nullptr);
    process_ = ::fork();
    if (process_ == 0) {
      ::dup2(in[0], STDIN_FILENO);
      ::dup2(out[1], STDOUT_FILENO);
      ::execv(words[0], words.data());
      ::_exit(127);
    }
    ::close(in[0]);
    ::close(out[1]);
    in_ = in[1];
    out_ = out[0];
  }
  ~Child() { ::close(out_); }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  Child(Child&&) = delete;
  Child& operator=(Child&&) = delete;

  [[nodiscard]] int process() const { return process_; }
  void write(const std::string& text) const {
    if (::write(in_, text.data(), text.size()) < 0) throw std::runtime_error("the program does not read");
  }
  // What there is to read; empty at the end.
  [[nodiscard]] std::string read() const {
    char buffer[4096];
    const ssize_t count = ::read(out_, buffer, sizeof buffer);
    return {buffer, static_cast<std::size_t>(std::max<ssize_t>(0, count))};
  }
  // Ends its input, and waits for its end. Returns the processors' seconds.
  double finish() const {
    ::close(in_);
    while (!read().empty()) {
    }
    int status = 0;
    rusage usage{};
    if (::wait4(process_, &status, 0, &usage) < 0 || status != 0)
      throw std::runtime_error("the program failed");
    return seconds(usage);
  }

 private:
  int process_ = -1;
  int in_ = -1;
  int out_ = -1;
};

// Resident kilobytes of a process without those of one mapped file.
long resident_besides(int process, const std::string& file) {
  std::ifstream maps("/proc/" + std::to_string(process) + "/smaps");
  std::string line;
  bool counts = true;
  long sum = 0;
  while (std::getline(maps, line)) {
    if (line.find('-') != std::string::npos && line.find(':') > line.find('-')) {
      counts = !line.ends_with(file);
    } else if (counts && line.starts_with("Rss:")) {
      sum += std::stol(line.substr(4));
    }
  }
  return sum;
}

void print(const char* name, const Cost& cost, const Cost& yardstick) {
  std::printf("  %-34s %9.3f s %9.3f s %9.2f %9.2f\n", name, cost.clock, cost.processors,
              cost.clock / yardstick.clock, cost.processors / yardstick.processors);
}

void run(std::size_t posts, std::uint32_t hashtags, int rounds, std::uint32_t threads,
         const std::string& program) {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("benchmark-inference-" + std::to_string(::getpid()));
  const auto remove = [](const std::filesystem::path* path) {
    std::error_code ignored;
    std::filesystem::remove_all(*path, ignored);
  };
  const std::unique_ptr<const std::filesystem::path, decltype(remove)> at_the_end(&folder, remove);
  create_folder(folder);
  const auto large = folder / "large";
  const auto small = folder / "small";
  make_run(large, hashtags);
  make_run(small, kFewHashtags);
  make_posts(folder / "posts.txt", posts, hashtags);

  const auto vectors = normals(posts * kDim, 1);
  const auto table = normals(std::size_t{hashtags} * kDim, 2);
  std::vector<std::uint32_t> own(posts);
  std::vector<std::uint32_t> offsets(posts + 1);
  for (std::size_t i = 0; i < posts; ++i) {
    own[i] = static_cast<std::uint32_t>(i % hashtags);
    offsets[i + 1] = static_cast<std::uint32_t>(i + 1);
  }
  kernels::CpuContext context(threads);
  const kernels::VectorArray queries{vectors.data(), posts, kDim};
  const kernels::VectorArray rows{table.data(), hashtags, kDim};
  constexpr std::size_t kTop = 10;
  std::vector<kernels::ScoredRow> best(posts * std::min<std::size_t>(kTop, hashtags));
  std::vector<std::uint32_t> ranks(posts);
  std::vector<std::uint32_t> first(posts);

  std::vector<Cost> product;
  std::vector<Cost> top_ten;
  std::vector<Cost> ranking;
  std::vector<Cost> evaluate;
  std::vector<Cost> predict;
  std::vector<double> memory;
  for (int round = 0; round < rounds; ++round) {
    product.push_back(cost_of([&] { multiply(vectors, table, context); }));
    top_ten.push_back(cost_of([&] { kernels::top_k(queries, rows, kTop, best.data(), context); }));
    ranking.push_back(cost_of([&] {
      kernels::ranks(queries, rows, {offsets.data(), own.data()}, ranks.data(), first.data(), context);
    }));
    {
      const double start = now();
      const Child child({program, "evaluate", large, "--posts", folder / "posts.txt", "--json", "-",
                         "--threads", std::to_string(threads)});
      const double processors = child.finish();
      evaluate.push_back({now() - start, processors});
    }
    for (int i = 0; i < 5; ++i) {
      const double start = now();
      const Child child({program, "predict", small, "--threads", std::to_string(threads)});
      child.write("w1 w2 w3 and more\n");
      if (child.read().empty()) throw std::runtime_error("no answer");
      const double clock = now() - start;
      memory.push_back(static_cast<double>(resident_besides(child.process(), "best.safetensors")));
      predict.push_back({clock, child.finish()});
    }
  }
  std::printf("%zu posts, %u hashtags, %u dimensions, %u threads, medians of %d rounds\n", posts, hashtags,
              kDim, threads, rounds);
  const Cost yardstick = median(product);
  std::printf("  %-34s %11s %11s %9s %9s\n", "", "clock", "processors", "times", "the product");
  print("matrix product alone (at::mm)", yardstick, yardstick);
  print("top 10 of all hashtags", median(top_ten), yardstick);
  print("ranks among all hashtags", median(ranking), yardstick);
  print("tagspace evaluate, all of it", median(evaluate), yardstick);
  const Cost start = median(predict);
  std::printf(
      "tagspace predict, %u words, %u hashtags: first answer after %.1f ms (%.1f ms of the processors), "
      "%.1f MB resident besides the model\n",
      kWords, kFewHashtags, 1e3 * start.clock, 1e3 * start.processors, median(memory) / 1024);
}

void encode(const char* run, const char* file, int rounds, std::uint32_t threads) {
  constexpr std::size_t kAtOnce = 4096;
  const RunFolder folder(run);
  const auto tokenizer = folder.load_tokenizer();
  const HashtagVocabulary hashtags = folder.load_hashtags();
  const std::optional<PostFeatures> features = folder.load_features(*tokenizer);
  InferenceModel model(folder.best(),
                       model_config(folder.experiment(), *tokenizer, features, hashtags, threads));
  kernels::CpuContext context(threads);
  PostReader reader(file, tokenizer->config().lowercase);
  PostBatcher batcher(reader, *tokenizer, hashtags, threads);
  std::vector<PackedBatch> batches;
  std::size_t posts = 0;
  for (PackedBatch batch; batcher.next(kAtOnce, batch);) {
    posts += batch.posts();
    if (features) features->expand(batch);
    batches.push_back(batch);
  }
  std::vector<float> vectors(kAtOnce * model.dim());
  for (int round = -1; round < rounds; ++round) {
    const double start = now();
    for (const PackedBatch& batch : batches) model.encode(batch, false, vectors.data(), context);
    if (round >= 0) std::printf("%.0f\n", static_cast<double>(posts) / (now() - start));
  }
}

}  // namespace
}  // namespace tagspace

int main(int argc, char** argv) {
  const auto number = [&](int i, unsigned long otherwise) {
    return argc > i ? std::stoul(argv[i]) : otherwise;
  };
  try {
    if (argc > 3 && std::string_view(argv[1]) == "encode") {
      tagspace::encode(argv[2], argv[3], static_cast<int>(number(4, 3)),
                       static_cast<std::uint32_t>(number(5, 2)));
    } else {
      tagspace::run(number(1, 50'000), static_cast<std::uint32_t>(number(2, 100'000)),
                    static_cast<int>(number(3, 3)), static_cast<std::uint32_t>(number(4, 2)),
                    TAGSPACE_PROGRAM);
    }
  } catch (const std::logic_error&) {  // std::stoul's
    std::fputs(
        "usage: benchmark_inference [POSTS [HASHTAGS [ROUNDS [THREADS]]]]\n"
        "       benchmark_inference encode RUN FILE [ROUNDS [THREADS]]\n",
        stderr);
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "benchmark_inference: %s\n", error.what());
    return 1;
  }
}
