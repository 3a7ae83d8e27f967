// The two text encoders on packed posts: convolution with its maximum over time, and the mean of the word
// vectors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "model/kernels/row_update.h"

namespace tagspace::kernels {

struct CpuContext;  // cpu_context.h

// A token that takes part as a zero vector (cnn) or not at all (bag): left out by dropout.
constexpr std::uint32_t kNoWord = 0xFFFFFFFF;

// What the sum of a post's n word vectors is divided by (bag): n, or its square root, which keeps the length
// of a sum of unrelated vectors the same for short posts and long ones.
enum class Pooling { mean, sqrtn };  // as PoolingType of model.h

struct PackedTokens {
  std::size_t posts = 0;
  const std::uint32_t* offsets = nullptr;  // [posts + 1]
  const std::uint32_t* words = nullptr;    // [tokens] rows of the word vectors given beside, or kNoWord
  Pooling pooling = Pooling::mean;         // bag only
};

// --- The mean of the word vectors (WSABIE)
// --------------------------------------------------------------------
//
// post_vectors[i] = the sum of the vectors of post i's words, divided by their number or its square root;
// zero if there is none. scales[i] = 1 / that divisor (0 if none): the coefficient with which post i's
// gradient goes to each of its words.
void bag_forward_reference(const PackedTokens& tokens, const float* word_vectors, std::size_t dim,
                           float* post_vectors, float* scales);
void bag_forward(const PackedTokens& tokens, const float* word_vectors, std::size_t dim, float* post_vectors,
                 float* scales, CpuContext& context);
// The same of posts [begin, end), in the caller's time.
void bag_forward(const PackedTokens& tokens, const float* word_vectors, std::size_t dim, std::size_t begin,
                 std::size_t end, float* post_vectors, float* scales, const CpuContext& context);

// --- The distinct words of a batch
// --------------------------------------------------------------------------------

struct DistinctWords {
  RowGrouper grouper;
  RowGroups groups;                   // tokens by word
  std::vector<float> vectors;         // [distinct words, dim] their vectors, side by side
  std::vector<std::uint32_t> places;  // [tokens] each token's word as a row of `vectors`, or kNoWord
};
// Of `words` [tokens], rows of `word_vectors` or kNoWord. The arrays may be longer than they need be.
void gather_words(const std::uint32_t* words, std::size_t tokens, const float* word_vectors, std::size_t dim,
                  DistinctWords& distinct, CpuContext& context);

// --- Convolution, maximum over time
// ---------------------------------------------------------------------------
//
// For a post of l tokens x[0 .. l), zero vectors beyond both ends, and filter f:
//
//   c[t, f] = bias[f] + sum over k < window of <weight[f, k], x[t + k - (window - 1) / 2]>     for t = 0 .. l
//   - 1 maximum[f] = max over t of c[t, f],   place[f] = the first t that reaches it
//
// (#TagSpace, figure 1; its tanh comes after the maximum here, which is the same, as tanh increases.) A post
// without tokens is taken as one zero vector. Three facts make it fast: no padding is multiplied; the product
// of a word with the filters does not depend on where the word stands, so each distinct word of a batch is
// multiplied once; and only the place of the maximum has a gradient.
struct ConvShape {
  std::uint32_t dim = 0;
  std::uint32_t window = 0;
  std::uint32_t filters = 0;
};

// `tokens.words` index `word_vectors` [word_count, dim], the batch's distinct words. `weight` [filters,
// window, dim], `bias` [filters], `maximum` and `place` [posts, filters]. The fast one takes a null `place`
// from who only encodes.
void conv_max_forward_reference(const ConvShape& shape, const PackedTokens& tokens, const float* word_vectors,
                                const float* weight, const float* bias, float* maximum, std::uint32_t* place);
void conv_max_forward(const ConvShape& shape, const PackedTokens& tokens, const float* word_vectors,
                      std::size_t word_count, const float* weight, const float* bias, float* maximum,
                      std::uint32_t* place, CpuContext& context);

// With `gradient` [posts, filters] of the maxima and the places from the forward pass: the gradients of
// weight [filters, window, dim], bias [filters] and of each token's vector [tokens, dim], all overwritten.
// Per filter and post one window is touched, so the cost is posts * filters * window * dim whatever the
// posts' lengths.
void conv_max_backward_reference(const ConvShape& shape, const PackedTokens& tokens,
                                 const float* word_vectors, const float* weight, const float* gradient,
                                 const std::uint32_t* place, float* weight_gradient, float* bias_gradient,
                                 float* token_gradient);
void conv_max_backward(const ConvShape& shape, const PackedTokens& tokens, const float* word_vectors,
                       const float* weight, const float* gradient, const std::uint32_t* place,
                       float* weight_gradient, float* bias_gradient, float* token_gradient,
                       CpuContext& context);

// --- Features
// -------------------------------------------------------------------------------------------------------------

// Dropout of `columns` values of each post: bit j of byte kept[post, i] tells whether value 8 i + j stays;
// what stays is multiplied by `scale`. `kept` [posts, bytes_of(columns)].
//
// Value 8 i + j of post p is left out if the j-th 16 bits of random_words(seed, feature_dropout, step, p, i)
// are a number below `limit` (philox.h).
constexpr std::size_t bytes_of(std::size_t columns) { return (columns + 7) / 8; }
struct Dropout {
  std::uint64_t seed = 1;
  std::uint64_t step = 0;
  std::uint32_t limit = 0;  // of 65536; 0: everything stays
  float scale = 1;
};
// Draws for posts [begin, end); `kept` is that of all posts.
void draw_kept_reference(const Dropout& dropout, std::size_t begin, std::size_t end, std::size_t columns,
                         std::uint8_t* kept);
void draw_kept(const Dropout& dropout, std::size_t begin, std::size_t end, std::size_t columns,
               std::uint8_t* kept, const CpuContext& context);

// The tokens [begin, end) of a batch, with some left out: words[t] is kNoWord if 16 bits of a random number
// are below the limit, token t's being number t mod 8 of random_words(seed, word_dropout, step, t / 8, 0);
// else from[t].
void drop_words_reference(const Dropout& dropout, const std::uint32_t* from, std::size_t begin,
                          std::size_t end, std::uint32_t* words);
void drop_words(const Dropout& dropout, const std::uint32_t* from, std::size_t begin, std::size_t end,
                std::uint32_t* words, const CpuContext& context);

// One hashtag of each of the posts [begin, end), which all have one: positives[i] is drawn uniformly from
// hashtags[offsets[i] .. offsets[i + 1]) by random_words(seed, positives, step, i, 0).
void draw_positives_reference(std::uint64_t seed, std::uint64_t step, const std::uint32_t* hashtags,
                              const std::uint32_t* offsets, std::size_t begin, std::size_t end,
                              std::uint32_t* positives);
void draw_positives(std::uint64_t seed, std::uint64_t step, const std::uint32_t* hashtags,
                    const std::uint32_t* offsets, std::size_t begin, std::size_t end,
                    std::uint32_t* positives, const CpuContext& context);

// values[i] = kept ? scale * values[i] : 0, for the values of one post, whose bits are `kept`.
void drop_values_reference(const Dropout& dropout, const std::uint8_t* kept, std::size_t columns,
                           float* values);
void drop_values(const Dropout& dropout, const std::uint8_t* kept, std::size_t columns, float* values,
                 const CpuContext& context);

// The features of one post: its maxima become once = tanh(maximum), and features[i] = kept ? scale *
// tanh(once[i]) : 0.
void features_forward_reference(const Dropout& dropout, const std::uint8_t* kept, std::size_t columns,
                                float* maxima, float* features);
void features_forward(const Dropout& dropout, const std::uint8_t* kept, std::size_t columns, float* maxima,
                      float* features, const CpuContext& context);

// The way back:
//
//   d feature / d maximum = (1 - feature^2) (1 - once^2)
//
// before dropout; gradient[i] = kept ? scale * gradient[i] * that : 0.
void features_backward_reference(const Dropout& dropout, const std::uint8_t* kept, std::size_t columns,
                                 const float* once, const float* features, float* gradient);
void features_backward(const Dropout& dropout, const std::uint8_t* kept, std::size_t columns,
                       const float* once, const float* features, float* gradient, const CpuContext& context);

}  // namespace tagspace::kernels
