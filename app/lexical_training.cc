#include "app/lexical_training.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <vector>

#include "app/trained_model.h"
#include "app/training.h"
#include "base/error.h"
#include "data_pipeline/parallel.h"
#include "model/inference/ranking.h"
#include "model/kernels/scoring.h"
#include "model/lexical/lexical_trainer.h"
#include "model/lexical/naive_bayes.h"
#include "model/lexical/neighbors.h"

namespace tagspace {
namespace {

constexpr std::size_t kPostsAtATime = 64;
constexpr int kShares = 20;  // of the mixture, between the lexical score alone and the embedding's alone

// A validation post's scores by one model, for all hashtags.
using Scores = std::span<float>;

RankingMetrics metrics_of(std::span<const float> scores, std::span<const std::uint32_t> own) {
  RankingMetrics metrics;
  metrics.add(ranks_of(scores, own));
  return metrics;
}

// Validation posts with the scores of both models, some at a time.
class Validation {
 public:
  // `embedding` may be none: its scores are then 0.
  Validation(const PreparedData& data, TrainedModel* embedding, const LexicalKeys& keys,
             kernels::CpuContext& context)
      : data_(data), embedding_(embedding), keys_(keys), context_(context) {}

  // Calls body(post, of_embedding, of_words) for all posts, in pieces that are each shared out to the
  // threads, and after each piece after(count).
  template <typename Body, typename After>
  void for_posts(const LexicalArrays& lexical, const Body& body, const After& after) {
    const std::size_t hashtags = data_.hashtags.size();
    const LexicalScorer scorer = lexical.scorer();
    std::vector<float> of_embedding(kPostsAtATime * hashtags);
    std::vector<float> of_words(kPostsAtATime * hashtags);
    for (std::uint64_t first = 0; first < data_.valid->posts(); first += kPostsAtATime) {
      const std::size_t count = std::min<std::uint64_t>(kPostsAtATime, data_.valid->posts() - first);
      if (embedding_ != nullptr) score_by_embedding(first, count, of_embedding.data());
      context_.pool.run(count, [&](std::size_t i, std::size_t) {
        const Scores words(of_words.data() + i * hashtags, hashtags);
        std::fill(words.begin(), words.end(), 0.0F);
        scorer.add_scores(lexical_vector(keys_, scorer.vocabulary, data_.valid->tokens(first + i)), 1, words);
        body(first + i, Scores(of_embedding.data() + i * hashtags, hashtags), words);
      });
      after(count);
    }
  }

  // Of the model of words alone.
  RankingMetrics metrics_of_words(const LexicalArrays& lexical) {
    std::vector<RankingMetrics> of_posts(data_.valid->posts());
    for_posts(
        lexical,
        [&](std::uint64_t post, Scores /*of_embedding*/, Scores of_words) {
          of_posts[post] = metrics_of(of_words, data_.valid->hashtags(post));
        },
        [](std::size_t) {});
    RankingMetrics sum;
    for (const RankingMetrics& of_post : of_posts) sum += of_post;
    return sum.averages();
  }

 private:
  void score_by_embedding(std::uint64_t first, std::size_t count, float* scores) {
    const auto table = embedding_->model->hashtag_vectors();
    const std::size_t dim = embedding_->model->dim();
    batch_.clear();
    data_.valid->append_to(batch_, first, first + count);
    vectors_.resize(count * dim);
    embedding_->encode(batch_, vectors_.data());
    kernels::products({vectors_.data(), count, dim}, {table.data(), data_.hashtags.size(), dim}, nullptr,
                      scores, context_);
  }

  const PreparedData& data_;
  TrainedModel* embedding_;
  const LexicalKeys& keys_;
  kernels::CpuContext& context_;
  PackedBatch batch_;
  std::vector<float> vectors_;
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

// `copies`: how many of the weights are held at once.
void report_size(const LexicalArrays& arrays, std::uint64_t copies, Reporter& reporter) {
  const std::uint64_t bytes = copies * (16 * arrays.keys.size() + 8 * arrays.weights.size());
  reporter.line(fmt::format("lexical: {} features, {} weights, which take about {} MiB",
                            format_count(arrays.keys.size()), format_count(arrays.weights.size()),
                            format_count(bytes >> 20U)));
}

// The best mixture: shares of two scores, each in units of its own spread.
MixedScores find_mixture(const PreparedData& data, Validation& validation, const LexicalArrays& arrays) {
  const std::uint64_t valid_posts = data.valid->posts();
  double embedding_spread = 0;
  double lexical_spread = 0;
  std::vector<std::pair<double, double>> spreads(valid_posts);
  validation.for_posts(
      arrays,
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
      arrays,
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
  int chosen = 0;
  for (int share = 1; share <= kShares; ++share) {
    const auto worth = [&](int of) { return worth_of(sums[static_cast<std::size_t>(of)].averages()); };
    if (worth(share) > worth(chosen)) chosen = share;
  }
  return {static_cast<double>(chosen) / kShares, mixture_of(chosen),
          sums[static_cast<std::size_t>(chosen)].averages()};
}

// The linear model's best epoch; nothing if stop_asked.
std::optional<WordsModel> train_linear(const Experiment& experiment, const LexicalKeys& keys,
                                       const TrainingPosts& posts, std::span<const std::string> names,
                                       Validation& validation, Reporter& reporter,
                                       kernels::CpuContext& context,
                                       const std::function<bool()>& stop_asked) {
  LexicalTrainer trainer(keys, posts, names, {experiment.model.seed, experiment.lexical.learning_rate},
                         context);
  // As the weights are, and as they were in the best epoch.
  report_size(trainer.arrays(), 2, reporter);
  std::optional<double> best;
  WordsModel trained;
  const std::uint32_t patience = experiment.training.patience;
  for (std::uint32_t epoch = 0; epoch < experiment.lexical.epochs; ++epoch) {
    if (patience > 0 && epoch >= trained.epoch + patience && best) break;
    const double loss = trainer.train_epoch(epoch, stop_asked);
    if (loss < 0) return std::nullopt;
    if (!std::isfinite(loss)) {
      throw Diverged("the lexical model's loss is not a finite number any more: lower lexical.learning_rate");
    }
    const RankingMetrics averages = validation.metrics_of_words(trainer.arrays());
    const double worth = worth_of(averages);
    const bool improved = !best || worth > *best;
    reporter.line(fmt::format("lexical epoch {}/{}: loss {:.4f}; valid {}{}", epoch + 1,
                              experiment.lexical.epochs, loss, format_metrics(averages),
                              improved ? " (best so far)" : ""));
    if (!improved) continue;
    best = worth;
    trained = {trainer.arrays(), epoch + 1};
  }
  return trained;
}

}  // namespace

std::optional<WordsModel> train_words(const Experiment& experiment, const PreparedData& data,
                                      Reporter& reporter, const std::function<bool()>& stop_asked) {
  kernels::CpuContext context(resolve_threads(experiment.training.threads));
  const LexicalKeys keys(token_texts(*data.tokenizer));
  const TrainingPosts posts{data.train->posts(), [&](std::uint64_t post) { return data.train->tokens(post); },
                            [&](std::uint64_t post) { return data.train->hashtags(post); }};
  WordsModel trained;
  switch (experiment.lexical.type) {
    case LexicalType::none:
      throw std::logic_error("no model of words to train");
    case LexicalType::linear: {
      std::vector<std::string> names;
      for (std::uint32_t h = 0; h < data.hashtags.size(); ++h) names.push_back(data.hashtags[h].name);
      Validation validation(data, nullptr, keys, context);
      return train_linear(experiment, keys, posts, names, validation, reporter, context, stop_asked);
    }
    case LexicalType::naive_bayes:
      trained.arrays = train_naive_bayes(keys, posts, data.hashtags.size(), experiment.lexical.smoothing);
      break;
    case LexicalType::neighbors:
      trained.arrays = index_neighbors(keys, posts, experiment.lexical.neighbors);
      break;
  }
  report_size(trained.arrays, 1, reporter);
  if (stop_asked()) return std::nullopt;
  return trained;
}

MixedScores mix_scores(const Experiment& experiment, const PreparedData& data, const RunFolder& run,
                       const WordsModel& words) {
  TrainedModel embedding =
      load_trained_model(run.path(), experiment.training.threads, "cpu", TrainedModel::Parts::vectors);
  kernels::CpuContext context(resolve_threads(experiment.training.threads));
  const LexicalKeys keys(token_texts(*data.tokenizer));
  Validation validation(data, &embedding, keys, context);
  return find_mixture(data, validation, words.arrays);
}

bool train_lexical(const Experiment& experiment, const PreparedData& data, const RunFolder& run,
                   Reporter& reporter, const std::function<bool()>& stop_asked) {
  const bool alone = !experiment.has_vectors();
  const std::optional<WordsModel> trained = train_words(experiment, data, reporter, stop_asked);
  if (!trained) return false;
  MixedScores mixed;
  if (alone) {
    kernels::CpuContext context(resolve_threads(experiment.training.threads));
    const LexicalKeys keys(token_texts(*data.tokenizer));
    mixed = {0, {0, 1}, Validation(data, nullptr, keys, context).metrics_of_words(trained->arrays)};
  } else {
    mixed = mix_scores(experiment, data, run, *trained);
  }
  if (stop_asked()) return false;
  const nlohmann::ordered_json state = {{"format", RunFolder::kFormat},
                                        {"epoch", trained->epoch},
                                        {"share_of_embedding", mixed.share},
                                        {"valid", to_json(mixed.valid)}};
  write_lexical_model(run.lexical(), trained->arrays, mixed.mixture, state.dump());
  reporter.line(fmt::format("lexical: {}{}valid {}",
                            trained->epoch > 0 ? fmt::format("best after epoch {}; ", trained->epoch) : "",
                            alone ? ""
                                  : fmt::format("{:.0f} % embedding and {:.0f} % words: ", 100 * mixed.share,
                                                100 * (1 - mixed.share)),
                            format_metrics(mixed.valid)));
  return true;
}

}  // namespace tagspace
