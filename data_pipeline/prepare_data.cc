#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string_view>
#include <sys/stat.h>
#include <unistd.h>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "data_pipeline/corpus.h"
#include "data_pipeline/parallel.h"
#include "data_pipeline/post_batcher.h"

namespace tagspace {
namespace {

namespace fs = std::filesystem;

// Of everything that decides what the cache holds and is no setting: how text is read, cleaned and split, and
// the layout of the files. To be raised when one of them changes.
constexpr int kFormat = 1;

constexpr std::size_t kBlockLines = 2048;
constexpr std::size_t kBlockBytes = std::size_t{1} << 20U;

constexpr const char* kManifestFile = "manifest.json";
constexpr const char* kHashtagsFile = "hashtags.tsv";
constexpr const char* kTrainFile = "train.corpus";
constexpr const char* kValidFile = "valid.corpus";
constexpr const char* kTokenizerFolder = "tokenizer";

std::string quoted(const fs::path& path) { return std::string("'") + path.string() + "'"; }

// A source as it was when it was looked at.
nlohmann::ordered_json look_at_source(const fs::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    throw Error("cannot open " + quoted(path) + ": " + std::strerror(errno));
  }
  if (!S_ISREG(status.st_mode)) {
    throw Error("cannot read " + quoted(path) +
                ": it is not a regular file (posts for training are read several times)");
  }
  if (::access(path.c_str(), R_OK) != 0)
    throw Error("cannot open " + quoted(path) + ": " + std::strerror(errno));
  if (status.st_size == 0) throw Error(quoted(path) + " is empty");
  return {
      {"path", fs::absolute(path).lexically_normal().string()},
      {"size", status.st_size},
      {"mtime_ns", static_cast<std::int64_t>(status.st_mtim.tv_sec) * 1000000000 + status.st_mtim.tv_nsec}};
}

std::string checksum_of(const fs::path& path) {
  Checksum checksum;
  checksum.update(read_file(path));
  return checksum.hex();
}

class Stopwatch {
 public:
  [[nodiscard]] std::string seconds() const {
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start_;
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%.1f s", passed.count());
    return text.data();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// Removes a folder unless it was kept.
class PartialFolder {
 public:
  explicit PartialFolder(fs::path path) : path_(std::move(path)) {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
    create_folder(path_);
  }
  ~PartialFolder() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  PartialFolder(const PartialFolder&) = delete;
  PartialFolder& operator=(const PartialFolder&) = delete;
  PartialFolder(PartialFolder&&) = delete;
  PartialFolder& operator=(PartialFolder&&) = delete;

  [[nodiscard]] const fs::path& path() const { return path_; }

  // Gives the folder its name. If another process was faster, its folder is as good.
  void keep_as(const fs::path& name) {
    std::error_code error;
    fs::rename(path_, name, error);
    if (!error) {
      path_.clear();
    } else if (!fs::exists(name / kManifestFile)) {
      throw Error("cannot write " + quoted(name) + ": " + error.message());
    }
  }

 private:
  fs::path path_;
};

// Lines of a file, and the number of the first.
struct LineBlock {
  std::vector<std::string> lines;
  std::size_t count = 0;
  std::uint64_t first_number = 0;
};

class Preparation {
 public:
  Preparation(const DataConfig& data, const TokenizerConfig& tokenizer, std::uint32_t threads,
              const std::function<void(const std::string&)>& log, const std::function<bool()>& interrupted)
      : data_(data),
        config_(tokenizer),
        threads_(resolve_threads(threads)),
        log_(log),
        interrupted_(interrupted) {}

  PreparedData run() {
    const nlohmann::ordered_json made_from = describe();
    Checksum checksum;
    checksum.update(made_from.dump());
    key_ = checksum.value();
    const fs::path folder = data_.cache / checksum.hex();
    if (fs::exists(folder)) {
      try {
        PreparedData found = load(folder);
        log_("reusing " + quoted(folder) + ": " + summary(found));
        return found;
      } catch (const Error& error) {
        log_(std::string(error.what()) + "; making " + quoted(folder) + " again");
        std::error_code failed;
        fs::remove_all(folder, failed);
        if (failed) throw Error("cannot remove " + quoted(folder) + ": " + failed.message());
      }
    }
    create_folder(data_.cache);
    PartialFolder partial(folder.string() + "." + std::to_string(::getpid()) + ".partial");
    make(partial.path(), made_from);
    if (describe() != made_from) throw Error("the posts were changed while they were read: start again");
    partial.keep_as(folder);
    return load(folder);
  }

 private:
  // All that decides what the cache entry holds.
  [[nodiscard]] nlohmann::ordered_json describe() const {
    if (!data_.test.empty()) (void)look_at_source(data_.test);
    return {{"format", kFormat},
            {"train", look_at_source(data_.train)},
            {"valid", look_at_source(data_.valid)},
            {"hashtags", {{"min_count", data_.min_count}, {"max_size", data_.max_size}}},
            {"tokenizer",
             {{"type", config_.type == TokenizerType::word ? "word" : "sentencepiece"},
              {"vocab_size", config_.vocab_size},
              {"min_count", config_.min_count},
              {"lowercase", config_.lowercase},
              {"max_tokens", config_.max_tokens},
              {"model", config_.model.empty() ? "" : checksum_of(config_.model)}}}};
  }

  static std::string summary(const PreparedData& data) {
    return std::to_string(data.train->posts()) + " training posts, " + std::to_string(data.valid->posts()) +
           " validation posts, " + std::to_string(data.hashtags.size()) + " hashtags, " +
           std::to_string(data.tokenizer->vocab_size()) + " tokens in the vocabulary";
  }

  void make(const fs::path& folder, const nlohmann::ordered_json& made_from) {
    const HashtagVocabulary hashtags = count_hashtags();
    hashtags.save(folder / kHashtagsFile);
    const std::unique_ptr<Tokenizer> tokenizer = make_tokenizer(hashtags);
    create_folder(folder / kTokenizerFolder);
    tokenizer->save(folder / kTokenizerFolder);
    const auto train_posts =
        write_corpus(data_.train, folder / kTrainFile, *tokenizer, hashtags, /*tokens=*/true);
    if (train_posts == 0) {
      throw Error("no post of " + quoted(data_.train) +
                  " has a hashtag of the table and text besides hashtags");
    }
    const auto valid_posts =
        write_corpus(data_.valid, folder / kValidFile, *tokenizer, hashtags, /*tokens=*/false);
    if (valid_posts == 0) {
      throw Error("no post of " + quoted(data_.valid) + " has a hashtag of the table (the " +
                  std::to_string(hashtags.size()) + " that reach data.hashtags.min_count in " +
                  quoted(data_.train) + ")");
    }
    // The small files are read by people and programs that would not notice a change; the corpora hold their
    // own checksums.
    nlohmann::ordered_json files;
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      if (entry.is_regular_file() && entry.path().extension() != ".corpus") {
        files[entry.path().lexically_relative(folder).string()] = checksum_of(entry.path());
      }
    }
    write_file(folder / kManifestFile,
               nlohmann::ordered_json{{"made_from", made_from}, {"files", files}}.dump(2) + "\n");
  }

  [[nodiscard]] PreparedData load(const fs::path& folder) const {
    const fs::path manifest = folder / kManifestFile;
    try {
      const auto json = nlohmann::json::parse(read_file(manifest));
      for (const auto& [name, checksum] : json.at("files").items()) {
        if (checksum_of(folder / name) != checksum.get<std::string>())
          throw Error(quoted(folder / name) + " is damaged");
      }
    } catch (const nlohmann::json::exception&) {
      throw Error(quoted(manifest) + " is damaged");
    }
    PreparedData data;
    data.tokenizer = Tokenizer::load(folder / kTokenizerFolder);
    data.hashtags = HashtagVocabulary::load(folder / kHashtagsFile);
    data.train = open_corpus(folder / kTrainFile, data);
    data.valid = open_corpus(folder / kValidFile, data);
    return data;
  }

  [[nodiscard]] std::unique_ptr<Corpus> open_corpus(const fs::path& path, const PreparedData& data) const {
    auto corpus = std::make_unique<Corpus>(path);
    const CorpusInfo& info = corpus->info();
    if (info.key != key_ || info.vocab_size != data.tokenizer->vocab_size() ||
        info.hashtags != data.hashtags.size()) {
      throw Error("the corpus " + quoted(path) + " was made with other settings");
    }
    return corpus;
  }

  // Reads the next block of lines; false at the end. One call at a time.
  bool read_block(PostReader& reader, LineBlock& block) const {
    if (interrupted_ && interrupted_()) throw Interrupted{};
    block.count = 0;
    block.first_number = reader.report().lines + 1;
    block.lines.resize(kBlockLines);
    for (std::size_t bytes = 0; block.count < kBlockLines && bytes < kBlockBytes; ++block.count) {
      std::string& line = block.lines[block.count];
      if (!reader.next_line(line)) break;
      bytes += line.size();
    }
    return block.count > 0;
  }

  // Calls visit(Post&&) for each line of the block.
  template <class Visit>
  static void parse_block(const PostReader& reader, LineBlock& block, const Visit& visit) {
    for (std::size_t i = 0; i < block.count; ++i)
      visit(reader.parse_line(block.lines[i], block.first_number + i));
  }

  HashtagVocabulary count_hashtags() {
    struct Block {
      LineBlock lines;
      std::unordered_map<std::string, std::uint64_t> counts;
    };
    const Stopwatch stopwatch;
    PostReader reader(data_.train, config_.lowercase);
    Counts counts;
    process_in_order<Block>(
        threads_, [&](Block& block) { return read_block(reader, block.lines); },
        [&](Block& block) {
          block.counts.clear();
          parse_block(reader, block.lines, [&](Post&& post) {
            for (std::string& hashtag : post.hashtags) ++block.counts[std::move(hashtag)];
          });
        },
        [&](const Block& block) {
          for (const auto& [hashtag, count] : block.counts) counts.add(hashtag, count);
        });
    const ReadReport report = reader.report();
    if (report.lines == 0) throw Error(quoted(data_.train) + " is empty");
    if (report.repaired_lines > 0) log_repaired(data_.train, report);
    if (counts.size() == 0) {
      throw Error("no post of " + quoted(data_.train) +
                  " has a hashtag: they are written in the text as #tag, with at least one letter, or as "
                  "__label__tag, or listed under \"hashtags\" in .jsonl");
    }
    auto entries = counts.most_frequent(data_.min_count, data_.max_size);
    if (entries.size() < 2) {
      throw Error(std::to_string(entries.size()) + " of the " + std::to_string(counts.size()) +
                  " hashtags of " + quoted(data_.train) +
                  " occur in data.hashtags.min_count = " + std::to_string(data_.min_count) +
                  " posts or more, and at least 2 are needed: lower it, or give more posts");
    }
    log_("counted " + std::to_string(counts.size()) + " hashtags in " + std::to_string(report.lines) +
         " posts of " + quoted(data_.train) + " in " + stopwatch.seconds() + ": the table takes " +
         std::to_string(entries.size()) + ", of at least " + std::to_string(entries.back().count) + " posts");
    return HashtagVocabulary(std::move(entries));
  }

  std::unique_ptr<Tokenizer> make_tokenizer(const HashtagVocabulary& hashtags) {
    const Stopwatch stopwatch;
    PostReader reader(data_.train, config_.lowercase);
    std::mutex mutex;
    // Only posts that the model is trained on count.
    const auto next = [&](std::vector<std::string>& texts) {
      LineBlock block;
      {
        const std::scoped_lock lock(mutex);
        if (!read_block(reader, block)) return false;
      }
      texts.clear();
      parse_block(reader, block, [&](Post&& post) {
        if (has_table_hashtag(post, hashtags)) texts.push_back(std::move(post.text));
      });
      return true;
    };
    if (config_.type == TokenizerType::sentencepiece && config_.model.empty()) {
      log_("training a sentencepiece tokenizer on the posts of " + quoted(data_.train) +
           " (this may take a minute)");
    }
    auto tokenizer = Tokenizer::train(config_, next, threads_);
    const char* what = config_.type == TokenizerType::word ? "counted words for"
                       : config_.model.empty()             ? "trained"
                                                           : "loaded";
    log_(std::string(what) + " the tokenizer in " + stopwatch.seconds() + ": " +
         std::to_string(tokenizer->vocab_size()) + " tokens in its vocabulary");
    return tokenizer;
  }

  static bool has_table_hashtag(const Post& post, const HashtagVocabulary& hashtags) {
    for (const std::string& hashtag : post.hashtags) {
      if (hashtags.find(hashtag)) return true;
    }
    return false;
  }

  // Writes the posts that have a hashtag of the table, and a token where `tokens` asks for one. Returns how
  // many.
  std::uint64_t write_corpus(const fs::path& source, const fs::path& path, const Tokenizer& tokenizer,
                             const HashtagVocabulary& hashtags, bool tokens) {
    struct Block {
      LineBlock lines;
      PackedBatch posts;
    };
    const Stopwatch stopwatch;
    PostReader reader(source, config_.lowercase);
    CorpusWriter writer(path, {tokenizer.vocab_size(), hashtags.size(), key_});
    process_in_order<Block>(
        threads_, [&](Block& block) { return read_block(reader, block.lines); },
        [&](Block& block) {
          block.posts.clear();
          parse_block(reader, block.lines, [&](Post&& post) {
            if (!has_table_hashtag(post, hashtags)) return;
            append_encoded(block.posts, post, tokenizer, hashtags);
            const std::size_t last = block.posts.posts();
            if (tokens && block.posts.token_offsets[last] == block.posts.token_offsets[last - 1])
              drop_last(block.posts);
          });
        },
        [&](const Block& block) { writer.add(block.posts); });
    const ReadReport report = reader.report();
    if (report.lines == 0) throw Error(quoted(source) + " is empty");
    if (report.repaired_lines > 0 && source != data_.train) log_repaired(source, report);
    writer.commit();
    log_("tokenized " + std::to_string(report.lines) + " posts of " + quoted(source) + " in " +
         stopwatch.seconds() + " (" + std::to_string(writer.posts()) + " with a hashtag of the table" +
         (tokens ? " and a token)" : ")"));
    return writer.posts();
  }

  static void drop_last(PackedBatch& batch) {
    batch.token_offsets.pop_back();
    batch.hashtag_offsets.pop_back();
    batch.tokens.resize(batch.token_offsets.back());
    batch.hashtags.resize(batch.hashtag_offsets.back());
  }

  void log_repaired(const fs::path& source, const ReadReport& report) const {
    log_(quoted(source) + ": " + std::to_string(report.repaired_lines) + " of " +
         std::to_string(report.lines) +
         " lines are not valid UTF-8; U+FFFD stands for what could not be read");
  }

  const DataConfig& data_;
  const TokenizerConfig& config_;
  std::uint32_t threads_;
  const std::function<void(const std::string&)>& log_;
  const std::function<bool()>& interrupted_;
  std::uint64_t key_ = 0;
};

}  // namespace

PreparedData prepare_data(const DataConfig& data, const TokenizerConfig& tokenizer, std::uint32_t threads,
                          const std::function<void(const std::string&)>& log,
                          const std::function<bool()>& interrupted) {
  return Preparation(data, tokenizer, threads, log, interrupted).run();
}

}  // namespace tagspace
