#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <exception>
#include <future>
#include <map>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <utility>

#include "base/random.h"
#include "data_pipeline/corpus.h"

namespace tagspace {
namespace {

constexpr std::uint64_t kBlockPosts = 64;
constexpr std::uint64_t kWindowBlocks = 1024;
// A page touched brings its neighbours with it, so that the blocks of a window would soon hold far more than
// they need. A corpus that is small may stay: to touch its pages anew in every epoch costs half of the
// reading.
constexpr std::uint64_t kBlocksHeld = 16;
constexpr std::uint64_t kSmallCorpusBytes = std::uint64_t{32} << 20U;
constexpr std::size_t kWindowsHeld = 3;  // the last, the present, the next

bool is_small(const Corpus& corpus) { return corpus.bytes() <= kSmallCorpusBytes; }

// The posts of a window in the order that they are given out in. Of a small corpus, whose pages stay, their
// numbers; of a larger one the posts themselves, copied out of it, and a batch is a piece of them.
struct Window {
  std::vector<std::uint32_t> numbers;
  PackedBatch posts;
};

}  // namespace

struct BatchLoader::Implementation {
  using WindowFuture = std::shared_future<std::shared_ptr<const Window>>;

  Implementation(const Corpus& from, const Options& o)
      : corpus(from),
        options(o),
        blocks((from.posts() + kBlockPosts - 1) / kBlockPosts),
        batches((from.posts() + o.batch_size - 1) / std::max(o.batch_size, 1U)) {
    if (o.batch_size == 0 || o.prefetch == 0) {
      throw std::logic_error("BatchLoader: batch_size and prefetch must be positive");
    }
  }
  ~Implementation() { stop(); }
  Implementation(const Implementation&) = delete;
  Implementation& operator=(const Implementation&) = delete;
  Implementation(Implementation&&) = delete;
  Implementation& operator=(Implementation&&) = delete;

  void stop() {
    {
      const std::scoped_lock lock(mutex);
      stopping = true;
    }
    changed.notify_all();
    workers.clear();  // joins
    windows.clear();  // waits for those being read
  }

  void start(std::uint64_t new_epoch, std::uint64_t first_batch) {
    first_batch = std::min(first_batch, batches);
    if (started && epoch == new_epoch && next_to_give == first_batch && first_given == first_batch) return;
    stop();
    epoch = new_epoch;
    block_order.resize(static_cast<std::size_t>(blocks));
    std::iota(block_order.begin(), block_order.end(), std::uint64_t{0});
    if (options.shuffle) Random(options.seed, epoch, 0).shuffle(std::span(block_order));
    // The corpus' last block may be short; windows after it begin that much earlier.
    const auto last = std::find(block_order.begin(), block_order.end(), blocks - 1);
    short_block_place = static_cast<std::uint64_t>(last - block_order.begin());
    ready.clear();
    is_made = false;
    error = nullptr;
    next_to_make = next_to_give = first_given = first_batch;
    waited = {};
    stopping = false;
    started = true;
    for (std::uint32_t i = 0; i < options.workers; ++i) {
      workers.emplace_back([this] { work(); });
    }
    if (options.read_ahead && first_batch < batches) (void)ask_for_window(window_with(first_batch));
  }

  bool next(PackedBatch& batch) {
    if (!started) throw std::logic_error("BatchLoader::next() before start()");
    if (options.workers == 0) return give_made(batch);
    std::unique_lock lock(mutex);
    if (next_to_give == batches) return false;
    const auto answered = [&] { return error || ready.contains(next_to_give); };
    if (!answered()) {
      const auto begin = std::chrono::steady_clock::now();
      changed.wait(lock, answered);
      waited += std::chrono::steady_clock::now() - begin;
    }
    if (error) std::rethrow_exception(error);
    auto given = ready.extract(next_to_give);
    ++next_to_give;
    std::swap(batch, given.mapped());
    spare.push_back(std::move(given.mapped()));
    const bool low = ready.size() <= options.prefetch / 2;
    lock.unlock();
    // A worker that is woken for each batch interrupts the step each time; so it is for some at once.
    if (low) changed.notify_all();
    return true;
  }

  // Without workers.
  bool give_made(PackedBatch& batch) {
    if (next_to_give == batches) return false;
    prepare();
    if (error) std::rethrow_exception(error);
    is_made = false;
    ++next_to_give;
    std::swap(batch, made);
    return true;
  }

  void prepare() {
    if (options.workers > 0 || is_made || error || next_to_give == batches) return;
    try {
      make_batch(next_to_give, made);
      is_made = true;
    } catch (...) {
      error = std::current_exception();
    }
  }

  void work() {
    try {
      for (;;) {
        std::uint64_t index = 0;
        PackedBatch batch;
        {
          std::unique_lock lock(mutex);
          changed.wait(lock, [&] {
            return stopping || error || next_to_make == batches ||
                   next_to_make < next_to_give + options.prefetch;
          });
          if (stopping || error || next_to_make == batches) return;
          index = next_to_make++;
          if (!spare.empty()) {
            batch = std::move(spare.back());
            spare.pop_back();
          }
        }
        make_batch(index, batch);
        {
          const std::scoped_lock lock(mutex);
          ready.emplace(index, std::move(batch));
        }
        changed.notify_all();
      }
    } catch (...) {
      {
        const std::scoped_lock lock(mutex);
        if (!error) error = std::current_exception();
      }
      changed.notify_all();
    }
  }

  // The first window that a batch may need.
  [[nodiscard]] std::uint64_t window_with(std::uint64_t batch) const {
    return batch * options.batch_size / (kBlockPosts * kWindowBlocks);
  }

  // The epoch's place of the first post of a window.
  [[nodiscard]] std::uint64_t window_begin(std::uint64_t window) const {
    const std::uint64_t place = std::min(window * kWindowBlocks, blocks);
    const std::uint64_t missing = blocks * kBlockPosts - corpus.posts();
    return place * kBlockPosts - (place > short_block_place ? missing : 0);
  }

  void make_batch(std::uint64_t index, PackedBatch& batch) {
    const std::uint64_t begin = index * options.batch_size;
    const std::uint64_t end = std::min(begin + options.batch_size, corpus.posts());
    batch.clear();
    reserve(batch, end - begin);
    std::uint64_t place = begin;
    for (std::uint64_t number = window_with(index); place < end; ++number) {
      const std::uint64_t first = window_begin(number);
      const std::uint64_t last = std::min(end, window_begin(number + 1));
      if (last <= place) continue;  // after the short block, windows begin a little earlier
      const auto asked = std::chrono::steady_clock::now();
      const std::shared_ptr<const Window> window = ask_for_window(number).get();
      if (options.workers == 0) waited += std::chrono::steady_clock::now() - asked;
      if (is_small(corpus)) {
        append_numbered(batch, std::span(window->numbers).subspan(place - first, last - place));
      } else {
        append_posts(batch, window->posts, place - first, last - first);
      }
      place = last;
    }
    if (options.transform) options.transform(batch);
  }

  // Room for so many posts of the corpus, and a little more, so that arrays seldom move.
  void reserve(PackedBatch& batch, std::uint64_t posts) const {
    const double share = 1.02 * static_cast<double>(posts) / static_cast<double>(corpus.posts());
    const auto part = [&](std::uint64_t all) {
      return static_cast<std::size_t>(std::ceil(share * static_cast<double>(all)));
    };
    batch.tokens.reserve(part(corpus.tokens()));
    batch.hashtags.reserve(part(corpus.hashtags()));
    batch.token_offsets.reserve(posts + 1);
    batch.hashtag_offsets.reserve(posts + 1);
  }

  // Posts [begin, end) of `from`.
  static void append_posts(PackedBatch& batch, const PackedBatch& from, std::size_t begin, std::size_t end) {
    append_ids<std::uint32_t>(from.tokens, from.token_offsets, begin, end, batch.tokens, batch.token_offsets);
    append_ids<std::uint32_t>(from.hashtags, from.hashtag_offsets, begin, end, batch.hashtags,
                              batch.hashtag_offsets);
  }

  // Posts of the corpus. They are anywhere in memory: all are asked for before the first is waited for.
  void append_numbered(PackedBatch& batch, std::span<const std::uint32_t> numbers) const {
    const std::size_t first = batch.posts();
    batch.token_offsets.resize(first + numbers.size() + 1);
    batch.hashtag_offsets.resize(first + numbers.size() + 1);
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      const auto tokens = corpus.tokens(numbers[i]);
      const auto hashtags = corpus.hashtags(numbers[i]);
      __builtin_prefetch(tokens.data());
      __builtin_prefetch(hashtags.data());
      const auto after = [](std::uint32_t offset, std::size_t count) {
        return offset + static_cast<std::uint32_t>(count);
      };
      batch.token_offsets[first + i + 1] = after(batch.token_offsets[first + i], tokens.size());
      batch.hashtag_offsets[first + i + 1] = after(batch.hashtag_offsets[first + i], hashtags.size());
    }
    batch.tokens.resize(batch.token_offsets.back());
    batch.hashtags.resize(batch.hashtag_offsets.back());
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      const auto tokens = corpus.tokens(numbers[i]);
      const auto hashtags = corpus.hashtags(numbers[i]);
      std::copy(tokens.begin(), tokens.end(), batch.tokens.begin() + batch.token_offsets[first + i]);
      std::copy(hashtags.begin(), hashtags.end(), batch.hashtags.begin() + batch.hashtag_offsets[first + i]);
    }
  }

  // The ids of posts in another order.
  static void reorder(std::span<const std::uint32_t> order, const std::vector<std::uint32_t>& ids,
                      const std::vector<std::uint32_t>& offsets, std::vector<std::uint32_t>& to,
                      std::vector<std::uint32_t>& to_offsets) {
    to.resize(ids.size());
    to_offsets.resize(offsets.size());
    // Posts that are anywhere in memory are asked for before they are waited for.
    constexpr std::size_t kAhead = 16;
    auto out = to.begin();
    for (std::size_t i = 0; i < order.size(); ++i) {
      if (i + kAhead < order.size()) __builtin_prefetch(ids.data() + offsets[order[i + kAhead]]);
      out = std::copy(ids.begin() + offsets[order[i]], ids.begin() + offsets[order[i] + 1], out);
      to_offsets[i + 1] = static_cast<std::uint32_t>(out - to.begin());
    }
  }

  // The window, and the next one is read meanwhile: a window takes far longer than the batches made ahead
  // last. Those before the one that the oldest unfinished batch can need go: workers are at most `workers`
  // batches apart, so the last few are enough.
  WindowFuture ask_for_window(std::uint64_t number) {
    const std::scoped_lock lock(window_mutex);
    for (const std::uint64_t each : {number, number + 1}) {
      if (each * kWindowBlocks >= blocks || windows.contains(each)) continue;
      // Deferred: in the time of whoever wants it first.
      const auto when = options.read_ahead ? std::launch::async : std::launch::deferred;
      windows.emplace(each, std::async(when, [this, each] {
                              return std::make_shared<const Window>(read_window(each));
                            }).share());
    }
    WindowFuture wanted = windows.at(number);
    while (windows.size() > kWindowsHeld) windows.erase(windows.begin());
    return wanted;
  }

  Window read_window(std::uint64_t number) {
    const std::uint64_t first = number * kWindowBlocks;
    const std::uint64_t last = std::min(first + kWindowBlocks, blocks);
    // Calls visit(begin, end) for the posts of each block.
    const auto for_blocks = [&](const auto& visit) {
      for (std::uint64_t place = first; place < last; ++place) {
        const std::uint64_t begin = block_order[place] * kBlockPosts;
        visit(begin, std::min(begin + kBlockPosts, corpus.posts()));
        if (!is_small(corpus) && (place + 1) % kBlocksHeld == 0) corpus.release_pages();
      }
    };
    const auto shuffle = [&](std::vector<std::uint32_t>& items) {
      if (options.shuffle) Random(options.seed, epoch, number + 1).shuffle(std::span(items));
    };
    Window window;
    if (is_small(corpus)) {
      for_blocks([&](std::uint64_t begin, std::uint64_t end) {
        for (std::uint64_t post = begin; post < end; ++post)
          window.numbers.push_back(static_cast<std::uint32_t>(post));
      });
      shuffle(window.numbers);
      return window;
    }
    PackedBatch in_order;
    reserve(in_order, (last - first) * kBlockPosts);
    for_blocks([&](std::uint64_t begin, std::uint64_t end) { corpus.append_to(in_order, begin, end); });
    corpus.release_pages();
    std::vector<std::uint32_t> order(in_order.posts());
    std::iota(order.begin(), order.end(), 0U);
    shuffle(order);
    reorder(order, in_order.tokens, in_order.token_offsets, window.posts.tokens, window.posts.token_offsets);
    reorder(order, in_order.hashtags, in_order.hashtag_offsets, window.posts.hashtags,
            window.posts.hashtag_offsets);
    return window;
  }

  const Corpus& corpus;
  const Options options;
  const std::uint64_t blocks;
  const std::uint64_t batches;

  // Set by start(), while no worker runs.
  bool started = false;
  std::uint64_t epoch = 0;
  std::vector<std::uint64_t> block_order;
  std::uint64_t short_block_place = 0;

  std::mutex window_mutex;
  std::map<std::uint64_t, WindowFuture> windows;

  std::mutex mutex;  // guards what follows, but `workers`
  std::condition_variable changed;
  std::map<std::uint64_t, PackedBatch> ready;
  std::vector<PackedBatch> spare;  // given back by the caller of next(): their memory is used again
  std::uint64_t next_to_make = 0;
  std::uint64_t next_to_give = 0;
  // Without workers, the batch to be given next.
  PackedBatch made;
  bool is_made = false;
  std::uint64_t first_given = 0;  // where start() began
  bool stopping = false;
  std::exception_ptr error;

  std::chrono::duration<double> waited{};  // of the threads that call next() and prepare()

  std::vector<std::jthread> workers;
};

BatchLoader::BatchLoader(const Corpus& corpus, const Options& options)
    : implementation_(std::make_unique<Implementation>(corpus, options)) {}
BatchLoader::~BatchLoader() = default;

void BatchLoader::prepare() { implementation_->prepare(); }

std::uint64_t BatchLoader::batches_per_epoch() const { return implementation_->batches; }

void BatchLoader::start(std::uint64_t epoch, std::uint64_t first_batch) {
  implementation_->start(epoch, first_batch);
}

bool BatchLoader::next(PackedBatch& batch) { return implementation_->next(batch); }

double BatchLoader::seconds_waited() const { return implementation_->waited.count(); }

std::uint64_t loader_memory(const Corpus& corpus, const BatchLoader::Options& options) {
  const std::uint64_t posts = corpus.posts();
  if (posts == 0) return 0;
  const bool small = is_small(corpus);
  // And one more while it is shuffled.
  constexpr std::uint64_t kWindowPosts = kWindowBlocks * kBlockPosts;
  const std::uint64_t held = std::min(posts, kWindowsHeld * kWindowPosts) + std::min(posts, kWindowPosts);
  // One batch more with each worker, and one with the step.
  const std::uint64_t ahead = options.workers == 0 ? 1 : options.prefetch + options.workers;
  const std::uint64_t made = (ahead + 1) * std::uint64_t{options.batch_size};
  // Without the header, 4 bytes an id and 16 a post: here two offsets of 4.
  const double ids_per_post = static_cast<double>(corpus.bytes() - 16 * posts) / static_cast<double>(posts);
  const std::uint64_t copied = (small ? 0 : held) + std::min(made, posts);
  return (small ? corpus.bytes() + held * sizeof(std::uint32_t) : 0) +
         static_cast<std::uint64_t>(static_cast<double>(copied) * (ids_per_post + 8));
}

}  // namespace tagspace
