#include <algorithm>
#include <fmt/ranges.h>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "app/calibration.h"
#include "app/commands/command.h"
#include "app/evaluation.h"
#include "app/trained_model.h"
#include "base/error.h"
#include "base/files.h"
#include "data_pipeline/post_batcher.h"
#include "model/inference/ranking.h"

namespace tagspace {
namespace {

struct Arguments {
  RunOptions run;
  std::filesystem::path posts;
  std::filesystem::path reliability;
  std::filesystem::path ranks;
  FiguresOption figures;
};

// The first answers to a post, with the probability of each; `own`: the hashtags that its author used.
std::vector<Evaluation::Answer> judge(const Calibration& calibration, std::span<const Ranked> best,
                                      std::span<const std::uint32_t> own) {
  const std::vector<double> probabilities = calibration.probabilities(best);
  std::vector<Evaluation::Answer> answers;
  for (std::size_t i = 0; i < std::min(best.size(), Evaluation::kAnswers); ++i)
    answers.push_back({probabilities[i], std::binary_search(own.begin(), own.end(), best[i].id)});
  return answers;
}

// A line for each post that has a hashtag of the table: the ranks of its hashtags by the model, by frequency
// and by #words, with tabs between the three.
void append_ranks(const PackedBatch& batch, const std::vector<Post>& texts, const HashtagVocabulary& hashtags,
                  const BatchRanks& ranks, std::string& lines) {
  for (std::size_t post = 0; post < batch.posts(); ++post) {
    const auto own = of_post(batch, batch.hashtags, post);
    if (own.empty()) continue;
    lines += fmt::format("{}\t{}\t{}\n", fmt::join(of_post(batch, ranks.ranks, post), " "),
                         fmt::join(baseline_ranks({}, own), " "),
                         fmt::join(baseline_ranks(hashtags_among_words(texts[post], hashtags), own), " "));
  }
}

int evaluate(const Arguments& arguments) {
  TrainedModel trained = arguments.run.load(TrainedModel::Parts::all);
  const Experiment& experiment = trained.run.experiment();
  std::filesystem::path posts = arguments.posts;
  if (posts.empty()) posts = experiment.data.test.empty() ? experiment.data.valid : experiment.data.test;

  // Runs of older versions have none, and are told of their rankings alone.
  std::optional<Calibration> calibration;
  if (!arguments.reliability.empty() || path_exists(trained.run.calibration()))
    calibration = Calibration::load(trained.run);

  PostReader reader(posts, trained.tokenizer->config().lowercase);
  // Posts without a hashtag of the table say nothing about a ranking, but something about probabilities: all
  // answers to them are wrong.
  PostBatcher batcher(reader, *trained.tokenizer, trained.hashtags, trained.threads,
                      calibration ? PostBatcher::Keep::all : PostBatcher::Keep::with_hashtags);
  Evaluation evaluation(trained.hashtags);
  const std::size_t answers = std::min<std::size_t>(Calibration::kAnswers, trained.hashtags.size());
  PackedBatch batch;
  std::vector<Post> texts;
  std::string lines_of_ranks;
  while (batcher.next(kPostsAtOnce, batch, &texts)) {
    std::vector<Ranked> best;
    const BatchRanks ranks = trained.rank(batch, calibration ? &best : nullptr, answers);
    BatchRanks by_vectors;
    if (trained.lexical && trained.model) by_vectors = trained.rank_by_vectors(batch);
    std::vector<Evaluation::PostResult> results(batch.posts());
    trained.context->pool.run(batch.posts(), [&](std::size_t post, std::size_t) {
      const auto own = of_post(batch, batch.hashtags, post);
      if (!own.empty()) {
        const auto vector_ranks = by_vectors.ranks.empty() ? std::span<const std::uint32_t>()
                                                           : of_post(batch, by_vectors.ranks, post);
        results[post] = evaluation.measure(texts[post], own, of_post(batch, ranks.ranks, post),
                                           ranks.first[post], vector_ranks);
      }
      if (calibration) {
        results[post].answers = judge(*calibration, std::span(best).subspan(post * answers, answers), own);
      }
    });
    // In the order of the posts, so that the sums do not depend on the number of threads.
    for (const Evaluation::PostResult& result : results) evaluation.add(result);
    if (!arguments.ranks.empty()) append_ranks(batch, texts, trained.hashtags, ranks, lines_of_ranks);
  }
  if (evaluation.posts() == 0) {
    throw Error("no post of '" + posts.string() +
                "' has a hashtag of the run's table, so there is nothing to evaluate");
  }
  note_repaired_lines(reader, posts);
  if (!arguments.ranks.empty()) write_file(arguments.ranks, lines_of_ranks);
  if (!arguments.reliability.empty())
    write_file(arguments.reliability,
               reliability_plot(evaluation.first_answers().bins(), "first answers of " + experiment.name));
  arguments.figures.write(evaluation.to_json(), evaluation.to_table(experiment.name), posts);
  return kSuccess;
}

}  // namespace

Command add_evaluate(CLI::App& program) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* app =
      program.add_subcommand("evaluate", "Precision and recall on posts with hashtags, beside two baselines");
  arguments->run.add_to(*app);
  arguments->run.add_device_to(*app);
  app->add_option("--posts", arguments->posts,
                  "File of posts (the experiment's data.test, or else data.valid); - is standard input")
      ->option_text("FILE");
  app->add_option("--reliability", arguments->reliability,
                  "Write a plot of the first answers' probabilities against what came true to this SVG file")
      ->option_text("FILE");
  app->add_option("--ranks", arguments->ranks,
                  "Write the ranks of each post's hashtags to this file, a line a post, those by both "
                  "baselines after a tab "
                  "each: for tests of significance")
      ->option_text("FILE");
  arguments->figures.add_to(*app);
  app->footer(
      "Over the posts that carry a hashtag of the table, all hashtags taken out of their text; every hashtag "
      "of the table "
      "is ranked, and ties count against the model.\n"
      "P@1: share of posts whose first hashtag is one of theirs. R@10: share of a post's hashtags among the "
      "first ten, "
      "averaged over posts. Mean rank: of a post's hashtags, averaged over posts. MRR: one over a post's "
      "best rank, averaged.\n"
      "Where the model mixes scores of vectors and of words, a line for the vectors alone.\n"
      "Baselines: frequency ranks every post alike, most frequent first; #words puts the hashtags that are "
      "words of the post "
      "first.\n"
      "Frequent, middling and rare hashtags are each about a third of the hashtags on the training posts. "
      "Their R@10 is over "
      "the posts that carry one of them, of those hashtags alone; their P@1 over the posts for which one of "
      "them is ranked first.\n"
      "Probabilities (see predict --probabilities) of the first answer and of the first ten, over all posts, "
      "those without a hashtag of the table, too. ECE: expected calibration error, the mean difference "
      "between probability and share used, in 15 bins of equal size; by chance: what it would be if all "
      "probabilities were true. Brier: the mean squared difference.");
  return {app, [arguments] { return evaluate(*arguments); }};
}

}  // namespace tagspace
