#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "app/calibration.h"
#include "app/commands/command.h"
#include "app/output.h"
#include "app/trained_model.h"
#include "base/error.h"
#include "data_pipeline/post_batcher.h"
#include "model/inference/ranking.h"

namespace tagspace {
namespace {

// Hashtags that are ranked at once, for all posts together: what bounds the memory.
constexpr std::size_t kMostAnswers = std::size_t{1} << 22;
constexpr std::size_t kPostsPerTask = 32;

struct Arguments {
  RunOptions run;
  std::uint32_t top = 10;
  std::filesystem::path posts = "-";
  float min_score = -std::numeric_limits<float>::infinity();
  bool probabilities = false;
  std::optional<double> min_probability;
  std::uint32_t reasons = 0;
  bool json = false;
};

// `probabilities`: of the same answers, or of none.
std::string as_text(std::span<const Ranked> ranked, std::span<const double> probabilities,
                    const HashtagVocabulary& hashtags) {
  std::string line;
  for (std::size_t i = 0; i < ranked.size(); ++i) {
    line += fmt::format("{}#{} {:.4f}", line.empty() ? "" : "\t", hashtags[ranked[i].id].name,
                        probabilities.empty() ? ranked[i].score : probabilities[i]);
  }
  return line + '\n';
}

std::string quoted(const std::string& text) { return nlohmann::json(text).dump(); }

// `reasons_of(hashtag)`: what spoke for it, or nothing.
template <typename ReasonsOf>
std::string as_json(std::span<const Ranked> ranked, std::span<const double> probabilities,
                    const HashtagVocabulary& hashtags, const ReasonsOf& reasons_of) {
  std::string line = "{\"hashtags\":[";
  for (std::size_t i = 0; i < ranked.size(); ++i) {
    // The shortest digits that give the same float.
    line += fmt::format("{}{{\"hashtag\":{},\"score\":{}", i > 0 ? "," : "",
                        quoted(hashtags[ranked[i].id].name), ranked[i].score);
    if (!probabilities.empty())
      line += fmt::format(",\"probability\":{}", static_cast<float>(probabilities[i]));
    if (const auto reasons = reasons_of(ranked[i].id)) {
      line += ",\"because\":[";
      for (std::size_t j = 0; j < reasons->size(); ++j) {
        line += fmt::format("{}{{\"text\":{},\"score\":{}}}", j > 0 ? "," : "", quoted((*reasons)[j].text),
                            (*reasons)[j].score);
      }
      line += "]";
    }
    line += "}";
  }
  return line + "]}\n";
}

int predict(const Arguments& arguments) {
  TrainedModel trained = arguments.run.load(TrainedModel::Parts::all);
  if (arguments.reasons > 0 && !trained.lexical) {
    throw Error("--reasons asks which words speak for a hashtag, which the run '" +
                trained.run.path().string() + "' cannot tell: its lexical.type is \"none\"");
  }
  std::optional<Calibration> calibration;
  if (arguments.probabilities || arguments.min_probability) calibration = Calibration::load(trained.run);
  const std::size_t top = std::min<std::size_t>(arguments.top, trained.hashtags.size());
  // A probability depends on more answers than may be asked for.
  const std::size_t ranked_at_all =
      calibration ? std::clamp<std::size_t>(Calibration::kAnswers, top, trained.hashtags.size()) : top;
  const std::size_t posts_at_once = std::clamp<std::size_t>(kMostAnswers / ranked_at_all, 1, kPostsAtOnce);
  PostReader reader(arguments.posts, trained.tokenizer->config().lowercase);
  PostBatcher batcher(reader, *trained.tokenizer, trained.hashtags, trained.threads);
  Output output;
  PackedBatch batch;
  std::vector<std::string> lines;
  while (batcher.next(posts_at_once, batch)) {
    const std::vector<Ranked> best = trained.best_hashtags(batch, ranked_at_all);
    lines.resize(batch.posts());
    const std::size_t tasks = (batch.posts() + kPostsPerTask - 1) / kPostsPerTask;
    trained.context->pool.run(tasks, [&](std::size_t task, std::size_t) {
      const std::size_t end = std::min(batch.posts(), (task + 1) * kPostsPerTask);
      for (std::size_t post = task * kPostsPerTask; post < end; ++post) {
        const auto all = std::span(best).subspan(post * ranked_at_all, ranked_at_all);
        std::span<const Ranked> ranked = all.first(top);
        std::vector<double> probabilities;
        if (calibration) probabilities = calibration->probabilities(all);
        const double min_probability = arguments.min_probability.value_or(0);
        while (!ranked.empty() && (ranked.back().score < arguments.min_score ||
                                   (calibration && probabilities[ranked.size() - 1] < min_probability))) {
          ranked = ranked.first(ranked.size() - 1);
        }
        const auto tokens = std::span(batch.tokens)
                                .subspan(batch.token_offsets[post],
                                         batch.token_offsets[post + 1] - batch.token_offsets[post]);
        const auto reasons_of =
            [&](std::uint32_t hashtag) -> std::optional<std::vector<LexicalModel::Reason>> {
          if (arguments.reasons == 0) return std::nullopt;
          return trained.lexical->reasons(tokens, hashtag, arguments.reasons);
        };
        lines[post] = arguments.json ? as_json(ranked, probabilities, trained.hashtags, reasons_of)
                                     : as_text(ranked, probabilities, trained.hashtags);
      }
    });
    for (const std::string& line : lines) output.write(line);
    output.flush();
  }
  return kSuccess;
}

}  // namespace

Command add_predict(CLI::App& program) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* app =
      program.add_subcommand("predict", "The best hashtags for each post: one line out for each line in");
  arguments->run.add_to(*app);
  arguments->run.add_device_to(*app);
  app->add_option("--top", arguments->top, "Hashtags a post, at most")
      ->check(CLI::Range(1, 1000000))
      ->option_text("N (10)");
  app->add_option("--posts", arguments->posts, "File of posts; - is standard input")->option_text("FILE (-)");
  app->add_option("--min-score", arguments->min_score, "Leave out hashtags that score less")
      ->option_text("X");
  app->add_flag("--probabilities", arguments->probabilities,
                "Print the probability that the post's author used the hashtag, in place of the score");
  app->add_option("--min-probability", arguments->min_probability,
                  "Leave out hashtags that are less probable; a post may get none. Prints probabilities")
      ->check(CLI::Range(0.0, 1.0))
      ->option_text("P");
  CLI::Option* json = app->add_flag("--json", arguments->json, "JSON instead of text");
  app->add_option(
         "--reasons", arguments->reasons,
         "Say for each hashtag which words, pairs of words and beginnings of words speak most for it, "
         "at most so many (runs with a lexical.type)")
      ->check(CLI::Range(1, 1000))
      ->option_text("N")
      ->needs(json);
  app->footer(
      "Text: '#hashtag score', best first, with a tab between hashtags; an empty line if none reaches "
      "--min-score or --min-probability.\n"
      "JSON: {\"hashtags\":[{\"hashtag\":\"name\",\"score\":1.5},...]} with the score's full precision; "
      "with --probabilities or --min-probability also \"probability\":0.25.\n"
      "With --reasons, each hashtag has \"because\":[{\"text\":\"stock exchange\",\"score\":0.5},...], "
      "parts of its score.\n"
      "The score is what the model was trained by: the dot product of the post's and the hashtag's vector, "
      "or their "
      "cosine; with a lexical.type, a mixture of that and the words' score, or that alone. It orders the "
      "hashtags "
      "of a post and can be compared between posts, but is no probability.\n"
      "The probability is fitted on all posts of the experiment's data.valid, and holds for posts like "
      "those: "
      "where all of them have hashtags, it is that of posts with hashtags.\n"
      "Hashtags in the post are taken out before it is read, as in training. A post without a known word "
      "gets an answer, too.");
  return {app, [arguments] { return predict(*arguments); }};
}

}  // namespace tagspace
