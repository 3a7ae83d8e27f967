// Posts straight from a reader to packed batches, for text that is read once: predicting and evaluating.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "data_pipeline/corpus.h"
#include "data_pipeline/packed_batch.h"
#include "data_pipeline/posts.h"
#include "data_pipeline/tokenizer.h"

namespace tagspace {

class PostBatcher {
 public:
  enum class Keep {
    all,            // one post for every line, in order
    with_hashtags,  // only posts with a hashtag of the table, as evaluation takes them
  };

  // `threads` share the parsing and tokenizing, 0: one for each core. Reader, tokenizer and vocabulary must
  // outlive the batcher.
  PostBatcher(PostReader& reader, const Tokenizer& tokenizer, const HashtagVocabulary& hashtags,
              std::uint32_t threads, Keep keep = Keep::all);

  // The next posts, 1 to `max_posts`; false at the end. Waits for the first line, and takes of the others
  // those that are there, so that a line typed is answered at once. `posts`, if given, gets the same posts as
  // text.
  bool next(std::size_t max_posts, PackedBatch& batch, std::vector<Post>* posts = nullptr);

 private:
  std::size_t read_lines(std::size_t most);

  PostReader& reader_;
  const Tokenizer& tokenizer_;
  const HashtagVocabulary& hashtags_;
  std::uint32_t threads_;
  Keep keep_;
  std::vector<std::string> lines_;
};

// Appends the post's tokens and the rows of its hashtags that the table has.
void append_encoded(PackedBatch& batch, const Post& post, const Tokenizer& tokenizer,
                    const HashtagVocabulary& hashtags);

}  // namespace tagspace
