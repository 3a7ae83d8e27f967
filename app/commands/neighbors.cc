#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "app/commands/command.h"
#include "app/output.h"
#include "app/suggest.h"
#include "app/trained_model.h"
#include "base/error.h"
#include "data_pipeline/posts.h"
#include "model/inference/ranking.h"

namespace tagspace {
namespace {

struct Arguments {
  RunOptions run;
  std::string query;
  std::uint32_t top = 10;
  std::string of = "hashtags";
};

std::uint32_t find_hashtag(const HashtagVocabulary& hashtags, const std::string& query) {
  const std::string name = normalize_hashtag(query);
  if (const auto id = hashtags.find(name)) return *id;
  std::vector<std::string> names;
  names.reserve(hashtags.size());
  for (std::uint32_t id = 0; id < hashtags.size(); ++id) names.push_back(hashtags[id].name);
  const auto near = nearest_name(name, names);
  throw Error("the hashtag '" + query + "' is not in the run's table" +
              (near ? "; did you mean '#" + *near + "'?" : ""));
}

std::vector<std::uint32_t> find_tokens(const TrainedModel& trained, const std::string& query) {
  std::string text = query;
  repair_utf8(text);
  std::vector<std::uint32_t> tokens;
  trained.tokenizer->encode(clean_text(text, trained.tokenizer->config().lowercase), tokens);
  if (tokens.empty()) {
    const bool is_hashtag = trained.hashtags.find(normalize_hashtag(query)).has_value();
    throw Error("the word '" + query + "' is not in the run's vocabulary" +
                (is_hashtag ? "; there is a hashtag '#" + query + "'" : ""));
  }
  return tokens;
}

int neighbors(const Arguments& arguments) {
  TrainedModel trained = arguments.run.load(TrainedModel::Parts::vectors);
  const std::size_t dim = trained.model->dim();
  const bool query_is_hashtag = arguments.query.starts_with('#');
  const bool of_hashtags = arguments.of == "hashtags";

  const std::span<const float> hashtags = trained.model->hashtag_vectors();
  std::vector<float> query(dim);
  std::vector<float> table;
  std::vector<std::uint32_t> own;  // rows that are the query itself
  if (query_is_hashtag) {
    const std::uint32_t id = find_hashtag(trained.hashtags, arguments.query);
    std::copy_n(hashtags.begin() + static_cast<std::ptrdiff_t>(id * dim), dim, query.begin());
    table = of_hashtags ? std::vector<float>(hashtags.begin(), hashtags.end()) : trained.words_as_posts();
    if (of_hashtags) own = {id};
  } else {
    const std::vector<std::uint32_t> tokens = find_tokens(trained, arguments.query);
    if (of_hashtags) {
      PackedBatch batch;
      batch.tokens = tokens;
      batch.end_post();
      trained.encode(batch, query.data());
      table.assign(hashtags.begin(), hashtags.end());
    } else {
      table = trained.word_vectors();
      for (const std::uint32_t token : tokens) {
        for (std::size_t i = 0; i < dim; ++i) query[i] += table[token * dim + i];
      }
      if (tokens.size() == 1) own = tokens;
    }
  }
  normalize_rows(query, dim);
  normalize_rows(table, dim);

  std::vector<Ranked> ranked = top_k(query, table, dim, arguments.top + own.size(), *trained.context);
  std::erase_if(ranked,
                [&](const Ranked& row) { return std::find(own.begin(), own.end(), row.id) != own.end(); });
  if (ranked.size() > arguments.top) ranked.resize(arguments.top);

  Output output;
  for (const Ranked& row : ranked) {
    const std::string name =
        of_hashtags ? "#" + trained.hashtags[row.id].name : trained.tokenizer->token(row.id);
    output.write(fmt::format("{}\t{:.4f}\n", name, row.score));
  }
  output.flush();
  return kSuccess;
}

}  // namespace

Command add_neighbors(CLI::App& program) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* app = program.add_subcommand("neighbors", "The hashtags or words nearest to one");
  arguments->run.add_to(*app);
  app->add_option("QUERY", arguments->query, "'#hashtag' (quoted for the shell) or a word")->required();
  app->add_option("--top", arguments->top, "How many")->check(CLI::Range(1, 1000000))->option_text("N (10)");
  app->add_option("--of", arguments->of, "What to list")
      ->check(CLI::IsMember({"hashtags", "words"}))
      ->option_text("hashtags|words (hashtags)");
  app->footer(
      "One line each, 'name<tab>cosine', nearest first. Among hashtags a word is where a post of that word "
      "alone would "
      "be; among words it is its row of the word table (the sum of its tokens' rows, if it is several).");
  return {app, [arguments] { return neighbors(*arguments); }};
}

}  // namespace tagspace
