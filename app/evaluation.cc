#include "app/evaluation.h"

#include <algorithm>
#include <fmt/format.h>
#include <string_view>

#include "app/progress.h"

namespace tagspace {
namespace {

using Json = nlohmann::ordered_json;

double ratio(double sum, std::uint64_t count) { return count > 0 ? sum / static_cast<double>(count) : 0; }

void put_metrics(Json& json, const RankingMetrics& sums) {
  const RankingMetrics averages = sums.averages();
  json["precision_at_1"] = averages.precision_at_1;
  json["recall_at_10"] = averages.recall_at_10;
  json["mean_rank"] = averages.mean_rank;
  json["mrr"] = averages.mrr;
}

std::string table_row(const std::string& name, const RankingMetrics& sums) {
  const RankingMetrics averages = sums.averages();
  return fmt::format("{:<24}{:>8.2f}{:>8.2f}{:>12.1f}{:>9.4f}\n", name, 100 * averages.precision_at_1,
                     100 * averages.recall_at_10, averages.mean_rank, averages.mrr);
}

std::string table_row(const char* name, const Reliability& answers) {
  const Json figures = answers.to_json();
  const auto percent = [&](const char* key) { return 100 * figures[key].get<double>(); };
  return fmt::format("{:<24}{:>10}{:>9.2f}{:>9.2f}{:>9.2f}{:>13.2f}{:>9.4f}\n", name,
                     format_count(answers.answers()), percent("mean_probability"), percent("used_share"),
                     percent("expected_calibration_error"), percent("expected_calibration_error_by_chance"),
                     figures["brier"].get<double>());
}

}  // namespace

std::array<FrequencyGroup, 3> frequency_groups(const HashtagVocabulary& hashtags) {
  std::array<FrequencyGroup, 3> groups;
  groups[0].name = "frequent";
  groups[1].name = "middling";
  groups[2].name = "rare";
  std::uint64_t total = 0;
  for (std::uint32_t id = 0; id < hashtags.size(); ++id) total += hashtags[id].count;
  std::uint64_t before = 0;
  std::uint32_t id = 0;
  for (std::size_t group = 0; group < groups.size(); ++group) {
    groups[group].begin = id;
    // A hashtag belongs to the third in which its first occurrence falls.
    while (id < hashtags.size() && before * groups.size() < total * (group + 1))
      before += hashtags[id++].count;
    groups[group].end = id;
  }
  groups.back().end = hashtags.size();
  return groups;
}

std::vector<std::uint32_t> hashtags_among_words(const Post& post, const HashtagVocabulary& hashtags) {
  std::vector<std::uint32_t> ids;
  for (const std::string_view word : split_words(post.text)) {
    const std::string name = normalize_hashtag(word);
    if (name.empty()) continue;
    if (const auto id = hashtags.find(name)) ids.push_back(*id);
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

std::vector<std::uint32_t> baseline_ranks(std::span<const std::uint32_t> first,
                                          std::span<const std::uint32_t> own) {
  std::vector<std::uint32_t> ranks;
  ranks.reserve(own.size());
  for (const std::uint32_t id : own) {
    const auto place = std::lower_bound(first.begin(), first.end(), id);
    const auto before = static_cast<std::uint32_t>(place - first.begin());
    const bool is_first = place != first.end() && *place == id;
    // Behind the table's earlier hashtags, or those of `first`, and the later ones that are first.
    ranks.push_back(1 + (is_first ? before : id + static_cast<std::uint32_t>(first.size()) - before));
  }
  return ranks;
}

Evaluation::Evaluation(const HashtagVocabulary& hashtags)
    : hashtags_(&hashtags), groups_(frequency_groups(hashtags)) {}

Evaluation::PostResult Evaluation::measure(const Post& post, std::span<const std::uint32_t> own,
                                           std::span<const std::uint32_t> ranks, std::uint32_t predicted,
                                           std::span<const std::uint32_t> vector_ranks) const {
  PostResult result;
  result.model.add(ranks);
  if (!vector_ranks.empty()) result.vectors.add(vector_ranks);
  result.frequency.add(baseline_ranks({}, own));
  result.words.add(baseline_ranks(hashtags_among_words(post, *hashtags_), own));

  const bool correct = std::find(ranks.begin(), ranks.end(), 1U) != ranks.end();
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    const FrequencyGroup& group = groups_[i];
    FrequencyGroup& sums = result.groups[i];
    std::uint32_t carried = 0;
    std::uint32_t found = 0;
    for (std::size_t j = 0; j < own.size(); ++j) {
      if (own[j] < group.begin || own[j] >= group.end) continue;
      ++carried;
      if (ranks[j] <= 10) ++found;
    }
    if (carried > 0) {
      sums.posts = 1;
      sums.recall_at_10 = static_cast<double>(found) / carried;
    }
    if (predicted >= group.begin && predicted < group.end) {
      sums.predictions = 1;
      sums.correct = correct ? 1 : 0;
    }
  }
  return result;
}

void Evaluation::add(const PostResult& result) {
  model_ += result.model;
  vectors_ += result.vectors;
  frequency_ += result.frequency;
  words_ += result.words;
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    groups_[i].posts += result.groups[i].posts;
    groups_[i].recall_at_10 += result.groups[i].recall_at_10;
    groups_[i].predictions += result.groups[i].predictions;
    groups_[i].correct += result.groups[i].correct;
  }
  for (std::size_t i = 0; i < result.answers.size(); ++i) {
    const Answer& answer = result.answers[i];
    if (i == 0) first_answers_.add(answer.probability, answer.used);
    first_ten_.add(answer.probability, answer.used);
  }
}

Json Evaluation::to_json() const {
  Json json = {{"posts", model_.posts}, {"hashtags", hashtags_->size()}};
  put_metrics(json, model_);
  if (vectors_.posts > 0) put_metrics(json["vectors_alone"], vectors_);
  put_metrics(json["baselines"]["frequency"], frequency_);
  put_metrics(json["baselines"]["words"], words_);
  for (const FrequencyGroup& group : groups_) {
    const bool empty = group.begin == group.end;
    json["by_frequency"][group.name] = {
        {"hashtags", group.end - group.begin},
        {"most_training_posts", empty ? 0 : (*hashtags_)[group.begin].count},
        {"fewest_training_posts", empty ? 0 : (*hashtags_)[group.end - 1].count},
        {"posts", group.posts},
        {"recall_at_10", ratio(group.recall_at_10, group.posts)},
        {"predictions", group.predictions},
        {"precision_at_1", ratio(static_cast<double>(group.correct), group.predictions)},
    };
  }
  if (first_answers_.answers() > 0) {
    json["probabilities"]["first_answer"] = first_answers_.to_json();
    json["probabilities"]["first_ten_answers"] = first_ten_.to_json();
  }
  return json;
}

std::string Evaluation::to_table(const std::string& name) const {
  std::string text = fmt::format("{} posts with a hashtag of the table, {} hashtags\n\n",
                                 format_count(model_.posts), format_count(hashtags_->size()));
  text += fmt::format("{:<24}{:>8}{:>8}{:>12}{:>9}\n", "", "P@1 %", "R@10 %", "mean rank", "MRR");
  text += table_row(name, model_);
  if (vectors_.posts > 0) text += table_row("its vectors alone", vectors_);
  text += table_row("#words", words_) + table_row("frequency", frequency_);
  text += fmt::format("\n{:<12}{:>10}{:>20}{:>10}{:>9}{:>14}{:>9}\n", "hashtags", "number", "training posts",
                      "posts", "R@10 %", "ranked first", "P@1 %");
  for (const FrequencyGroup& group : groups_) {
    const bool empty = group.begin == group.end;
    const std::string counts =
        empty ? "-"
              : fmt::format("{}-{}", (*hashtags_)[group.end - 1].count, (*hashtags_)[group.begin].count);
    text += fmt::format("{:<12}{:>10}{:>20}{:>10}{:>9.2f}{:>14}{:>9.2f}\n", group.name,
                        format_count(group.end - group.begin), counts, format_count(group.posts),
                        100 * ratio(group.recall_at_10, group.posts), format_count(group.predictions),
                        100 * ratio(static_cast<double>(group.correct), group.predictions));
  }
  if (first_answers_.answers() > 0) {
    text += fmt::format("\n{:<24}{:>10}{:>9}{:>9}{:>9}{:>13}{:>9}\n", "probabilities", "answers", "mean %",
                        "used %", "ECE %", "by chance %", "Brier");
    text += table_row("first answer", first_answers_) + table_row("first ten answers", first_ten_);
  }
  return text;
}

}  // namespace tagspace
