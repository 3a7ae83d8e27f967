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
  std::uint32_t reasons = 0;
  bool json = false;
};

std::string as_text(std::span<const Ranked> ranked, const HashtagVocabulary& hashtags) {
  std::string line;
  for (const Ranked& hashtag : ranked) {
    line += fmt::format("{}#{} {:.4f}", line.empty() ? "" : "\t", hashtags[hashtag.id].name, hashtag.score);
  }
  return line + '\n';
}

std::string quoted(const std::string& text) { return nlohmann::json(text).dump(); }

// `reasons_of(hashtag)`: what spoke for it, or nothing.
template <typename ReasonsOf>
std::string as_json(std::span<const Ranked> ranked, const HashtagVocabulary& hashtags,
                    const ReasonsOf& reasons_of) {
  std::string line = "{\"hashtags\":[";
  for (std::size_t i = 0; i < ranked.size(); ++i) {
    // The shortest digits that give the same float.
    line += fmt::format("{}{{\"hashtag\":{},\"score\":{}", i > 0 ? "," : "",
                        quoted(hashtags[ranked[i].id].name), ranked[i].score);
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
  const std::size_t top = std::min<std::size_t>(arguments.top, trained.hashtags.size());
  const std::size_t posts_at_once = std::clamp<std::size_t>(kMostAnswers / top, 1, kPostsAtOnce);
  PostReader reader(arguments.posts, trained.tokenizer->config().lowercase);
  PostBatcher batcher(reader, *trained.tokenizer, trained.hashtags, trained.threads);
  Output output;
  PackedBatch batch;
  std::vector<std::string> lines;
  while (batcher.next(posts_at_once, batch)) {
    const std::vector<Ranked> best = trained.best_hashtags(batch, top);
    lines.resize(batch.posts());
    const std::size_t tasks = (batch.posts() + kPostsPerTask - 1) / kPostsPerTask;
    trained.context->pool.run(tasks, [&](std::size_t task, std::size_t) {
      const std::size_t end = std::min(batch.posts(), (task + 1) * kPostsPerTask);
      for (std::size_t post = task * kPostsPerTask; post < end; ++post) {
        std::span<const Ranked> ranked = std::span(best).subspan(post * top, top);
        while (!ranked.empty() && ranked.back().score < arguments.min_score) {
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
        lines[post] = arguments.json ? as_json(ranked, trained.hashtags, reasons_of)
                                     : as_text(ranked, trained.hashtags);
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
      "--min-score.\n"
      "JSON: {\"hashtags\":[{\"hashtag\":\"name\",\"score\":1.5},...]} with the score's full precision.\n"
      "With --reasons, each hashtag has \"because\":[{\"text\":\"stock exchange\",\"score\":0.5},...], "
      "parts of its score.\n"
      "The score is what the model was trained by: the dot product of the post's and the hashtag's vector, "
      "or their "
      "cosine; with a lexical.type, a mixture of that and the words' score, or that alone. It orders the "
      "hashtags "
      "of a post and can be compared between posts, but is no probability.\n"
      "Hashtags in the post are taken out before it is read, as in training. A post without a known word "
      "gets an answer, too.");
  return {app, [arguments] { return predict(*arguments); }};
}

}  // namespace tagspace
