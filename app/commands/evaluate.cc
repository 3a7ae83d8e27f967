#include <memory>
#include <string>
#include <vector>

#include "app/commands/command.h"
#include "app/evaluation.h"
#include "app/trained_model.h"
#include "base/error.h"
#include "data_pipeline/post_batcher.h"
#include "model/inference/ranking.h"

namespace tagspace {
namespace {

struct Arguments {
  RunOptions run;
  std::filesystem::path posts;
  FiguresOption figures;
};

int evaluate(const Arguments& arguments) {
  TrainedModel trained = arguments.run.load(TrainedModel::Parts::all);
  const Experiment& experiment = trained.run.experiment();
  std::filesystem::path posts = arguments.posts;
  if (posts.empty()) posts = experiment.data.test.empty() ? experiment.data.valid : experiment.data.test;

  PostReader reader(posts, trained.tokenizer->config().lowercase);
  // The others say nothing about a ranking.
  PostBatcher batcher(reader, *trained.tokenizer, trained.hashtags, trained.threads,
                      PostBatcher::Keep::with_hashtags);
  Evaluation evaluation(trained.hashtags);
  PackedBatch batch;
  std::vector<Post> texts;
  while (batcher.next(kPostsAtOnce, batch, &texts)) {
    const BatchRanks ranks = trained.rank(batch);
    std::vector<Evaluation::PostResult> results(batch.posts());
    trained.context->pool.run(batch.posts(), [&](std::size_t post, std::size_t) {
      results[post] = evaluation.measure(texts[post], of_post(batch, batch.hashtags, post),
                                         of_post(batch, ranks.ranks, post), ranks.first[post]);
    });
    // In the order of the posts, so that the sums do not depend on the number of threads.
    for (const Evaluation::PostResult& result : results) evaluation.add(result);
  }
  if (evaluation.posts() == 0) {
    throw Error("no post of '" + posts.string() +
                "' has a hashtag of the run's table, so there is nothing to evaluate");
  }
  note_repaired_lines(reader, posts);
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
  arguments->figures.add_to(*app);
  app->footer(
      "Over the posts that carry a hashtag of the table, all hashtags taken out of their text; every hashtag "
      "of the table "
      "is ranked, and ties count against the model.\n"
      "P@1: share of posts whose first hashtag is one of theirs. R@10: share of a post's hashtags among the "
      "first ten, "
      "averaged over posts. Mean rank: of a post's hashtags, averaged over posts. MRR: one over a post's "
      "best rank, averaged.\n"
      "Baselines: frequency ranks every post alike, most frequent first; #words puts the hashtags that are "
      "words of the post "
      "first.\n"
      "Frequent, middling and rare hashtags are each about a third of the hashtags on the training posts. "
      "Their R@10 is over "
      "the posts that carry one of them, of those hashtags alone; their P@1 over the posts for which one of "
      "them is ranked first.");
  return {app, [arguments] { return evaluate(*arguments); }};
}

}  // namespace tagspace
