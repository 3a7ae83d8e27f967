#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string_view>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "base/error.h"
#include "data_pipeline/corpus.h"
#include "data_pipeline/parallel.h"
#include "data_pipeline/parsed_posts.h"
#include "data_pipeline/post_batcher.h"
#include "data_pipeline/tokenizers.h"

namespace tagspace {
namespace {

namespace fs = std::filesystem;

// Of everything that decides what the cache holds and is no setting: how text is read, cleaned and split, and
// the layout of the files. To be raised when one of them changes.
constexpr int kFormat = 1;

// Of a number in ParsedPosts that no row or token stands for.
constexpr std::uint32_t kNone = 0xFFFFFFFF;

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
                ": it is not a regular file (posts for training are known again by a file's size and time)");
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

// A folder under construction, "<name>.<process id>.partial", locked as long as its process lives. Removed
// unless it was kept.
class PartialFolder {
 public:
  explicit PartialFolder(const fs::path& name)
      : path_(name.string() + "." + std::to_string(::getpid()) + kExtension) {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
    // Locked before it bears the name under which remove_abandoned() would find it.
    const fs::path unlocked = path_.string() + ".new";
    create_folder(unlocked);
    lock_.emplace(unlocked);
    std::error_code error;
    fs::rename(unlocked, path_, error);
    if (error) throw Error("cannot create the folder " + quoted(path_) + ": " + error.message());
  }
  ~PartialFolder() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  PartialFolder(const PartialFolder&) = delete;
  PartialFolder& operator=(const PartialFolder&) = delete;
  PartialFolder(PartialFolder&&) = delete;
  PartialFolder& operator=(PartialFolder&&) = delete;

  // Removes the folders that killed processes left in `parent`.
  static void remove_abandoned(const fs::path& parent) {
    std::error_code ignored;
    std::vector<fs::path> found;
    for (const auto& entry : fs::directory_iterator(parent, ignored)) {
      if (entry.path().extension() == kExtension) found.push_back(entry.path());
    }
    for (const fs::path& folder : found) {
      try {
        if (const FolderLock lock(folder); lock.is_exclusive()) fs::remove_all(folder, ignored);
      } catch (const Error&) {
        continue;  // its process lives, or it is gone
      }
    }
  }

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
  static constexpr const char* kExtension = ".partial";

  fs::path path_;
  std::optional<FolderLock> lock_;
};

// The place in the table of each number of `all`, or kNone.
template <class Find>
std::vector<std::uint32_t> places_of(const Counts& all, const Find& find) {
  std::vector<std::uint32_t> places(all.size());
  for (std::uint32_t number = 0; number < all.size(); ++number) places[number] = find(all.name(number));
  return places;
}

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
    PartialFolder::remove_abandoned(data_.cache);
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
    PartialFolder partial(folder);
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
    const Stopwatch stopwatch;
    PostReader reader(data_.train, config_.lowercase);
    ParsedPosts posts(
        reader, config_.type == TokenizerType::word ? ParsedPosts::Keep::words : ParsedPosts::Keep::texts,
        folder / kTrainFile, threads_, [&] { poll(); });
    const HashtagVocabulary hashtags = make_table(posts, reader.report(), stopwatch);
    hashtags.save(folder / kHashtagsFile);
    // By number of the posts' hashtags: a vocabulary's look-up costs more.
    const std::vector<std::uint32_t> rows = places_of(
        posts.hashtags(), [&](std::string_view name) { return hashtags.find(name).value_or(kNone); });
    const std::unique_ptr<Tokenizer> tokenizer = make_tokenizer(posts, rows);
    create_folder(folder / kTokenizerFolder);
    tokenizer->save(folder / kTokenizerFolder);
    const auto train_posts =
        write_training_corpus(posts, rows, folder / kTrainFile, *tokenizer, hashtags.size());
    if (train_posts == 0) {
      throw Error("no post of " + quoted(data_.train) +
                  " has a hashtag of the table and text besides hashtags");
    }
    const auto valid_posts = write_validation_corpus(folder / kValidFile, *tokenizer, hashtags);
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

  void poll() const {
    if (interrupted_ && interrupted_()) throw Interrupted{};
  }

  HashtagVocabulary make_table(const ParsedPosts& posts, const ReadReport& report,
                               const Stopwatch& stopwatch) const {
    const Counts& counts = posts.hashtags();
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
    log_("read " + std::to_string(report.lines) + " posts of " + quoted(data_.train) + " in " +
         stopwatch.seconds() + ": of " + std::to_string(counts.size()) + " hashtags the table takes " +
         std::to_string(entries.size()) + ", of at least " + std::to_string(entries.back().count) + " posts");
    return HashtagVocabulary(std::move(entries));
  }

  // Only posts that the model is trained on count: those with a hashtag that has one of the `rows`.
  std::unique_ptr<Tokenizer> make_tokenizer(ParsedPosts& posts, std::span<const std::uint32_t> rows) const {
    const Stopwatch stopwatch;
    posts.rewind();
    std::unique_ptr<Tokenizer> tokenizer;
    const char* what = "counted words for";
    if (config_.type == TokenizerType::word) {
      count_words(posts, rows);
      tokenizer = make_word_tokenizer(config_, posts.words());
    } else {
      what = config_.model.empty() ? "trained" : "loaded";
      if (config_.model.empty()) {
        log_("training a sentencepiece tokenizer on the posts of " + quoted(data_.train) +
             " (this may take a minute)");
      }
      std::mutex mutex;
      const auto next = [&](std::vector<std::string>& texts) {
        ParsedPosts::Block block;
        {
          const std::scoped_lock lock(mutex);
          poll();
          if (!posts.next(block)) return false;
        }
        texts.clear();
        for (std::size_t post = 0; post < block.posts.posts(); ++post) {
          if (has_row(block.posts, post, rows)) texts.emplace_back(text_of(block, post));
        }
        return true;
      };
      tokenizer = Tokenizer::train(config_, next, threads_);
    }
    log_(std::string(what) + " the tokenizer in " + stopwatch.seconds() + ": " +
         std::to_string(tokenizer->vocab_size()) + " tokens in its vocabulary");
    return tokenizer;
  }

  void count_words(ParsedPosts& posts, std::span<const std::uint32_t> rows) const {
    for (ParsedPosts::Block block; posts.next(block);) {
      poll();
      for (std::size_t post = 0; post < block.posts.posts(); ++post) {
        if (!has_row(block.posts, post, rows)) continue;
        for (const std::uint32_t word : tokens_of(block.posts, post)) posts.words().add(word, 1);
      }
    }
  }

  static std::span<const std::uint32_t> tokens_of(const PackedBatch& posts, std::size_t post) {
    const std::uint32_t begin = posts.token_offsets[post];
    return std::span(posts.tokens).subspan(begin, posts.token_offsets[post + 1] - begin);
  }
  static std::span<const std::uint32_t> hashtags_of(const PackedBatch& posts, std::size_t post) {
    const std::uint32_t begin = posts.hashtag_offsets[post];
    return std::span(posts.hashtags).subspan(begin, posts.hashtag_offsets[post + 1] - begin);
  }
  static std::string_view text_of(const ParsedPosts::Block& block, std::size_t post) {
    const std::uint32_t begin = block.text_offsets[post];
    return std::string_view(block.texts).substr(begin, block.text_offsets[post + 1] - begin);
  }
  static bool has_row(const PackedBatch& posts, std::size_t post, std::span<const std::uint32_t> rows) {
    const auto hashtags = hashtags_of(posts, post);
    return std::any_of(hashtags.begin(), hashtags.end(),
                       [&](std::uint32_t hashtag) { return rows[hashtag] != kNone; });
  }

  // Writes the posts that have a hashtag of the table and a token. Returns how many.
  std::uint64_t write_training_corpus(ParsedPosts& posts, std::span<const std::uint32_t> rows,
                                      const fs::path& path, const Tokenizer& tokenizer,
                                      std::uint32_t hashtags) const {
    struct Work {
      ParsedPosts::Block parsed;
      PackedBatch encoded;
    };
    const Stopwatch stopwatch;
    const std::vector<std::uint32_t> ids = places_of(posts.words(), [&](std::string_view name) {
      const std::uint32_t id = tokenizer.id(name);
      return id < tokenizer.vocab_size() ? id : kNone;
    });
    CorpusWriter writer(path, {tokenizer.vocab_size(), hashtags, key_});
    posts.rewind();
    process_in_order<Work>(
        threads_,
        [&](Work& work) {
          poll();
          return posts.next(work.parsed);
        },
        [&](Work& work) {
          work.encoded.clear();
          for (std::size_t post = 0; post < work.parsed.posts.posts(); ++post) {
            append_training_post(work.parsed, post, rows, ids, tokenizer, work.encoded);
          }
        },
        [&](const Work& work) { writer.add(work.encoded); });
    writer.commit();
    log_("tokenized " + std::to_string(writer.posts()) + " posts of " + quoted(data_.train) + " in " +
         stopwatch.seconds() + ", those with a hashtag of the table and a token");
    return writer.posts();
  }

  // `ids` are those of the parsed words; without words, the tokenizer gives the ids of the text.
  void append_training_post(const ParsedPosts::Block& parsed, std::size_t post,
                            std::span<const std::uint32_t> rows, std::span<const std::uint32_t> ids,
                            const Tokenizer& tokenizer, PackedBatch& to) const {
    if (!has_row(parsed.posts, post, rows)) return;
    const std::size_t begin = to.tokens.size();
    if (config_.type == TokenizerType::word) {
      for (const std::uint32_t word : tokens_of(parsed.posts, post)) {
        if (to.tokens.size() == begin + config_.max_tokens) break;
        if (ids[word] != kNone) to.tokens.push_back(ids[word]);
      }
    } else {
      tokenizer.encode(text_of(parsed, post), to.tokens);
    }
    if (to.tokens.size() == begin) return;
    const auto first = static_cast<std::ptrdiff_t>(to.hashtags.size());
    for (const std::uint32_t hashtag : hashtags_of(parsed.posts, post)) {
      if (rows[hashtag] != kNone) to.hashtags.push_back(rows[hashtag]);
    }
    std::sort(to.hashtags.begin() + first, to.hashtags.end());
    to.end_post();
  }

  // Writes the posts that have a hashtag of the table. Returns how many.
  std::uint64_t write_validation_corpus(const fs::path& path, const Tokenizer& tokenizer,
                                        const HashtagVocabulary& hashtags) const {
    struct Block {
      LineBlock lines;
      PackedBatch posts;
    };
    const Stopwatch stopwatch;
    PostReader reader(data_.valid, config_.lowercase);
    CorpusWriter writer(path, {tokenizer.vocab_size(), hashtags.size(), key_});
    process_in_order<Block>(
        threads_,
        [&](Block& block) {
          poll();
          return read_lines(reader, block.lines);
        },
        [&](Block& block) {
          block.posts.clear();
          for (std::size_t i = 0; i < block.lines.count; ++i) {
            const Post post = reader.parse_line(block.lines.lines[i], block.lines.first_number + i);
            const bool kept =
                std::any_of(post.hashtags.begin(), post.hashtags.end(),
                            [&](const std::string& hashtag) { return hashtags.find(hashtag).has_value(); });
            if (kept) append_encoded(block.posts, post, tokenizer, hashtags);
          }
        },
        [&](const Block& block) { writer.add(block.posts); });
    const ReadReport report = reader.report();
    if (report.lines == 0) throw Error(quoted(data_.valid) + " is empty");
    if (report.repaired_lines > 0 && data_.valid != data_.train) log_repaired(data_.valid, report);
    writer.commit();
    log_("tokenized " + std::to_string(report.lines) + " posts of " + quoted(data_.valid) + " in " +
         stopwatch.seconds() + " (" + std::to_string(writer.posts()) + " with a hashtag of the table)");
    return writer.posts();
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
