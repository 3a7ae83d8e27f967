#include "data_pipeline/post_batcher.h"

#include <algorithm>
#include <exception>
#include <iterator>
#include <utility>

#include "data_pipeline/parallel.h"

namespace tagspace {
namespace {

// Below this a thread costs more than it saves.
constexpr std::size_t kLinesPerThread = 64;

void append_batch(PackedBatch& to, const PackedBatch& from) {
  const auto tokens = static_cast<std::uint32_t>(to.tokens.size());
  const auto hashtags = static_cast<std::uint32_t>(to.hashtags.size());
  to.tokens.insert(to.tokens.end(), from.tokens.begin(), from.tokens.end());
  to.hashtags.insert(to.hashtags.end(), from.hashtags.begin(), from.hashtags.end());
  for (std::size_t i = 1; i <= from.posts(); ++i) {
    to.token_offsets.push_back(tokens + from.token_offsets[i]);
    to.hashtag_offsets.push_back(hashtags + from.hashtag_offsets[i]);
  }
}

}  // namespace

void append_encoded(PackedBatch& batch, const Post& post, const Tokenizer& tokenizer,
                    const HashtagVocabulary& hashtags) {
  tokenizer.encode(post.text, batch.tokens);
  const auto begin = static_cast<std::ptrdiff_t>(batch.hashtags.size());
  for (const std::string& hashtag : post.hashtags) {
    if (const auto row = hashtags.find(hashtag)) batch.hashtags.push_back(*row);
  }
  std::sort(batch.hashtags.begin() + begin, batch.hashtags.end());
  batch.end_post();
}

PostBatcher::PostBatcher(PostReader& reader, const Tokenizer& tokenizer, const HashtagVocabulary& hashtags,
                         std::uint32_t threads, Keep keep)
    : reader_(reader),
      tokenizer_(tokenizer),
      hashtags_(hashtags),
      threads_(resolve_threads(threads)),
      keep_(keep) {}

std::size_t PostBatcher::read_lines(std::size_t most) {
  std::size_t count = 0;
  while (count < most && (count == 0 || reader_.line_ready())) {
    if (lines_.size() == count) lines_.emplace_back();
    if (!reader_.next_line(lines_[count])) break;
    ++count;
  }
  return count;
}

bool PostBatcher::next(std::size_t max_posts, PackedBatch& batch, std::vector<Post>* posts) {
  struct Part {
    PackedBatch batch;
    std::vector<Post> posts;
    std::exception_ptr error;
  };
  batch.clear();
  if (posts != nullptr) posts->clear();
  while (batch.posts() < max_posts && (batch.posts() == 0 || reader_.line_ready())) {
    const std::size_t count = read_lines(max_posts - batch.posts());
    if (count == 0) break;
    const std::uint64_t first_number = reader_.report().lines - count + 1;
    const std::size_t threads =
        std::clamp<std::size_t>((count + kLinesPerThread - 1) / kLinesPerThread, 1, threads_);
    std::vector<Part> parts(threads);
    run_threads(static_cast<std::uint32_t>(threads), [&](std::uint32_t thread) {
      Part& part = parts[thread];
      try {
        for (std::size_t i = count * thread / threads; i < count * (thread + 1) / threads; ++i) {
          Post post = reader_.parse_line(lines_[i], first_number + i);
          if (keep_ == Keep::with_hashtags) {
            const bool kept =
                std::any_of(post.hashtags.begin(), post.hashtags.end(),
                            [&](const std::string& hashtag) { return hashtags_.find(hashtag).has_value(); });
            if (!kept) continue;
          }
          append_encoded(part.batch, post, tokenizer_, hashtags_);
          if (posts != nullptr) part.posts.push_back(std::move(post));
        }
      } catch (...) {
        part.error = std::current_exception();
      }
    });
    for (Part& part : parts) {
      if (part.error) std::rethrow_exception(part.error);  // the first line's, whatever the threads
      append_batch(batch, part.batch);
      if (posts != nullptr) std::move(part.posts.begin(), part.posts.end(), std::back_inserter(*posts));
    }
  }
  return batch.posts() > 0;
}

}  // namespace tagspace
