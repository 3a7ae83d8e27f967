#include "app/run_folder.h"

#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/files.h"

namespace tagspace {
namespace {

using Json = nlohmann::ordered_json;

std::filesystem::path config_path(const std::filesystem::path& run) { return run / "config.json"; }
std::filesystem::path tokenizer_path(const std::filesystem::path& run) { return run / "tokenizer"; }
std::filesystem::path hashtags_path(const std::filesystem::path& run) { return run / "hashtags.tsv"; }
std::filesystem::path features_path(const std::filesystem::path& run) { return run / "features.safetensors"; }

void write_config(const std::filesystem::path& run, const Experiment& experiment) {
  Json document = {{"format", RunFolder::kFormat}};
  document.update(experiment_to_json(experiment));
  write_file(config_path(run), document.dump(2) + "\n");
}

Experiment read_config(const std::filesystem::path& run) {
  const std::filesystem::path path = config_path(run);
  if (!path_exists(run)) throw Error("there is no run folder '" + run.string() + "'");
  if (!path_exists(path)) {
    throw Error("'" + run.string() + "' is no run folder of tagspace: it has no config.json");
  }
  Json document = parse_json(read_file(path), path.string());
  if (!document.is_object() || !document.contains("format") || !document["format"].is_number_unsigned()) {
    throw Error("'" + path.string() + "' does not say its \"format\": it is no config of a run folder");
  }
  // Before anything else: a newer format may have keys that this program does not know.
  const auto format = document["format"].get<std::uint64_t>();
  if (format > RunFolder::kFormat) {
    throw Error("the run folder '" + run.string() + "' has format " + std::to_string(format) +
                ", but this program reads formats up to " + std::to_string(RunFolder::kFormat) +
                "; use a newer version of tagspace");
  }
  document.erase("format");
  return experiment_from_json(document, path.string());
}

// Removes a new run's files again unless it is kept.
class Undo {
 public:
  explicit Undo(std::filesystem::path run) : run_(std::move(run)) {
    std::error_code error;
    // Parents that must be made are remembered, to be removed again.
    for (auto folder = run_; !folder.empty() && !std::filesystem::exists(folder, error);
         folder = folder.parent_path()) {
      made_.push_back(folder);
    }
  }
  ~Undo() {
    if (kept_) return;
    std::error_code error;
    std::filesystem::remove_all(tokenizer_path(run_), error);
    std::filesystem::remove(hashtags_path(run_), error);
    std::filesystem::remove(features_path(run_), error);
    std::filesystem::remove(config_path(run_), error);
    for (const auto& folder : made_) std::filesystem::remove(folder, error);  // only if empty
  }
  Undo(const Undo&) = delete;
  Undo& operator=(const Undo&) = delete;
  Undo(Undo&&) = delete;
  Undo& operator=(Undo&&) = delete;

  void keep() { kept_ = true; }

 private:
  std::filesystem::path run_;
  std::vector<std::filesystem::path> made_;  // innermost first
  bool kept_ = false;
};

}  // namespace

bool path_exists(const std::filesystem::path& path) {
  std::error_code error;
  const bool there = std::filesystem::exists(path, error);
  if (error) throw Error("cannot look for '" + path.string() + "': " + error.message());
  return there;
}

RunFolder::RunFolder(std::filesystem::path path, Experiment experiment)
    : path_(std::move(path)), experiment_(std::move(experiment)) {}

RunFolder::RunFolder(std::filesystem::path path) : path_(std::move(path)), experiment_(read_config(path_)) {}

void RunFolder::check_free(const std::filesystem::path& path) {
  if (!path_exists(path)) return;
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) {
    throw Error("the output '" + path.string() + "' is a file, but must be a folder");
  }
  const bool empty = std::filesystem::is_empty(path, error);
  if (error) throw Error("cannot read the output folder '" + path.string() + "': " + error.message());
  if (empty) return;
  if (path_exists(config_path(path))) {
    throw Error("there is a run in '" + path.string() +
                "' already; go on with it by --resume, or choose another --output");
  }
  throw Error("the output folder '" + path.string() + "' is not empty; choose another --output");
}

RunFolder RunFolder::create(const std::filesystem::path& path, const Experiment& experiment,
                            const Tokenizer& tokenizer, const std::optional<PostFeatures>& features,
                            const HashtagVocabulary& hashtags) {
  check_free(path);
  Undo undo(path);
  create_folder(tokenizer_path(path));
  tokenizer.save(tokenizer_path(path));
  hashtags.save(hashtags_path(path));
  if (features) features->save(features_path(path));
  // Last: a folder with a config is a run.
  write_config(path, experiment);
  undo.keep();
  return {path, experiment};
}

void RunFolder::replace_experiment(const Experiment& experiment) {
  write_config(path_, experiment);
  experiment_ = experiment;
}

std::unique_ptr<Tokenizer> RunFolder::load_tokenizer() const {
  auto tokenizer = Tokenizer::load(tokenizer_path(path_));
  if (tokenizer->vocab_size() == 0) {
    throw Error("'" + tokenizer_path(path_).string() + "' is damaged: its vocabulary (words.tsv) is empty");
  }
  return tokenizer;
}

HashtagVocabulary RunFolder::load_hashtags() const {
  HashtagVocabulary hashtags = HashtagVocabulary::load(hashtags_path(path_));
  if (hashtags.size() < 2) {
    throw Error("'" + hashtags_path(path_).string() + "' is damaged: it holds fewer than two hashtags");
  }
  return hashtags;
}

std::optional<PostFeatures> RunFolder::load_features(const Tokenizer& tokenizer) const {
  const PostFeatures::Kinds kinds = experiment_.features;
  if (!kinds.any()) return std::nullopt;
  return PostFeatures::load(features_path(path_), token_texts(tokenizer), kinds);
}

void RunFolder::remove_partial_files() const {
  std::error_code error;
  std::vector<std::filesystem::path> partial;
  for (const auto& entry : std::filesystem::directory_iterator(path_, error)) {
    if (entry.path().extension() == ".partial") partial.push_back(entry.path());
  }
  for (const auto& file : partial) std::filesystem::remove(file, error);
}

}  // namespace tagspace
