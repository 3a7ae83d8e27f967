#include "app/trained_model.h"

#include <utility>

#include "base/error.h"
#include "data_pipeline/parallel.h"

namespace tagspace {

ModelConfig model_config(const Experiment& experiment, const Tokenizer& tokenizer,
                         const HashtagVocabulary& hashtags, std::uint32_t threads) {
  ModelConfig config = experiment.model;
  config.vocab_size = tokenizer.vocab_size();
  config.hashtags = hashtags.size();
  config.threads = threads;
  return config;
}

std::span<const std::uint32_t> own_hashtags(const PackedBatch& batch, std::size_t post) {
  const std::size_t begin = batch.hashtag_offsets[post];
  return std::span(batch.hashtags).subspan(begin, batch.hashtag_offsets[post + 1] - begin);
}

HashtagScorer::HashtagScorer(const Model& model, bool as_bag, std::uint32_t threads)
    : model_(&model), as_bag_(as_bag), threads_(threads), table_(model.hashtag_vectors()) {}

void HashtagScorer::score(const PackedBatch& batch,
                          const std::function<void(std::size_t, std::span<const float>)>& visit) {
  const std::size_t dim = model_->config().dim;
  post_vectors_.resize(batch.posts() * dim);
  model_->encode(batch, as_bag_, post_vectors_.data());
  score_all(post_vectors_, table_, dim, threads_, visit);
}

RankingMetrics HashtagScorer::measure(const PackedBatch& batch) {
  std::vector<RankingMetrics> posts(batch.posts());
  score(batch, [&](std::size_t post, std::span<const float> scores) {
    posts[post].add(scores, own_hashtags(batch, post));
  });
  RankingMetrics sum;
  for (const RankingMetrics& post : posts) sum += post;
  return sum;
}

TrainedModel load_trained_model(const std::filesystem::path& run, std::uint32_t threads,
                                const Device& device) {
  RunFolder folder(run);
  if (!path_exists(folder.best())) {
    throw Error("the run '" + run.string() +
                "' has no best.safetensors: it is written after the first epoch of training");
  }
  auto tokenizer = folder.load_tokenizer();
  HashtagVocabulary hashtags = folder.load_hashtags();
  const std::uint32_t all_threads = resolve_threads(threads);
  ModelConfig config = model_config(folder.experiment(), *tokenizer, hashtags, all_threads);
  // Checkpoints are in float32, and what is not trained has no updates.
  config.device = device;
  config.table_format = TableFormat::float32;
  config.row_updates = RowUpdateMode::deterministic;
  Model model(config);
  const std::string state = model.load(folder.best(), false);
  const auto parsed = nlohmann::json::parse(state, nullptr, false);
  if (!parsed.is_object() || !parsed.contains("as_bag") || !parsed["as_bag"].is_boolean()) {
    throw Error("'" + folder.best().string() +
                "' is no checkpoint of a training: its state does not say \"as_bag\"");
  }
  const bool as_bag = parsed["as_bag"].get<bool>();
  return {std::move(folder), std::move(tokenizer), std::move(hashtags), std::move(model), as_bag,
          all_threads};
}

}  // namespace tagspace
