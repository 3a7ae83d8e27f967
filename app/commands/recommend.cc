#include <algorithm>
#include <fmt/format.h>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "app/commands/command.h"
#include "app/progress.h"
#include "app/trained_model.h"
#include "base/error.h"
#include "data_pipeline/post_batcher.h"
#include "model/inference/recommendation.h"

namespace tagspace {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kEncodedAtOnce = 4096;

struct Arguments {
  RunOptions run;
  std::filesystem::path posts;
  FiguresOption figures;
  RecommendationConfig config;
};

// Posts as they stand in the file.
struct FilePosts {
  std::vector<std::uint32_t> users;              // [posts] numbered as they appear
  std::vector<std::size_t> counts;               // [users] their posts
  std::vector<std::uint32_t> tokens;             // end to end
  std::vector<std::size_t> token_offsets = {0};  // [posts + 1]
};

FilePosts read_posts(const std::filesystem::path& path, const TrainedModel& trained) {
  PostReader reader(path, trained.tokenizer->config().lowercase);
  if (!is_json_lines(path)) {
    throw Error("recommend needs to know whose the posts are, and '" + path.string() +
                "' cannot say: give a .jsonl file (or .jsonl.gz, .jsonl.zst) with a \"user\" in every line, "
                "{\"text\": \"…\", \"user\": \"…\"}");
  }
  PostBatcher batcher(reader, *trained.tokenizer, trained.hashtags, trained.threads);
  FilePosts all;
  std::unordered_map<std::string, std::uint32_t> numbers;
  PackedBatch batch;
  std::vector<Post> posts;
  while (batcher.next(kEncodedAtOnce, batch, &posts)) {
    for (std::size_t i = 0; i < posts.size(); ++i) {
      if (posts[i].user.empty()) {
        // A post for each line.
        throw Error(path.string() + ":" + std::to_string(all.users.size() + 1) +
                    ": the line has no \"user\", or an empty one; each must have one, {\"text\": \"…\", "
                    "\"user\": \"…\"}");
      }
      if (all.users.size() == std::numeric_limits<std::uint32_t>::max()) {
        throw Error("'" + path.string() + "' has too many posts: recommend takes 4,294,967,295 at most");
      }
      const auto [found, is_new] =
          numbers.try_emplace(std::move(posts[i].user), static_cast<std::uint32_t>(all.counts.size()));
      if (is_new) all.counts.push_back(0);
      ++all.counts[found->second];
      all.users.push_back(found->second);
      all.tokens.insert(all.tokens.end(), batch.tokens.begin() + batch.token_offsets[i],
                        batch.tokens.begin() + batch.token_offsets[i + 1]);
      all.token_offsets.push_back(all.tokens.size());
    }
  }
  note_repaired_lines(reader, path);
  return all;
}

// The posts of the users that have at least two.
UserPosts by_user(const FilePosts& all) {
  std::vector<std::size_t> next(all.counts.size());  // where each user's next post goes
  UserPosts result;
  for (std::size_t user = 0; user < all.counts.size(); ++user) {
    if (all.counts[user] < 2) continue;
    next[user] = result.offsets.back();
    result.offsets.push_back(result.offsets.back() + all.counts[user]);
  }
  std::vector<std::size_t> order(result.offsets.back());
  for (std::size_t post = 0; post < all.users.size(); ++post) {
    const std::uint32_t user = all.users[post];
    if (all.counts[user] >= 2) order[next[user]++] = post;
  }
  for (const std::size_t post : order) {
    result.tokens.insert(result.tokens.end(),
                         all.tokens.begin() + static_cast<std::ptrdiff_t>(all.token_offsets[post]),
                         all.tokens.begin() + static_cast<std::ptrdiff_t>(all.token_offsets[post + 1]));
    result.token_offsets.push_back(result.tokens.size());
  }
  return result;
}

std::vector<float> encode(TrainedModel& trained, const UserPosts& posts) {
  const std::size_t dim = trained.model->dim();
  std::vector<float> vectors(posts.posts() * dim);
  PackedBatch batch;
  for (std::size_t begin = 0; begin < posts.posts(); begin += kEncodedAtOnce) {
    batch.clear();
    for (std::size_t post = begin; post < std::min(posts.posts(), begin + kEncodedAtOnce); ++post) {
      const auto tokens = posts.tokens_of(post);
      batch.tokens.insert(batch.tokens.end(), tokens.begin(), tokens.end());
      batch.end_post();
    }
    trained.encode(batch, vectors.data() + begin * dim);
  }
  return vectors;
}

struct Figures {
  double precision_at_1 = 0;
  double recall_at_10 = 0;
  double recall_at_50 = 0;
};

Figures figures_of(std::span<const std::uint32_t> ranks) {
  const auto share = [&](std::uint32_t k) {
    const auto found =
        std::count_if(ranks.begin(), ranks.end(), [&](std::uint32_t rank) { return rank <= k; });
    return static_cast<double>(found) / static_cast<double>(ranks.size());
  };
  return {share(1), share(10), share(50)};
}

void put(Json& json, const Figures& figures) {
  json["precision_at_1"] = figures.precision_at_1;
  json["recall_at_10"] = figures.recall_at_10;
  json["recall_at_50"] = figures.recall_at_50;
}

std::string row(const std::string& name, const Figures& figures) {
  return fmt::format("{:<32}{:>8.2f}{:>8.2f}{:>8.2f}\n", name, 100 * figures.precision_at_1,
                     100 * figures.recall_at_10, 100 * figures.recall_at_50);
}

int recommend(const Arguments& arguments) {
  const RecommendationConfig& config = arguments.config;
  TrainedModel trained = arguments.run.load(TrainedModel::Parts::vectors);
  const std::string name = trained.run.experiment().name;
  const UserPosts posts = [&] {
    const FilePosts all = read_posts(arguments.posts, trained);
    UserPosts grouped = by_user(all);
    if (grouped.users() < 2) {
      throw Error(fmt::format(
          "'{}' has {} with two posts or more, of {} users; at least 2 are needed, as a user's "
          "last post is ranked among those of other users",
          arguments.posts.string(), grouped.users() == 1 ? "1 user" : "no user", all.counts.size()));
    }
    return grouped;
  }();
  if (config.others > posts.users() - 1) {
    throw Error(fmt::format(
        "--others {}: '{}' has {} users with two posts or more, so at most {} other posts can be drawn",
        config.others, arguments.posts.string(), posts.users(), posts.users() - 1));
  }
  const RecommendationRanks ranks =
      rank_held_out_posts(posts, encode(trained, posts), trained.model->dim(), config, *trained.context);

  const std::size_t candidates = config.others > 0 ? config.others + 1 : posts.users();
  const std::size_t earlier = posts.posts() - posts.users();
  const Figures encoder = figures_of(ranks.encoder);
  Json json = {{"users", posts.users()}, {"earlier_posts", earlier}, {"candidates", candidates}};
  put(json, encoder);
  std::string table = fmt::format(
      "{} users with two posts or more, {} earlier posts, {} candidates for each "
      "user\n\n{:<32}{:>8}{:>8}{:>8}\n",
      format_count(posts.users()), format_count(earlier), format_count(candidates), "", "P@1 %", "R@10 %",
      "R@50 %");
  table += row(name, encoder);
  if (config.bag_of_words) {
    const Figures words = figures_of(ranks.bag_of_words);
    const Figures both = figures_of(ranks.both);
    put(json["bag_of_words"], words);
    put(json["with_bag_of_words"], both);
    json["with_bag_of_words"]["weight"] = config.weight;
    table += row("bag of words", words);
    table += row(config.weight == 1 ? name + " + bag of words"
                                    : fmt::format("{} + {} * bag of words", name, config.weight),
                 both);
  }

  arguments.figures.write(json, table, arguments.posts);
  return kSuccess;
}

}  // namespace

Command add_recommend(CLI::App& program) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* app =
      program.add_subcommand("recommend", "How well post vectors tell which post of many is a user's next");
  arguments->run.add_to(*app);
  arguments->run.add_device_to(*app);
  app->add_option("--posts", arguments->posts,
                  "File of posts, .jsonl with a \"user\" in every line; those of a user oldest first")
      ->required()
      ->option_text("FILE REQUIRED");
  arguments->figures.add_to(*app);
  CLI::Option* words =
      app->add_flag("--bag-of-words", arguments->config.bag_of_words,
                    "Also rank by the posts' words alone (tf-idf), and by the sum of both scores");
  app->add_option("--weight", arguments->config.weight, "Weight of the words' score in the sum")
      ->check(CLI::Range(0.0, 1e6))
      ->needs(words)
      ->option_text("X (1)");
  CLI::Option* others =
      app->add_option("--others", arguments->config.others,
                      "Rank a user's last post among this many others, drawn at random; 0: among all")
          ->check(CLI::Range(std::size_t{0}, std::size_t{0xFFFFFFFF}))
          ->option_text("N (0)");
  app->add_option("--seed", arguments->config.seed, "Decides which others are drawn")
      ->needs(others)
      ->option_text("N (1)");
  app->footer(
      "The last post of every user with two or more is held out, and ranked among the held-out posts of all "
      "users by the largest cosine of its vector to the vectors of the user's earlier posts; ties count "
      "against. (The #TagSpace paper's second task.)\n"
      "P@1, R@10, R@50: share of users whose own held-out post comes first, is among the first 10, the first "
      "50.\n"
      "Bag of words: the cosine of tf-idf vectors of the run's tokens, idf from the earlier posts. In the "
      "sum "
      "each score is divided by its standard deviation over the user's candidates.");
  return {app, [arguments] { return recommend(*arguments); }};
}

}  // namespace tagspace
