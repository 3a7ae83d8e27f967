// Posts to vectors, on the CPU: what predicts, evaluates, and measures a model while it is trained.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "data_pipeline/packed_batch.h"
#include "model/kernels/cpu_context.h"
#include "model/kernels/encoder.h"
#include "model/kernels/row_update.h"
#include "model/model.h"

namespace tagspace {

// The learnt arrays that an encoder reads, wherever they are. The last four are of a cnn only.
struct EncoderWeights {
  const float* words = nullptr;        // [vocab_size, dim]
  const float* convolution = nullptr;  // [filters, window, dim]
  const float* bias = nullptr;         // [filters]
  const float* linear = nullptr;       // [dim, filters]
  const float* linear_bias = nullptr;  // [dim]
};

[[nodiscard]] inline kernels::Pooling pooling_of(const ModelConfig& config) {
  return static_cast<kernels::Pooling>(config.pooling);
}

class PostEncoder {
 public:
  // Posts that are encoded together, at most. The more of them share the product of a word with the filters,
  // the less it costs each; but a block's products must fit into the processor's last cache, and the features
  // of all of them into memory.
  static constexpr std::size_t kPostsPerPiece = 8192;

  // Takes of `config` what decides the encoder's shape.
  explicit PostEncoder(const ModelConfig& config);

  // The vectors of the batch's posts, [posts, dim], of any length: the score is not taken into account. The
  // bag, or with `as_bag` also a cnn: the mean of the word vectors, or as config.pooling says. The cnn:
  // linear layer of tanh(tanh(m)), where m is a filter's maximum over the post. A post's vector does not
  // depend on the posts around it, nor on the number of threads.
  void encode(const EncoderWeights& weights, const PackedBatch& batch, bool as_bag, float* post_vectors,
              kernels::CpuContext& context);

 private:
  // At most kPostsPerPiece posts of a batch.
  void encode_piece(const EncoderWeights& weights, const kernels::PackedTokens& tokens, bool as_bag,
                    float* post_vectors, kernels::CpuContext& context);

  bool is_cnn_;
  std::size_t dim_;
  kernels::Pooling pooling_;
  kernels::ConvShape shape_;
  // Kept from call to call, so that nothing is allocated anew.
  std::vector<std::uint32_t> offsets_;
  std::vector<float> scales_;  // [posts]
  kernels::DistinctWords distinct_;
  std::vector<float> features_;  // [posts, filters]
};

// Each row of `vectors` [rows, dim] to length 1, as the cosine score has it; a zero vector stays.
void normalize_rows(std::span<float> vectors, std::size_t dim);

}  // namespace tagspace
