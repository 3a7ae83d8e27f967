// The experiment file: one JSON object that says everything about a training, read strictly.
//
// Every key stands once in a table of options (experiment.cc): path, type, range, default and description.
// The parser, the complete copy in the run folder, the JSON Schema and the reference in the docs all come
// from it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "data_pipeline/corpus.h"
#include "data_pipeline/tokenizer.h"
#include "model/lexical/post_features.h"
#include "model/model.h"

namespace tagspace {

enum class Schedule { constant, linear };
enum class LexicalType { none, linear, naive_bayes, neighbors };
enum class LexicalMixture { learnt, alone };
enum class Metric { precision_at_1, recall_at_10, mrr, mean_rank };

struct Experiment {
  std::string name;
  DataConfig data;
  TokenizerConfig tokenizer;
  // The sections encoder, loss and optimizer, and the seed. vocab_size, hashtags and threads are filled in
  // when the data has been read (model_config()).
  ModelConfig model;
  PostFeatures::Kinds features;          // of the encoder bag
  std::uint32_t features_min_count = 2;  // posts that have one, at least
  std::filesystem::path pretrained;      // word vectors to begin with; may be empty
  Schedule schedule = Schedule::constant;
  std::uint32_t skipgram_window = 5;

  struct Training {
    std::uint32_t epochs = 20;
    std::uint32_t bag_epochs = 0;
    std::uint32_t batch_size = 512;
    std::string device = "auto";
    std::uint32_t threads = 0;
    Metric metric = Metric::recall_at_10;
    std::uint32_t patience = 3;
  } training;
  struct {
    LexicalType type = LexicalType::none;
    LexicalMixture mixture = LexicalMixture::learnt;
    std::uint32_t epochs = 20;
    float learning_rate = 0.05F;
    float smoothing = 10000;
    std::uint32_t neighbors = 100;
  } lexical;

  // Whether there are vectors to train: not where a model of words is to stand alone.
  [[nodiscard]] bool has_vectors() const {
    return lexical.type == LexicalType::none || lexical.mixture == LexicalMixture::learnt;
  }
};

// One key of the experiment file.
struct Option {
  enum class Kind { text, path, integer, number, boolean, choice };

  std::string path;  // "loss.margin"
  std::string description;
  Kind kind = Kind::text;

  bool may_be_empty = false;   // of a path
  bool required = false;       // no default: must be given
  bool changes_result = true;  // false: may differ when a training is resumed
  std::string default_of;      // the default is the value of this other key
  // The range of an integer or number.
  double minimum = 0;
  double maximum = 0;
  bool above_minimum = false;  // the minimum itself is not allowed
  bool below_maximum = false;  // nor is the maximum
  std::vector<std::string> choices;
  std::string pattern;          // of a text: an ECMAScript regular expression for the whole of it...
  std::string pattern_meaning;  // ...and in words

  // The key has a meaning, and is allowed, only while another has this value; with `unless`, any other.
  struct Condition {
    std::string path;
    nlohmann::ordered_json value;
    bool unless = false;

    // "lexical.type is not "none"".
    [[nodiscard]] std::string text() const;
    friend bool operator==(const Condition&, const Condition&) = default;
  };
  std::optional<Condition> only_with;

  std::function<nlohmann::ordered_json(const Experiment&)> get;
  std::function<void(Experiment&, const nlohmann::ordered_json&)> set;  // takes a checked value

  // "a number from 0 to 1000": what an error message says is allowed.
  [[nodiscard]] std::string allowed() const;
  // Whether only_with holds.
  [[nodiscard]] bool applies(const Experiment& experiment) const;
};

// All keys, in the order in which they are written.
[[nodiscard]] const std::vector<Option>& experiment_options();
// The option of this path; a std::logic_error if there is none.
[[nodiscard]] const Option& experiment_option(const std::string& path);

// Which argument a value comes from, by path of the key, if not from the file: for messages.
using ValueOrigins = std::map<std::string, std::string>;

// JSON text to a value, strictly: Errors name `file`, line and column; a key twice in one object is an Error.
[[nodiscard]] nlohmann::ordered_json parse_json(const std::string& text, const std::string& file);

// Puts the value of "a.b=value" into `document`: value is JSON, or else taken as text; null takes the key
// out, so that its default holds. Errors name the argument.
void apply_setting(nlohmann::ordered_json& document, const std::string& setting, ValueOrigins& origins);

// Checks everything and fills in the defaults. Errors name the file (or the argument), the key, what was
// found and what is allowed. `file` is for messages.
[[nodiscard]] Experiment experiment_from_json(const nlohmann::ordered_json& document, const std::string& file,
                                              const ValueOrigins& origins = {});

// Reads an experiment file and applies "a.b=value" settings to it.
[[nodiscard]] Experiment load_experiment(const std::filesystem::path& path,
                                         const std::vector<std::string>& settings);

// Every key that has a meaning, defaults written out; reads back as the same experiment.
[[nodiscard]] nlohmann::ordered_json experiment_to_json(const Experiment& experiment);

// The first key by which the two would train another model, described with both values; none if there is
// none.
[[nodiscard]] std::optional<std::string> first_difference(const Experiment& theirs, const Experiment& ours);

// Replaces the paths by absolute ones.
void make_paths_absolute(Experiment& experiment);

// The JSON Schema (draft 2020-12), and the reference as a Markdown table a section.
[[nodiscard]] nlohmann::ordered_json experiment_schema();
[[nodiscard]] std::string experiment_reference();

// The experiment's model section, completed by what is known once the data has been read. `features` if the
// experiment has some.
[[nodiscard]] ModelConfig model_config(const Experiment& experiment, const Tokenizer& tokenizer,
                                       const std::optional<PostFeatures>& features,
                                       const HashtagVocabulary& hashtags, std::uint32_t threads);

// The words of the file for an enum's value.
[[nodiscard]] const char* to_string(EncoderType value);
[[nodiscard]] const char* to_string(LossType value);
[[nodiscard]] const char* to_string(ScoreType value);
[[nodiscard]] const char* to_string(NegativesType value);
[[nodiscard]] const char* to_string(Metric value);

}  // namespace tagspace
