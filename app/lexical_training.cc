#include "app/lexical_training.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "app/trained_model.h"
#include "app/training.h"
#include "base/error.h"
#include "data_pipeline/parallel.h"
#include "model/inference/ranking.h"
#include "model/kernels/scoring.h"
#include "model/lexical/lexical_trainer.h"

namespace tagspace {
namespace {

constexpr std::size_t kPostsAtATime = 64;
constexpr int kShares = 20;  // of the mixture, between the lexical score alone and the embedding's alone

// A validation post's scores by one model, for all hashtags.
using Scores = std::span<float>;

// Validation posts with the scores of both models, some at a time.
class Validation {
 public:
  Validation(const PreparedData& data, TrainedModel& embedding, const LexicalKeys& keys)
      : data_(data), embedding_(embedding), keys_(keys) {}

  // Calls body(post, of_embedding, of_words) for all posts, in pieces that are each shared out to the
  // threads, and after each piece after(count).
  template <typename Body, typename After>
  void for_posts(const LexicalArrays& lexical, const Body& body, const After& after) {
    const std::size_t hashtags = data_.hashtags.size();
    const LexicalVocabulary vocabulary = lexical.vocabulary();
    const LexicalWeights weights = lexical.by_feature();
    const auto table = embedding_.model.hashtag_vectors();
    const std::size_t dim = embedding_.model.dim();
    std::vector<float> of_embedding(kPostsAtATime * hashtags);
    std::vector<float> of_words(kPostsAtATime * hashtags);
    std::vector<float> vectors(kPostsAtATime * dim);
    PackedBatch batch;
    for (std::uint64_t first = 0; first < data_.valid->posts(); first += kPostsAtATime) {
      const std::size_t count = std::min<std::uint64_t>(kPostsAtATime, data_.valid->posts() - first);
      batch.clear();
      for (std::size_t i = 0; i < count; ++i) data_.valid->append_to(batch, first + i);
      embedding_.encode(batch, vectors.data());
      kernels::products({vectors.data(), count, dim}, {table.data(), hashtags, dim}, nullptr,
                        of_embedding.data(), *embedding_.context);
      embedding_.context->pool.run(count, [&](std::size_t i, std::size_t) {
        const Scores words(of_words.data() + i * hashtags, hashtags);
        std::fill(words.begin(), words.end(), 0.0F);
        weights.add_scores(lexical_vector(keys_, vocabulary, data_.valid->tokens(first + i)), 1, words);
        body(first + i, Scores(of_embedding.data() + i * hashtags, hashtags), words);
      });
      after(count);
    }
  }

 private:
  const PreparedData& data_;
  TrainedModel& embedding_;
  const LexicalKeys& keys_;
};

// Its own scale, so that a share of the mixture means the same whatever the scales of the two scores: the
// standard deviation of a post's scores over the hashtags.
double spread(Scores scores) {
  double sum = 0;
  double squares = 0;
  for (const float score : scores) {
    sum += score;
    squares += double{score} * score;
  }
  const auto count = static_cast<double>(scores.size());
  return std::sqrt(std::max(0.0, squares / count - sum / count * (sum / count)));
}

// What the epoch and the mixture are chosen by: better at the top and in the first ten.
double worth_of(const RankingMetrics& averages) { return averages.precision_at_1 + averages.recall_at_10; }

RankingMetrics metrics_of(std::span<const float> scores, std::span<const std::uint32_t> own) {
  RankingMetrics metrics;
  metrics.add(ranks_of(scores, own));
  return metrics;
}

}  // namespace

bool train_lexical(const Experiment& experiment, const PreparedData& data, const RunFolder& run,
                   Reporter& reporter, const std::function<bool()>& stop_asked) {
  TrainedModel embedding =
      load_trained_model(run.path(), experiment.training.threads, "cpu", TrainedModel::Parts::embedding);
  const LexicalKeys keys(token_texts(*data.tokenizer));
  std::vector<std::string> names;
  for (std::uint32_t h = 0; h < data.hashtags.size(); ++h) names.push_back(data.hashtags[h].name);
  LabelledPosts posts{data.train->posts(), [&](std::uint64_t post) { return data.train->tokens(post); },
                      [&](std::uint64_t post) { return data.train->hashtags(post); }};
  LexicalTrainer trainer(keys, posts, names, {experiment.model.seed, experiment.lexical.learning_rate},
                         *embedding.context);
  const std::uint64_t features = trainer.arrays().keys.size();
  const std::uint64_t weights_count = trainer.arrays().weights.size();
  // Twice: as they are, and as they were in the best epoch.
  const std::uint64_t bytes = 2 * (16 * features + 8 * weights_count);
  reporter.line(fmt::format("lexical: {} features, {} weights, which take about {} MiB",
                            format_count(features), format_count(weights_count), format_count(bytes >> 20U)));

  Validation validation(data, embedding, keys);
  std::optional<double> best;
  LexicalArrays best_arrays;
  std::uint32_t best_epoch = 0;
  const std::uint32_t patience = experiment.training.patience;
  for (std::uint32_t epoch = 0; epoch < experiment.lexical.epochs; ++epoch) {
    if (patience > 0 && epoch >= best_epoch + patience && best) break;
    const double loss = trainer.train_epoch(epoch, stop_asked);
    if (loss < 0) return false;
    if (!std::isfinite(loss)) {
      throw Error("the lexical model's loss is not a finite number any more: lower lexical.learning_rate");
    }
    std::vector<RankingMetrics> of_posts(data.valid->posts());
    RankingMetrics sum;
    validation.for_posts(
        trainer.arrays(),
        [&](std::uint64_t post, Scores /*of_embedding*/, Scores of_words) {
          of_posts[post] = metrics_of(of_words, data.valid->hashtags(post));
        },
        [](std::size_t) {});
    for (const RankingMetrics& of_post : of_posts) sum += of_post;
    const RankingMetrics averages = sum.averages();
    const double worth = worth_of(averages);
    const bool improved = !best || worth > *best;
    reporter.line(fmt::format("lexical epoch {}/{}: loss {:.4f}; valid {}{}", epoch + 1,
                              experiment.lexical.epochs, loss, format_metrics(averages),
                              improved ? " (best so far)" : ""));
    if (!improved) continue;
    best = worth;
    best_epoch = epoch + 1;
    best_arrays = trainer.arrays();
  }

  // The mixture: shares of two scores, each in units of its own spread.
  const std::uint64_t valid_posts = data.valid->posts();
  double embedding_spread = 0;
  double lexical_spread = 0;
  std::vector<std::pair<double, double>> spreads(valid_posts);
  validation.for_posts(
      best_arrays,
      [&](std::uint64_t post, Scores of_embedding, Scores of_words) {
        spreads[post] = {spread(of_embedding), spread(of_words)};
      },
      [](std::size_t) {});
  for (const auto& [of_embedding, of_words] : spreads) {
    embedding_spread += of_embedding / static_cast<double>(valid_posts);
    lexical_spread += of_words / static_cast<double>(valid_posts);
  }
  const auto mixture_of = [&](int share) {
    const double of_embedding = static_cast<double>(share) / kShares;
    const auto factor = [](double part, double scale) {
      return scale > 0 ? static_cast<float>(part / scale) : 0.0F;
    };
    return ScoreMixture{factor(of_embedding, embedding_spread), factor(1 - of_embedding, lexical_spread)};
  };
  std::vector<RankingMetrics> sums(kShares + 1);
  std::vector<std::vector<RankingMetrics>> of_posts(kPostsAtATime, sums);
  validation.for_posts(
      best_arrays,
      [&](std::uint64_t post, Scores of_embedding, Scores of_words) {
        std::vector<float> mixed(of_embedding.size());
        for (int share = 0; share <= kShares; ++share) {
          const ScoreMixture mixture = mixture_of(share);
          for (std::size_t h = 0; h < mixed.size(); ++h)
            mixed[h] = mixture.embedding * of_embedding[h] + mixture.lexical * of_words[h];
          of_posts[post % kPostsAtATime][static_cast<std::size_t>(share)] =
              metrics_of(mixed, data.valid->hashtags(post));
        }
      },
      [&](std::size_t count) {
        for (std::size_t i = 0; i < count; ++i) {
          for (std::size_t share = 0; share < sums.size(); ++share) sums[share] += of_posts[i][share];
        }
      });
  if (stop_asked()) return false;
  int chosen = 0;
  for (int share = 1; share <= kShares; ++share) {
    const auto worth = [&](int of) { return worth_of(sums[static_cast<std::size_t>(of)].averages()); };
    if (worth(share) > worth(chosen)) chosen = share;
  }
  const RankingMetrics averages = sums[static_cast<std::size_t>(chosen)].averages();
  const double share = static_cast<double>(chosen) / kShares;
  const nlohmann::ordered_json state = {{"format", RunFolder::kFormat},
                                        {"epoch", best_epoch},
                                        {"share_of_embedding", share},
                                        {"valid", to_json(averages)}};
  write_lexical_model(run.lexical(), best_arrays, mixture_of(chosen), state.dump());
  reporter.line(fmt::format("lexical: best after epoch {}; {:.0f} % embedding and {:.0f} % words: valid {}",
                            best_epoch, 100 * share, 100 * (1 - share), format_metrics(averages)));
  return true;
}

}  // namespace tagspace
