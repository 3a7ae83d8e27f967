#include "app/calibration_training.h"

#include <algorithm>
#include <cstdint>
#include <fmt/format.h>
#include <span>
#include <utility>
#include <vector>

#include "app/calibration.h"
#include "app/trained_model.h"
#include "data_pipeline/post_batcher.h"

namespace tagspace {
namespace {

constexpr std::size_t kMostPosts = 20'000;

// Posts of a file in equal distances: every one, or every second, or fourth, so that there are never more
// than `most`, whatever the number that is to come.
class EvenSample {
 public:
  explicit EvenSample(std::size_t most) : most_(most) {}

  void add(std::span<const std::uint32_t> tokens, std::span<const std::uint32_t> hashtags) {
    if (seen_++ % stride_ != 0) return;
    if (posts_.posts() == most_) {
      PackedBatch half;
      for (std::size_t post = 0; post < posts_.posts(); post += 2)
        append(half, tokens_of(post), hashtags_of(post));
      posts_ = std::move(half);
      stride_ *= 2;
      if ((seen_ - 1) % stride_ != 0) return;
    }
    append(posts_, tokens, hashtags);
  }

  [[nodiscard]] std::size_t posts() const { return posts_.posts(); }
  [[nodiscard]] std::span<const std::uint32_t> tokens_of(std::size_t post) const {
    return std::span(posts_.tokens)
        .subspan(posts_.token_offsets[post], posts_.token_offsets[post + 1] - posts_.token_offsets[post]);
  }
  [[nodiscard]] std::span<const std::uint32_t> hashtags_of(std::size_t post) const {
    return of_post(posts_, posts_.hashtags, post);
  }
  static void append(PackedBatch& batch, std::span<const std::uint32_t> tokens,
                     std::span<const std::uint32_t> hashtags) {
    batch.tokens.insert(batch.tokens.end(), tokens.begin(), tokens.end());
    batch.hashtags.insert(batch.hashtags.end(), hashtags.begin(), hashtags.end());
    batch.end_post();
  }

 private:
  std::size_t most_;
  std::uint64_t seen_ = 0;
  std::uint64_t stride_ = 1;
  PackedBatch posts_;
};

}  // namespace

bool train_calibration(const Experiment& experiment, const RunFolder& run, Reporter& reporter,
                       const std::function<bool()>& stop_asked) {
  TrainedModel trained =
      load_trained_model(run.path(), experiment.training.threads, "cpu", TrainedModel::Parts::all);
  PostReader reader(experiment.data.valid, trained.tokenizer->config().lowercase);
  PostBatcher batcher(reader, *trained.tokenizer, trained.hashtags, trained.threads);
  EvenSample sample(kMostPosts);
  PackedBatch batch;
  while (batcher.next(kPostsAtOnce, batch)) {
    if (stop_asked()) return false;
    for (std::size_t post = 0; post < batch.posts(); ++post) {
      sample.add(
          std::span(batch.tokens)
              .subspan(batch.token_offsets[post], batch.token_offsets[post + 1] - batch.token_offsets[post]),
          of_post(batch, batch.hashtags, post));
    }
  }

  constexpr std::size_t kPostsAtATime = 64;
  JudgedAnswers answers;
  answers.per_post = std::min<std::size_t>(Calibration::kAnswers, trained.hashtags.size());
  std::size_t with_hashtag = 0;
  for (std::size_t first = 0; first < sample.posts(); first += kPostsAtATime) {
    if (stop_asked()) return false;
    batch.clear();
    for (std::size_t post = first; post < std::min(sample.posts(), first + kPostsAtATime); ++post)
      EvenSample::append(batch, sample.tokens_of(post), sample.hashtags_of(post));
    const std::vector<Ranked> best = trained.best_hashtags(batch, answers.per_post);
    for (std::size_t i = 0; i < best.size(); ++i) {
      const auto own = of_post(batch, batch.hashtags, i / answers.per_post);
      answers.scores.push_back(best[i].score);
      answers.used.push_back(std::binary_search(own.begin(), own.end(), best[i].id) ? 1 : 0);
    }
    for (std::size_t post = 0; post < batch.posts(); ++post)
      with_hashtag += of_post(batch, batch.hashtags, post).empty() ? 0 : 1;
  }
  const Calibration calibration = Calibration::fit(answers, *trained.context);
  calibration.save(run);
  reporter.line(
      fmt::format("probabilities: fitted on {} validation posts, {} of them with a hashtag of the table",
                  format_count(sample.posts()), format_count(with_hashtag)));
  return true;
}

}  // namespace tagspace
