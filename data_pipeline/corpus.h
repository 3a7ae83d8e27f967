// The corpus: posts tokenized once, kept in a memory-mapped file, and read in shuffled, packed batches.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/files.h"
#include "data_pipeline/counts.h"
#include "data_pipeline/packed_batch.h"
#include "data_pipeline/posts.h"
#include "data_pipeline/tokenizer.h"

namespace tagspace {

// The hashtags of the table, most frequent first (equal counts in byte order); the index is the table's row.
class HashtagVocabulary {
 public:
  using Entry = NamedCount;  // the name without '#', the count of training posts that carry it

  HashtagVocabulary() = default;
  explicit HashtagVocabulary(std::vector<Entry> entries);

  [[nodiscard]] std::uint32_t size() const { return static_cast<std::uint32_t>(entries_.size()); }
  [[nodiscard]] const Entry& operator[](std::uint32_t id) const { return entries_[id]; }
  [[nodiscard]] std::optional<std::uint32_t> find(std::string_view name) const;

  // "name<TAB>count" lines. Loading checks order, duplicates and numbers; errors name file and line.
  void save(const std::filesystem::path& path) const;
  [[nodiscard]] static HashtagVocabulary load(const std::filesystem::path& path);

 private:
  std::vector<Entry> entries_;
  NameIndex ids_;  // of entries_
};

// What a corpus was made with: what its ids mean.
struct CorpusInfo {
  std::uint32_t vocab_size = 0;  // every token is below
  std::uint32_t hashtags = 0;    // every hashtag is below
  std::uint64_t key = 0;         // of the cache: says which tokenizer and hashtag table
};

// A tokenized corpus on disk. Layout, little-endian: a header of 72 bytes (magic "tagspace", u32 format
// version, u32 zero, u64 key, u32 vocab_size, u32 size of the hashtag table, u64 posts, u64 tokens, u64
// hashtags, u64 zero, u64 checksum of the rest), then tokens [u32], hashtags [u32], zeros up to a multiple of
// 8, token offsets [u64, posts + 1], hashtag offsets [u64, posts + 1].
class Corpus {
 public:
  // Opens and verifies: Error "… is damaged" if the header, the sizes or the checksum do not fit, if an
  // offset goes backwards, or an id is out of range; Error if the version is newer. Holds few pages while it
  // does.
  explicit Corpus(const std::filesystem::path& path);

  [[nodiscard]] const CorpusInfo& info() const { return info_; }
  [[nodiscard]] std::uint64_t posts() const { return posts_; }
  [[nodiscard]] std::uint64_t tokens() const { return tokens_.size(); }
  [[nodiscard]] std::uint64_t hashtags() const { return hashtags_.size(); }
  [[nodiscard]] std::uint64_t bytes() const { return file_.bytes().size(); }
  [[nodiscard]] std::span<const std::uint32_t> tokens(std::uint64_t post) const;
  [[nodiscard]] std::span<const std::uint32_t> hashtags(std::uint64_t post) const;  // ascending
  // Of the posts alone: equal for equal posts, whatever file they came from.
  [[nodiscard]] std::uint64_t checksum() const { return checksum_; }
  // Posts [begin, end).
  void append_to(PackedBatch& batch, std::uint64_t begin, std::uint64_t end) const;
  // Gives the pages read so far back to the system.
  void release_pages() const { file_.release_pages(); }

 private:
  MappedFile file_;
  CorpusInfo info_;
  std::uint64_t posts_ = 0;
  std::uint64_t checksum_ = 0;
  std::span<const std::uint32_t> tokens_;
  std::span<const std::uint32_t> hashtags_;
  std::span<const std::uint64_t> token_offsets_;    // [posts + 1]
  std::span<const std::uint64_t> hashtag_offsets_;  // [posts + 1]
};

// Writes a corpus post by post, whole or not at all, in memory that does not grow with it.
class CorpusWriter {
 public:
  CorpusWriter(const std::filesystem::path& path, const CorpusInfo& info);
  ~CorpusWriter();
  CorpusWriter(const CorpusWriter&) = delete;
  CorpusWriter& operator=(const CorpusWriter&) = delete;
  CorpusWriter(CorpusWriter&&) = delete;
  CorpusWriter& operator=(CorpusWriter&&) = delete;

  void add(const PackedBatch& posts);
  void commit();
  [[nodiscard]] std::uint64_t posts() const;

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

struct DataConfig {
  std::filesystem::path train;
  std::filesystem::path valid;
  std::filesystem::path test;  // may be empty; only looked for, so that its absence shows early
  std::filesystem::path cache = "runs/cache";  // where tokenized corpora are kept
  std::uint32_t min_count = 5;                 // hashtags of fewer training posts are left out of the table
  std::uint32_t max_size = 100000;             // the table's most rows
};

// Everything that training needs, read from the cache, or made and put there.
struct PreparedData {
  std::unique_ptr<Tokenizer> tokenizer;
  HashtagVocabulary hashtags;
  std::unique_ptr<Corpus> train;  // only posts with a token and a hashtag of the table
  std::unique_ptr<Corpus> valid;  // only posts with a hashtag of the table; empty posts kept
};

// Thrown when the person at the keyboard wants to stop.
struct Interrupted {};

// Makes or reuses tokenizer, hashtag table and corpora, on `threads` threads, 0: one for each core. The cache
// key covers the sources' paths, sizes and modification times, and every setting that matters; what was made
// is put into the cache in one step. A damaged entry of the cache is made again. `log` gets one line for each
// thing done or reused ("tokenized 51792 posts of 'train.txt' in 1.2 s (32288 with a hashtag of the table)",
// invalid UTF-8 counts).
//
// Errors: a missing or empty file; no post with a hashtag (names the file and says how hashtags are written);
// fewer than two hashtags that reach min_count (says how many there are and what min_count is); no validation
// post with a hashtag of the table.
//
// `interrupted` is polled; when it returns true, Interrupted is thrown and nothing half-made is kept. While
// sentencepiece trains it is not asked.
[[nodiscard]] PreparedData prepare_data(const DataConfig& data, const TokenizerConfig& tokenizer,
                                        std::uint32_t threads,
                                        const std::function<void(const std::string&)>& log,
                                        const std::function<bool()>& interrupted);

// Batches of a corpus, made ahead by worker threads, in an order that depends on (seed, epoch) alone.
//
// A corpus larger than memory must be read nearly in order, so the shuffle has two levels: blocks of 64
// neighbouring posts are drawn at random, 1024 of them form a window, and the posts of a window are shuffled
// among themselves. Up to 65,536 posts that is a full shuffle. Pages of past windows are given back.
class BatchLoader {
 public:
  struct Options {
    std::uint32_t batch_size = 512;
    std::uint64_t seed = 1;
    bool shuffle = true;         // false: the corpus' order
    std::uint32_t workers = 1;   // threads that make batches; 0: the caller of prepare() or next() does
    std::uint32_t prefetch = 8;  // batches that workers make ahead, at most
    bool read_ahead = true;      // windows are read by threads of their own
    std::function<void(PackedBatch&)> transform = nullptr;  // done to each batch by the thread that makes it
  };
  BatchLoader(const Corpus& corpus, const Options& options);
  ~BatchLoader();
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;
  BatchLoader(BatchLoader&&) = delete;
  BatchLoader& operator=(BatchLoader&&) = delete;

  [[nodiscard]] std::uint64_t batches_per_epoch() const;  // the last may be short

  // Begins an epoch at the given batch; batches made ahead for another are dropped. To be called before
  // next(), and as early as one likes: called once more with the same numbers before next(), it keeps what
  // was made meanwhile.
  void start(std::uint64_t epoch, std::uint64_t first_batch = 0);
  // The next batch; false at the end of the epoch. An error in a worker is thrown here.
  bool next(PackedBatch& batch);
  // Without workers: makes the batch that next() will give, if that is not done yet, in the caller's time. It
  // may be another thread than that of next(), but not at the same time. An error is thrown by next().
  void prepare();
  // How long next() had to wait since start() because the batch asked for was not made yet; without workers,
  // how long prepare() and next() waited for a window to be read.
  [[nodiscard]] double seconds_waited() const;

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

// Bytes that a loader holds at most: windows, batches made ahead, and a small corpus' pages.
[[nodiscard]] std::uint64_t loader_memory(const Corpus& corpus, const BatchLoader::Options& options);

}  // namespace tagspace
