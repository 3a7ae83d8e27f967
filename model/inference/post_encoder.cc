#include "model/inference/post_encoder.h"

#include <algorithm>
#include <cmath>

#include "model/kernels/scoring.h"

namespace tagspace {
namespace {

constexpr std::size_t kPostsPerProduct = 1024;

}  // namespace

PostEncoder::PostEncoder(const ModelConfig& config)
    : is_cnn_(config.encoder == EncoderType::cnn),
      dim_(config.dim),
      pooling_(pooling_of(config)),
      shape_{config.dim, config.window, config.filters} {}

void PostEncoder::encode(const EncoderWeights& weights, const PackedBatch& batch, bool as_bag,
                         float* post_vectors, kernels::CpuContext& context) {
  for (std::size_t first = 0; first < batch.posts(); first += kPostsPerPiece) {
    const std::size_t posts = std::min(kPostsPerPiece, batch.posts() - first);
    const std::uint32_t begin = batch.token_offsets[first];
    offsets_.clear();
    for (std::size_t i = 0; i <= posts; ++i) offsets_.push_back(batch.token_offsets[first + i] - begin);
    encode_piece(weights, {posts, offsets_.data(), batch.tokens.data() + begin, pooling_}, as_bag,
                 post_vectors + first * dim_, context);
  }
}

void PostEncoder::encode_piece(const EncoderWeights& weights, const kernels::PackedTokens& tokens,
                               bool as_bag, float* post_vectors, kernels::CpuContext& context) {
  if (as_bag || !is_cnn_) {
    scales_.resize(tokens.posts);
    kernels::bag_forward(tokens, weights.words, dim_, post_vectors, scales_.data(), context);
    return;
  }
  kernels::gather_words(tokens.words, tokens.offsets[tokens.posts], weights.words, dim_, distinct_, context);
  const std::size_t filters = shape_.filters;
  features_.resize(tokens.posts * filters);
  kernels::conv_max_forward(shape_, {tokens.posts, tokens.offsets, distinct_.places.data()},
                            distinct_.vectors.data(), distinct_.groups.rows.size(), weights.convolution,
                            weights.bias, features_.data(), nullptr, context);
  for (std::size_t first = 0; first < tokens.posts; first += kPostsPerProduct) {
    const std::size_t count = std::min(kPostsPerProduct, tokens.posts - first);
    float* const features = features_.data() + first * filters;
    kernels::tanh_of_tanh(features, count * filters, context);
    kernels::products({features, count, filters}, {weights.linear, dim_, filters}, weights.linear_bias,
                      post_vectors + first * dim_, context);
  }
}

void normalize_rows(std::span<float> vectors, std::size_t dim) {
  for (std::size_t begin = 0; begin < vectors.size(); begin += dim) {
    const std::span<float> vector = vectors.subspan(begin, dim);
    float squared_norm = 0;
    for (const float x : vector) squared_norm += x * x;
    if (squared_norm == 0) continue;
    const float factor = 1 / std::sqrt(squared_norm);
    for (float& x : vector) x *= factor;
  }
}

}  // namespace tagspace
