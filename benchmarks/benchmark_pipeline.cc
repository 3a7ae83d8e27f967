// How fast posts become batches, stage by stage, against the slowest stage.
//
//   benchmark_pipeline [threads] [rounds] [FILE]
//
// Without FILE, 200,000 synthetic posts: word and hashtag frequencies after Zipf, 4 to 30 words, links,
// mentions, capitals, some posts not in ASCII. `read` takes the lines from the file, `parse` cleans them and
// takes the hashtags out, `tokenize` is the bare word tokenizer on cleaned text in memory; both run on all
// threads, over lines or texts that are there. `build` is the whole: the file to table, vocabulary and
// corpora, on the disk. `load` gives an epoch of batches out of the corpus. The stages are run in turn, round
// by round; rates are medians, of the file's bytes and lines.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "data_pipeline/corpus.h"
#include "data_pipeline/parallel.h"
#include "data_pipeline/posts.h"
#include "data_pipeline/tokenizer.h"

namespace tagspace {
namespace {

namespace fs = std::filesystem;

class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "benchmark_pipeline-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw Error("cannot create a folder for temporary files");
    path_ = name;
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  Folder(Folder&&) = delete;
  Folder& operator=(Folder&&) = delete;
  [[nodiscard]] const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

void write_synthetic_posts(const fs::path& path, int posts) {
  std::mt19937_64 random(1);
  std::vector<double> weights;
  for (int i = 0; i < 60'000; ++i) weights.push_back(1.0 / (i + 5));
  std::discrete_distribution<int> rank(weights.begin(), weights.end());
  std::vector<std::string> words;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    std::string word;
    for (auto length = 2 + random() % 8; length > 0; --length)
      word += static_cast<char>('a' + static_cast<char>(random() % 26));
    if (i % 12 == 0) word += "é";
    if (i % 9 == 0) word[0] = static_cast<char>(word[0] - 'a' + 'A');
    words.push_back(word);
  }
  std::ofstream file(path);
  for (int post = 0; post < posts; ++post) {
    if (random() % 4 == 0) file << "@someone ";
    for (auto length = 4 + random() % 27; length > 0; --length) {
      // Most posts are all ASCII.
      int word = rank(random);
      if (post % 4 != 0 && word % 12 == 0) ++word;
      file << words[static_cast<std::size_t>(word)] << (length % 11 == 0 ? ", " : " ");
    }
    if (random() % 5 == 0) file << "https://t.co/" << random() % 1'000'000 << ' ';
    for (auto hashtags = random() % 3; hashtags > 0; --hashtags) file << "#tag" << rank(random) << ' ';
    file << '\n';
  }
}

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Calls work(begin, end) for pieces of [0, count), on all threads.
template <class Work>
void share(std::uint32_t threads, std::size_t count, const Work& work) {
  constexpr std::size_t kPiece = 2048;
  std::atomic<std::size_t> next = 0;
  run_threads(threads, [&](std::uint32_t) {
    for (std::size_t begin = next.fetch_add(kPiece); begin < count; begin = next.fetch_add(kPiece))
      work(begin, std::min(count, begin + kPiece));
  });
}

void run(std::uint32_t threads, int rounds, fs::path source) {
  const Folder folder;
  if (source.empty()) {
    source = folder.path() / "train.txt";
    write_synthetic_posts(source, 200'000);
  }
  const auto bytes = static_cast<double>(fs::file_size(source));
  const fs::path valid = folder.path() / "valid.txt";
  // Table and vocabulary are those of the whole file, the validation posts hardly any.
  {
    PostReader reader(source, true);
    std::ofstream file(valid);
    std::string line;
    for (int i = 0; i < 1000 && reader.next_line(line); ++i) file << line << '\n';
  }
  DataConfig data;
  data.train = source;
  data.valid = valid;
  data.cache = folder.path() / "cache";
  TokenizerConfig config;
  config.type = TokenizerType::word;
  config.vocab_size = 1'000'000;

  std::vector<std::string> lines;
  std::vector<std::string> texts;
  std::vector<double> read, parse, tokenize, build, load;
  double loaded_posts = 0;
  for (int round = 0; round < rounds; ++round) {
    read.push_back(seconds_of([&] {
      PostReader reader(source, true);
      std::size_t count = 0;
      for (std::string line; reader.next_line(line); ++count) {
        if (round == 0) lines.push_back(line);
      }
    }));
    texts.resize(lines.size());
    const PostReader parser(source, true);
    parse.push_back(seconds_of([&] {
      share(threads, lines.size(), [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) {
          std::string line = lines[i];
          texts[i] = parser.parse_line(line, i + 1).text;
        }
      });
    }));
    fs::remove_all(data.cache);
    PreparedData prepared;
    build.push_back(seconds_of([&] {
      prepared = prepare_data(
          data, config, threads, [](const std::string&) {}, [] { return false; });
    }));
    tokenize.push_back(seconds_of([&] {
      share(threads, texts.size(), [&](std::size_t begin, std::size_t end) {
        std::vector<std::uint32_t> ids;
        for (std::size_t i = begin; i < end; ++i) {
          ids.clear();
          prepared.tokenizer->encode(texts[i], ids);
        }
      });
    }));
    BatchLoader loader(*prepared.train, {.batch_size = 256, .workers = 1 + threads / 8});
    load.push_back(seconds_of([&] {
      PackedBatch batch;
      loader.start(static_cast<std::uint64_t>(round));
      while (loader.next(batch)) continue;
    }));
    loaded_posts = static_cast<double>(prepared.train->posts());
  }

  const auto count = static_cast<double>(lines.size());
  std::printf("%.0f posts, %.1f MB, %u threads, medians of %d rounds\n", count, bytes / 1e6, threads, rounds);
  std::printf("%-10s %10s %14s %10s\n", "", "seconds", "posts/s", "MB/s");
  const auto row = [&](const char* name, const std::vector<double>& seconds) {
    std::printf("%-10s %10.3f %14.0f %10.1f\n", name, median(seconds), count / median(seconds),
                bytes / 1e6 / median(seconds));
  };
  row("read", read);
  row("parse", parse);
  row("tokenize", tokenize);
  row("build", build);
  std::printf("%-10s %10.3f %14.0f\n", "load", median(load), loaded_posts / median(load));
  // Text is parsed and tokenized once by whatever builds a corpus, so these two count as one stage.
  std::vector<double> ratios;
  for (std::size_t i = 0; i < build.size(); ++i)
    ratios.push_back(build[i] / std::max(read[i], parse[i] + tokenize[i]));
  std::printf("build takes %.2f times as long as its slowest stage (read, or parse and tokenize)\n",
              median(ratios));
}

}  // namespace
}  // namespace tagspace

int main(int argc, char** argv) {
  try {
    const auto threads = static_cast<std::uint32_t>(argc > 1 ? std::stoul(argv[1]) : 2);
    const int rounds = argc > 2 ? std::stoi(argv[2]) : 5;
    tagspace::run(threads, std::max(1, rounds), argc > 3 ? argv[3] : "");
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
