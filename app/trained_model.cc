#include "app/trained_model.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "data_pipeline/parallel.h"

namespace tagspace {

void TrainedModel::encode(const PackedBatch& of_tokens, float* post_vectors) {
  const PackedBatch expanded = features ? features->expanded(of_tokens) : PackedBatch();
  const PackedBatch& batch = features ? expanded : of_tokens;
  if (on_device) {
    on_device(batch, post_vectors);
  } else {
    model->encode(batch, as_bag, post_vectors, *context);
  }
}

std::vector<float> TrainedModel::words_as_posts() {
  constexpr std::uint32_t kAtOnce = 4096;
  const std::uint32_t words = tokenizer->vocab_size();
  std::vector<float> vectors(words * model->dim());
  PackedBatch batch;
  for (std::uint32_t begin = 0; begin < words; begin += kAtOnce) {
    batch.clear();
    for (std::uint32_t word = begin; word < std::min(words, begin + kAtOnce); ++word) {
      batch.tokens.push_back(word);
      batch.end_post();
    }
    encode(batch, vectors.data() + begin * model->dim());
  }
  return vectors;
}

std::vector<float> TrainedModel::word_vectors() {
  return features ? words_as_posts() : model->word_vectors();
}

template <typename Body>
void TrainedModel::for_scores(const PackedBatch& batch, const Body& body) {
  constexpr std::size_t kFloats = std::size_t{1} << 24U;  // scores that are there at once, at most
  const std::size_t count = hashtags.size();
  std::vector<float> vectors;
  if (model) {
    vectors.resize(batch.posts() * model->dim());
    encode(batch, vectors.data());
  }
  const std::size_t at_once = std::clamp<std::size_t>(kFloats / count, 1, batch.posts());
  std::vector<float> scores(at_once * count);
  for (std::size_t first = 0; first < batch.posts(); first += at_once) {
    const std::size_t posts = std::min(at_once, batch.posts() - first);
    if (model) {
      const std::size_t dim = model->dim();
      kernels::products({vectors.data() + first * dim, posts, dim},
                        {model->hashtag_vectors().data(), count, dim}, nullptr, scores.data(), *context);
    } else {
      std::fill(scores.begin(), scores.end(), 0.0F);
    }
    context->pool.run(posts, [&](std::size_t i, std::size_t) {
      const std::size_t post = first + i;
      const std::span<float> of_post(scores.data() + i * count, count);
      const std::size_t begin = batch.token_offsets[post];
      lexical->mix_into(std::span(batch.tokens).subspan(begin, batch.token_offsets[post + 1] - begin),
                        of_post);
      body(post, of_post);
    });
  }
}

std::vector<Ranked> TrainedModel::best_hashtags(const PackedBatch& batch, std::size_t k) {
  if (!lexical) {
    std::vector<float> vectors(batch.posts() * model->dim());
    encode(batch, vectors.data());
    return top_k(vectors, model->hashtag_vectors(), model->dim(), k, *context);
  }
  k = std::min<std::size_t>(k, hashtags.size());
  std::vector<Ranked> best(batch.posts() * k);
  for_scores(batch, [&](std::size_t post, std::span<const float> scores) {
    const std::vector<Ranked> of_post = top_k_of(scores, k);
    std::copy(of_post.begin(), of_post.end(), best.begin() + static_cast<std::ptrdiff_t>(post * k));
  });
  return best;
}

BatchRanks TrainedModel::rank(const PackedBatch& batch, std::vector<Ranked>* best, std::size_t k) {
  if (!lexical) {
    std::vector<float> vectors(batch.posts() * model->dim());
    encode(batch, vectors.data());
    if (best != nullptr) *best = top_k(vectors, model->hashtag_vectors(), model->dim(), k, *context);
    return rank_hashtags(batch, vectors, model->hashtag_vectors(), model->dim(), *context);
  }
  k = std::clamp<std::size_t>(k, 1, hashtags.size());
  if (best != nullptr) best->resize(batch.posts() * k);
  BatchRanks result;
  result.ranks.resize(batch.hashtags.size());
  result.first.resize(batch.posts());
  for_scores(batch, [&](std::size_t post, std::span<const float> scores) {
    const std::vector<std::uint32_t> ranks = ranks_of(scores, of_post(batch, batch.hashtags, post));
    std::copy(ranks.begin(), ranks.end(), result.ranks.begin() + batch.hashtag_offsets[post]);
    const std::vector<Ranked> first = top_k_of(scores, k);
    result.first[post] = first.front().id;
    if (best != nullptr)
      std::copy(first.begin(), first.end(), best->begin() + static_cast<std::ptrdiff_t>(post * k));
  });
  return result;
}

BatchRanks TrainedModel::rank_by_vectors(const PackedBatch& batch) {
  std::vector<float> vectors(batch.posts() * model->dim());
  encode(batch, vectors.data());
  return rank_hashtags(batch, vectors, model->hashtag_vectors(), model->dim(), *context);
}

TrainedModel load_trained_model(const std::filesystem::path& run, std::uint32_t threads,
                                const std::string& device, TrainedModel::Parts parts) {
  RunFolder folder(run);
  const bool has_vectors = folder.experiment().has_vectors();
  if (!has_vectors && parts == TrainedModel::Parts::vectors) {
    throw Error("the run '" + run.string() +
                "' has no vectors: its lexical.mixture is \"alone\"; allowed here is \"learnt\"");
  }
  if (has_vectors && !path_exists(folder.best())) {
    throw Error("the run '" + run.string() +
                "' has no best.safetensors: it is written after the first epoch of training");
  }
  auto tokenizer = folder.load_tokenizer();
  HashtagVocabulary hashtags = folder.load_hashtags();
  const std::uint32_t all_threads = resolve_threads(threads);
  std::optional<PostFeatures> features;
  std::unique_ptr<InferenceModel> model;
  bool as_bag = false;
  EncodePosts on_device;
  if (has_vectors) {
    features = folder.load_features(*tokenizer);
    const ModelConfig config = model_config(folder.experiment(), *tokenizer, features, hashtags, all_threads);
    model = std::make_unique<InferenceModel>(folder.best(), config);
    const auto state = nlohmann::json::parse(model->state(), nullptr, false);
    if (!state.is_object() || !state.contains("as_bag") || !state["as_bag"].is_boolean()) {
      throw Error("'" + folder.best().string() +
                  "' is no checkpoint of a training: its state does not say \"as_bag\"");
    }
    as_bag = state["as_bag"].get<bool>();
    if (device != "cpu") on_device = encoder_on_device(device, folder.best(), config, as_bag);
  }
  std::unique_ptr<LexicalModel> lexical;
  if (folder.experiment().lexical.type != LexicalType::none && parts == TrainedModel::Parts::all) {
    if (!path_exists(folder.lexical())) {
      throw Error(
          "the run '" + run.string() +
          "' has no lexical.safetensors yet: it is written at the end of training; go on with: tagspace "
          "train --resume --output " +
          run.string());
    }
    lexical = std::make_unique<LexicalModel>(folder.lexical(), token_texts(*tokenizer), hashtags.size());
  }
  return {std::move(folder),    std::move(tokenizer),
          std::move(features),  std::move(hashtags),
          std::move(model),     as_bag,
          all_threads,          std::make_unique<kernels::CpuContext>(all_threads),
          std::move(on_device), std::move(lexical)};
}

}  // namespace tagspace
