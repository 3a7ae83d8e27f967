#include "model/inference/inference_model.h"

namespace tagspace {

InferenceModel::InferenceModel(const std::filesystem::path& checkpoint, const ModelConfig& config)
    : config_(config), file_(checkpoint), encoder_(config) {
  const std::uint64_t dim = config.dim;
  const std::uint64_t filters = config.filters;
  weights_.words = file_.get("words", {config.vocab_size, dim}).data();
  hashtags_ = file_.get("hashtags", {config.hashtags, dim});
  if (config.encoder == EncoderType::cnn) {
    weights_.convolution = file_.get("convolution.weight", {filters, config.window, dim}).data();
    weights_.bias = file_.get("convolution.bias", {filters}).data();
    weights_.linear = file_.get("linear.weight", {dim, filters}).data();
    weights_.linear_bias = file_.get("linear.bias", {dim}).data();
  }
  if (config.score == ScoreType::cosine) {
    normalized_hashtags_.assign(hashtags_.begin(), hashtags_.end());
    normalize_rows(normalized_hashtags_, config.dim);
    hashtags_ = normalized_hashtags_;
  }
}

void InferenceModel::encode(const PackedBatch& batch, bool as_bag, float* post_vectors,
                            kernels::CpuContext& context) {
  encoder_.encode(weights_, batch, as_bag, post_vectors, context);
  if (config_.score == ScoreType::cosine) {
    normalize_rows({post_vectors, batch.posts() * config_.dim}, config_.dim);
  }
}

std::vector<float> InferenceModel::word_vectors() const {
  std::vector<float> vectors(weights_.words, weights_.words + std::size_t{config_.vocab_size} * config_.dim);
  if (config_.score == ScoreType::cosine) normalize_rows(vectors, config_.dim);
  return vectors;
}

}  // namespace tagspace
