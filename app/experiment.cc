#include "app/experiment.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <fmt/format.h>
#include <limits>
#include <regex>
#include <set>
#include <stdexcept>
#include <string_view>
#include <type_traits>
#include <utility>

#include "app/suggest.h"
#include "base/error.h"
#include "base/files.h"

namespace tagspace {
namespace {

using Json = nlohmann::ordered_json;

// ---------------------------------------------------------------------------------------------- names of
// enums

template <typename Enum>
struct Named {
  Enum value;
  const char* name;
};

template <typename Enum>
struct Names;
template <>
struct Names<TokenizerType> {
  static constexpr std::array kAll{Named<TokenizerType>{TokenizerType::sentencepiece, "sentencepiece"},
                                   Named<TokenizerType>{TokenizerType::word, "word"}};
};
template <>
struct Names<EncoderType> {
  static constexpr std::array kAll{Named<EncoderType>{EncoderType::cnn, "cnn"},
                                   Named<EncoderType>{EncoderType::bag, "bag"}};
};
template <>
struct Names<LossType> {
  static constexpr std::array kAll{
      Named<LossType>{LossType::warp, "warp"},       Named<LossType>{LossType::hinge, "hinge"},
      Named<LossType>{LossType::bpr, "bpr"},         Named<LossType>{LossType::starspace, "starspace"},
      Named<LossType>{LossType::softmax, "softmax"}, Named<LossType>{LossType::skipgram, "skipgram"}};
};
template <>
struct Names<LexicalType> {
  static constexpr std::array kAll{Named<LexicalType>{LexicalType::none, "none"},
                                   Named<LexicalType>{LexicalType::linear, "linear"},
                                   Named<LexicalType>{LexicalType::naive_bayes, "naive_bayes"},
                                   Named<LexicalType>{LexicalType::neighbors, "neighbors"}};
};
template <>
struct Names<LexicalMixture> {
  static constexpr std::array kAll{Named<LexicalMixture>{LexicalMixture::learnt, "learnt"},
                                   Named<LexicalMixture>{LexicalMixture::alone, "alone"}};
};
template <>
struct Names<ScoreType> {
  static constexpr std::array kAll{Named<ScoreType>{ScoreType::dot, "dot"},
                                   Named<ScoreType>{ScoreType::cosine, "cosine"}};
};
template <>
struct Names<PoolingType> {
  static constexpr std::array kAll{Named<PoolingType>{PoolingType::mean, "mean"},
                                   Named<PoolingType>{PoolingType::sqrtn, "sqrtn"}};
};
template <>
struct Names<NegativesType> {
  static constexpr std::array kAll{Named<NegativesType>{NegativesType::automatic, "auto"},
                                   Named<NegativesType>{NegativesType::sampled, "sampled"},
                                   Named<NegativesType>{NegativesType::shared, "shared"},
                                   Named<NegativesType>{NegativesType::exact, "exact"}};
};
template <>
struct Names<RankWeightType> {
  static constexpr std::array kAll{Named<RankWeightType>{RankWeightType::harmonic, "harmonic"},
                                   Named<RankWeightType>{RankWeightType::log, "log"},
                                   Named<RankWeightType>{RankWeightType::linear, "linear"}};
};
template <>
struct Names<OptimizerType> {
  static constexpr std::array kAll{Named<OptimizerType>{OptimizerType::adagrad, "adagrad"},
                                   Named<OptimizerType>{OptimizerType::sgd, "sgd"}};
};
template <>
struct Names<RowUpdateMode> {
  static constexpr std::array kAll{Named<RowUpdateMode>{RowUpdateMode::deterministic, "deterministic"},
                                   Named<RowUpdateMode>{RowUpdateMode::hogwild, "hogwild"}};
};
template <>
struct Names<TableFormat> {
  static constexpr std::array kAll{Named<TableFormat>{TableFormat::float32, "float32"},
                                   Named<TableFormat>{TableFormat::bfloat16, "bfloat16"}};
};
template <>
struct Names<Schedule> {
  static constexpr std::array kAll{Named<Schedule>{Schedule::constant, "constant"},
                                   Named<Schedule>{Schedule::linear, "linear"}};
};
template <>
struct Names<Metric> {
  static constexpr std::array kAll{Named<Metric>{Metric::precision_at_1, "precision_at_1"},
                                   Named<Metric>{Metric::recall_at_10, "recall_at_10"},
                                   Named<Metric>{Metric::mrr, "mrr"},
                                   Named<Metric>{Metric::mean_rank, "mean_rank"}};
};

template <typename Enum>
const char* name_of(Enum value) {
  for (const auto& named : Names<Enum>::kAll) {
    if (named.value == value) return named.name;
  }
  throw std::logic_error("an enum value without a name");
}

template <typename Enum>
Enum value_of(std::string_view name) {
  for (const auto& named : Names<Enum>::kAll) {
    if (name == named.name) return named.value;
  }
  throw std::logic_error("a choice that was not checked");
}

// -------------------------------------------------------------------------------------------- values and
// fields

// The shortest decimal number that is this float, so that 0.1F is written 0.1 and not 0.10000000149011612.
double shortest(float value) {
  std::array<char, 32> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size() - 1, value).ptr;
  *end = '\0';
  return std::strtod(text.data(), nullptr);
}

template <typename T>
constexpr Option::Kind kind_of() {
  if constexpr (std::is_same_v<T, std::string>)
    return Option::Kind::text;
  else if constexpr (std::is_same_v<T, std::filesystem::path>)
    return Option::Kind::path;
  else if constexpr (std::is_same_v<T, bool>)
    return Option::Kind::boolean;
  else if constexpr (std::is_same_v<T, float>)
    return Option::Kind::number;
  else if constexpr (std::is_enum_v<T>)
    return Option::Kind::choice;
  else
    return Option::Kind::integer;
}

template <typename T>
Json to_value(const T& field) {
  if constexpr (std::is_same_v<T, std::filesystem::path>)
    return field.string();
  else if constexpr (std::is_same_v<T, float>)
    return shortest(field);
  else if constexpr (std::is_enum_v<T>)
    return name_of(field);
  else
    return field;
}

template <typename T>
void from_value(T& field, const Json& value) {
  if constexpr (std::is_same_v<T, std::filesystem::path>)
    field = value.get<std::string>();
  else if constexpr (std::is_enum_v<T>)
    field = value_of<T>(value.get<std::string>());
  else
    field = value.get<T>();
}

// An option whose value lives in the field that `field(experiment)` returns a reference to; its default is
// what a fresh Experiment has there.
template <typename Field>
Option option(std::string path, Field field, std::string description) {
  using T = std::remove_cvref_t<std::invoke_result_t<Field, Experiment&>>;
  Option result;
  result.path = std::move(path);
  result.description = std::move(description);
  result.kind = kind_of<T>();
  result.maximum = static_cast<double>(std::numeric_limits<std::uint32_t>::max());
  if constexpr (std::is_enum_v<T>) {
    for (const auto& named : Names<T>::kAll) result.choices.emplace_back(named.name);
  }
  if constexpr (std::is_same_v<T, std::filesystem::path>) {
    const Experiment defaults;
    result.may_be_empty = field(defaults).empty();
  }
  result.get = [field](const Experiment& experiment) { return to_value<T>(field(experiment)); };
  result.set = [field](Experiment& experiment, const Json& value) {
    from_value<T>(field(experiment), value);
  };
  return result;
}

// What can be said of an option besides: table rows read as "option(...)" piped through these.
struct Range {
  double minimum;
  double maximum;
};
struct Above {  // minimum excluded
  double minimum;
  double maximum;
};
struct ShareBelow {  // from 0 to below this
  double maximum;
};
struct Required {};
struct NoEffectOnResult {};
struct DefaultOf {
  const char* path;
};
struct OnlyWith {
  const char* path;
  const char* value;
};
struct OnlyUnless {
  const char* path;
  const char* value;
};
struct Pattern {
  const char* expression;
  const char* meaning;
};

Option operator|(Option option, Range range) {
  option.minimum = range.minimum;
  option.maximum = range.maximum;
  return option;
}
Option operator|(Option option, Above range) {
  option.minimum = range.minimum;
  option.maximum = range.maximum;
  option.above_minimum = true;
  return option;
}
Option operator|(Option option, ShareBelow range) {
  option.minimum = 0;
  option.maximum = range.maximum;
  option.below_maximum = true;
  return option;
}
Option operator|(Option option, Required /*unused*/) {
  option.required = true;
  option.may_be_empty = false;
  return option;
}
Option operator|(Option option, NoEffectOnResult /*unused*/) {
  option.changes_result = false;
  return option;
}
Option operator|(Option option, DefaultOf other) {
  option.default_of = other.path;
  return option;
}
Option operator|(Option option, OnlyWith condition) {
  option.only_with = Option::Condition{condition.path, condition.value};
  return option;
}
Option operator|(Option option, OnlyUnless condition) {
  option.only_with = Option::Condition{condition.path, condition.value, true};
  return option;
}
Option operator|(Option option, Pattern pattern) {
  option.pattern = pattern.expression;
  option.pattern_meaning = pattern.meaning;
  return option;
}

// A generic lambda serves a constant and a changing experiment alike.
#define TAGSPACE_FIELD(member) ([](auto& experiment) -> auto& { return experiment.member; })

std::vector<Option> make_options() {
  constexpr OnlyWith kCnnOnly{"encoder.type", "cnn"};
  constexpr OnlyWith kBagOnly{"encoder.type", "bag"};
  std::vector<Option> all;
  // clang-format off
  all.push_back(option("name", TAGSPACE_FIELD(name),
      "Name of the experiment; the run folder is runs/NAME unless --output says otherwise.")
      | Required{} | NoEffectOnResult{}
      | Pattern{"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", "letters, digits, '.', '_' and '-', at most 100, the first a letter or digit"});
  all.push_back(option("seed", TAGSPACE_FIELD(model.seed),
      "Decides every random choice: first vectors, order of posts, positives, negatives, dropout. The same seed gives the same model.")
      | Range{0, 9007199254740991.0});

  all.push_back(option("data.train", TAGSPACE_FIELD(data.train),
      "Posts to train on: .txt (one post a line, hashtags inline), .jsonl, or lines with __label__tag; also .gz or .zst. Relative to the working directory.")
      | Required{});
  all.push_back(option("data.valid", TAGSPACE_FIELD(data.valid),
      "Posts to validate on after every epoch: decides the best checkpoint and early stopping.")
      | Required{});
  all.push_back(option("data.test", TAGSPACE_FIELD(data.test),
      "Posts that evaluate uses when no others are named; empty: those of data.valid.")
      | NoEffectOnResult{});
  all.push_back(option("data.cache", TAGSPACE_FIELD(data.cache),
      "Folder where tokenized corpora are kept and found again.")
      | NoEffectOnResult{});
  all.push_back(option("data.hashtags.min_count", TAGSPACE_FIELD(data.min_count),
      "Hashtags on fewer training posts than this are left out of the hashtag table.")
      | Range{1, 1e9});
  all.push_back(option("data.hashtags.max_size", TAGSPACE_FIELD(data.max_size),
      "The most hashtags in the table; the most frequent stay.")
      | Range{2, 1e8});

  all.push_back(option("tokenizer.type", TAGSPACE_FIELD(tokenizer.type),
      "sentencepiece: subwords, trained on the training posts or given. word: the most frequent words, as in the paper."));
  all.push_back(option("tokenizer.model", TAGSPACE_FIELD(tokenizer.model),
      "A sentencepiece .model file to use; empty: one is trained on the training posts.")
      | OnlyWith{"tokenizer.type", "sentencepiece"});
  all.push_back(option("tokenizer.vocab_size", TAGSPACE_FIELD(tokenizer.vocab_size),
      "The most tokens in the vocabulary. A given tokenizer.model has a size of its own.")
      | Range{2, 1e7} | OnlyWith{"tokenizer.model", ""});
  all.push_back(option("tokenizer.min_count", TAGSPACE_FIELD(tokenizer.min_count),
      "Words that occur less often in the training posts are left out.")
      | Range{1, 1e9} | OnlyWith{"tokenizer.type", "word"});
  all.push_back(option("tokenizer.lowercase", TAGSPACE_FIELD(tokenizer.lowercase),
      "Lower-case the text. Hashtags are lower-cased always."));
  all.push_back(option("tokenizer.max_tokens", TAGSPACE_FIELD(tokenizer.max_tokens),
      "Tokens of a post beyond this number are left out.")
      | Range{1, 32768});

  all.push_back(option("encoder.type", TAGSPACE_FIELD(model.encoder),
      "cnn: convolution, maximum over the post, linear layer (#TagSpace). bag: the mean of the word vectors (WSABIE), or a sum of more vectors."));
  all.push_back(option("encoder.dim", TAGSPACE_FIELD(model.dim),
      "Length of word, post and hashtag vectors.")
      | Range{1, 8192});
  all.push_back(option("encoder.window", TAGSPACE_FIELD(model.window),
      "Tokens that a filter of the convolution sees.")
      | Range{1, 64} | kCnnOnly);
  all.push_back(option("encoder.filters", TAGSPACE_FIELD(model.filters),
      "Filters of the convolution.")
      | Range{1, 65536} | kCnnOnly);
  all.push_back(option("encoder.pairs", TAGSPACE_FIELD(features.pairs),
      "Pairs of neighbouring words have vectors of their own, which the bag takes up beside those of the words.")
      | kBagOnly);
  all.push_back(option("encoder.beginnings", TAGSPACE_FIELD(features.beginnings),
      "So have the first 4, 5 and 6 letters of words.")
      | kBagOnly);
  all.push_back(option("encoder.min_count", TAGSPACE_FIELD(features_min_count),
      "Pairs and beginnings that fewer training posts have are left out.")
      | Range{1, 1e9} | kBagOnly);
  all.push_back(option("encoder.pooling", TAGSPACE_FIELD(model.pooling),
      "How the bag's n vectors become one: their mean, or sqrtn: their sum divided by the square root of n.")
      | kBagOnly);
  all.push_back(option("encoder.initial_scale", TAGSPACE_FIELD(model.initial_scale),
      "Standard deviation of the first word and hashtag vectors.")
      | Above{0, 100});
  all.push_back(option("encoder.pretrained", TAGSPACE_FIELD(pretrained),
      "Word vectors that the words which it has begin with: a file of word2vec's (text or binary), GloVe's or fastText's (.vec or .bin). Empty: all begin at random. A run that has a checkpoint does not read it again when it is resumed.")
      | OnlyWith{"tokenizer.type", "word"});
  all.push_back(option("encoder.word_dropout", TAGSPACE_FIELD(model.word_dropout),
      "Share of a post's tokens left out of a training step, at random.")
      | ShareBelow{1});
  all.push_back(option("encoder.dropout", TAGSPACE_FIELD(model.dropout),
      "Share of values set to zero in a training step, at random: cnn, of the features before the linear layer; bag, of the post vector.")
      | ShareBelow{1});

  all.push_back(option("loss.type", TAGSPACE_FIELD(model.loss),
      "warp: a margin loss whose weight grows with the estimated rank of the positive hashtag. hinge: a margin loss with one negative. bpr: the logistic loss with one negative. starspace: the mean margin loss of those that violate among negatives that all posts of a step share. softmax: the cross entropy over all hashtags, or over a sample. skipgram: word2vec over posts with their hashtags among the words, on the CPU; needs the bag, the cosine score and sgd."));
  all.push_back(option("loss.score", TAGSPACE_FIELD(model.score),
      "Score of a hashtag for a post: dot, the product of their vectors (the paper's), or cosine."));
  all.push_back(option("loss.margin", TAGSPACE_FIELD(model.margin),
      "A negative violates when its score exceeds the positive's minus this (warp, hinge, starspace).")
      | Range{0, 1000});
  all.push_back(option("loss.max_tries", TAGSPACE_FIELD(model.max_tries),
      "Negatives drawn in search of a violator, at most (warp).")
      | Range{1, 1e8});
  all.push_back(option("loss.rank_weight", TAGSPACE_FIELD(model.rank_weight),
      "Weight of the estimated rank r: harmonic, 1 + 1/2 + ... + 1/r (the paper's); log (LightFM's); linear (the pre-sampled form's) (warp)."));
  all.push_back(option("loss.negatives", TAGSPACE_FIELD(model.negatives),
      "Where negatives come from (warp, hinge, bpr); for a single post all ways have the same distribution. sampled: draws of its own. shared: one pool of draws for all posts of a step, searched by each in another order, which costs less memory traffic. exact, on the CPU only: all hashtags are scored, and tries and violator drawn. auto: the cheapest for the table and the last epoch's tries."));
  all.push_back(option("loss.negative_samples", TAGSPACE_FIELD(model.negative_samples),
      "Negatives that all posts of a step share (starspace, softmax); 0, with softmax: all hashtags. Or those of each pair of neighbouring words (skipgram).")
      | Range{0, 1e6});
  all.push_back(option("loss.window", TAGSPACE_FIELD(skipgram_window),
      "Words before and after a word that are its neighbours, at most.")
      | Range{1, 1000} | OnlyWith{"loss.type", "skipgram"});
  all.push_back(option("loss.all_positives", TAGSPACE_FIELD(model.all_positives),
      "Whether a step takes all hashtags of a post, each with negatives of its own, or one at random (warp, hinge, bpr)."));

  all.push_back(option("optimizer.type", TAGSPACE_FIELD(model.optimizer),
      "adagrad: one rate per value, falling with its gradients. sgd: plain steps."));
  all.push_back(option("optimizer.learning_rate", TAGSPACE_FIELD(model.learning_rate),
      "Learning rate of the word and hashtag vectors.")
      | Above{0, 1000});
  all.push_back(option("optimizer.encoder_learning_rate", TAGSPACE_FIELD(model.encoder_learning_rate),
      "Learning rate of the convolution and the linear layer.")
      | Above{0, 1000} | DefaultOf{"optimizer.learning_rate"} | kCnnOnly);
  all.push_back(option("optimizer.schedule", TAGSPACE_FIELD(schedule),
      "constant, or linear: the rates fall to zero over the epochs of training (over bag_epochs and over epochs, each)."));
  all.push_back(option("optimizer.max_norm", TAGSPACE_FIELD(model.max_norm),
      "Word and hashtag vectors longer than this are shortened to it; 0: any length.")
      | Range{0, 1e6});

  all.push_back(option("training.epochs", TAGSPACE_FIELD(training.epochs),
      "Passes over the training posts, at most.")
      | Range{1, 1e6});
  all.push_back(option("training.bag_epochs", TAGSPACE_FIELD(training.bag_epochs),
      "Epochs before those, at most, in which the post vector is the mean of the word vectors, so that both tables are trained before the convolution is; 0: none.")
      | Range{0, 1e6} | kCnnOnly);
  all.push_back(option("training.batch_size", TAGSPACE_FIELD(training.batch_size),
      "Posts in a step.")
      | Range{1, 65536});
  all.push_back(option("training.device", TAGSPACE_FIELD(training.device),
      "Where to train: auto, the first GPU if one can be used, else the CPU; cpu; cuda or cuda:N, which is an error where it cannot be used.")
      | Pattern{"^(auto|cpu|cuda(:[0-9]{1,3})?)$", "\"auto\", \"cpu\", \"cuda\" or \"cuda:N\""} | NoEffectOnResult{});
  all.push_back(option("training.row_updates", TAGSPACE_FIELD(model.row_updates),
      "deterministic: the same seed gives the same model. hogwild, on a GPU only: hashtag vectors change while others read them, which is faster, and no two trainings are alike."));
  all.push_back(option("training.table_format", TAGSPACE_FIELD(model.table_format),
      "How word and hashtag vectors are kept while training: float32; or bfloat16, on a GPU only, in half the memory and rounded at random."));
  all.push_back(option("training.threads", TAGSPACE_FIELD(training.threads),
      "Threads of the CPU; 0: one a core. Changes the speed, never the result.")
      | Range{0, 1024} | NoEffectOnResult{});
  all.push_back(option("training.early_stopping.metric", TAGSPACE_FIELD(training.metric),
      "The metric of the validation posts that decides which epoch is the best."));
  all.push_back(option("training.early_stopping.patience", TAGSPACE_FIELD(training.patience),
      "Training stops after this many epochs in a row without a better one; 0: never early.")
      | Range{0, 1e6});
  constexpr OnlyWith kLinearOnly{"lexical.type", "linear"};
  all.push_back(option("lexical.type", TAGSPACE_FIELD(lexical.type),
      "A second model, of single words: linear, a sparse linear model over words, pairs of words and beginnings of words, trained after the embedding. naive_bayes, over words and pairs of words. neighbors: the training posts of the largest tf-idf cosine over words and pairs of words vote for their hashtags. none: the embedding alone."));
  all.push_back(option("lexical.mixture", TAGSPACE_FIELD(lexical.mixture),
      "learnt: predict and evaluate rank by a mixture of both scores, fitted on the validation posts. alone: by the model of words, and no vectors are trained; what is said of them here has no meaning then.")
      | OnlyUnless{"lexical.type", "none"});
  all.push_back(option("lexical.epochs", TAGSPACE_FIELD(lexical.epochs),
      "Passes of the linear model over the training posts, at most; training.early_stopping ends them earlier.")
      | Range{1, 1e6} | kLinearOnly);
  all.push_back(option("lexical.learning_rate", TAGSPACE_FIELD(lexical.learning_rate),
      "Learning rate of the linear model.")
      | Above{0, 1000} | kLinearOnly);
  all.push_back(option("lexical.smoothing", TAGSPACE_FIELD(lexical.smoothing),
      "How many words and pairs of words of the average post every hashtag is given besides those of its own posts.")
      | Above{0, 1e9} | OnlyWith{"lexical.type", "naive_bayes"});
  all.push_back(option("lexical.neighbors", TAGSPACE_FIELD(lexical.neighbors),
      "How many training posts vote.")
      | Range{1, 1e6} | OnlyWith{"lexical.type", "neighbors"});
  // clang-format on
  return all;
}

// ------------------------------------------------------------------------------------------- words for
// messages

// "1000000", "0.5": a bound of a range.
std::string bound(double value) { return fmt::format("{}", value); }
std::string whole_bound(double value) { return fmt::format("{:.0f}", value); }

std::string quoted_list(const std::vector<std::string>& choices) {
  std::string result;
  for (std::size_t i = 0; i < choices.size(); ++i) {
    if (i > 0) result += i + 1 == choices.size() ? " or " : ", ";
    result += '"' + choices[i] + '"';
  }
  return result;
}

std::string found(const Json& value) {
  if (value.is_object()) return "a section";
  if (value.is_array()) return "a list";
  constexpr std::size_t kMostBytes = 80;
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > kMostBytes) {
    text.resize(kMostBytes);
    // Not in the middle of a character.
    while (!text.empty() && (static_cast<unsigned char>(text.back()) & 0xC0U) == 0x80U) text.pop_back();
    if (!text.empty() && (static_cast<unsigned char>(text.back()) & 0xC0U) == 0xC0U) text.pop_back();
    text += "...";
  }
  if (value.is_string()) text += " (text)";
  return text;
}

bool is_valid(const Option& option, const Json& value) {
  switch (option.kind) {
    case Option::Kind::text:
      return value.is_string() && std::regex_match(value.get<std::string>(), std::regex(option.pattern));
    case Option::Kind::path:
      return value.is_string() && value.get<std::string>().find('\0') == std::string::npos &&
             (option.may_be_empty || !value.get<std::string>().empty());
    case Option::Kind::boolean:
      return value.is_boolean();
    case Option::Kind::choice:
      return value.is_string() && std::find(option.choices.begin(), option.choices.end(),
                                            value.get<std::string>()) != option.choices.end();
    case Option::Kind::integer:
      // As integers: a double cannot tell 2^64 - 1 from 2^64.
      if (value.is_number_unsigned()) {
        const auto number = value.get<std::uint64_t>();
        return number >= static_cast<std::uint64_t>(option.minimum) &&
               number <= static_cast<std::uint64_t>(option.maximum);
      }
      return false;
    case Option::Kind::number: {
      if (!value.is_number()) return false;
      // As the float that it becomes: 1e-60 is 0, and 0.99999999999 is 1.
      const auto number = static_cast<double>(value.get<float>());
      return number >= option.minimum && number <= option.maximum &&
             !(option.above_minimum && number == option.minimum) &&
             !(option.below_maximum && number == option.maximum);
    }
  }
  return false;
}

std::string where(const std::string& path, const std::string& file, const ValueOrigins& origins) {
  const auto origin = origins.find(path);
  if (origin != origins.end()) return origin->second;
  return "'" + file + "': " + path;
}

bool is_section(const std::string& path) {
  const std::string prefix = path + '.';
  const auto& all = experiment_options();
  return std::any_of(all.begin(), all.end(),
                     [&](const Option& option) { return option.path.starts_with(prefix); });
}

const Option* find_option(const std::string& path) {
  const auto& all = experiment_options();
  const auto found_option =
      std::find_if(all.begin(), all.end(), [&](const Option& option) { return option.path == path; });
  return found_option == all.end() ? nullptr : &*found_option;
}

// "unknown key; did you mean loss.margin?", or else which keys there are.
std::string unknown_key(const std::string& path) {
  std::vector<std::string> known;
  for (const Option& option : experiment_options()) {
    known.push_back(option.path);
    // Sections too: "losses" should suggest "loss".
    for (std::size_t dot = option.path.find('.'); dot != std::string::npos;
         dot = option.path.find('.', dot + 1)) {
      const std::string section = option.path.substr(0, dot);
      if (std::find(known.begin(), known.end(), section) == known.end()) known.push_back(section);
    }
  }
  if (const auto suggestion = nearest_name(path, known))
    return "unknown key; did you mean " + *suggestion + "?";
  // Right name, wrong section.
  const std::string last = path.substr(path.rfind('.') + 1);
  std::vector<std::string> last_names;
  last_names.reserve(known.size());
  for (const std::string& name : known) last_names.push_back(name.substr(name.rfind('.') + 1));
  if (const auto suggestion = nearest_name(last, last_names)) {
    const auto at = std::find(last_names.begin(), last_names.end(), *suggestion) - last_names.begin();
    return "unknown key; did you mean " + known[static_cast<std::size_t>(at)] + "?";
  }
  const std::size_t dot = path.rfind('.');
  const std::string section = dot == std::string::npos ? "" : path.substr(0, dot + 1);
  std::string siblings;
  std::set<std::string> seen;
  for (const std::string& name : known) {
    if (!name.starts_with(section)) continue;
    const std::string sibling = name.substr(section.size(), name.find('.', section.size()) - section.size());
    if (seen.insert(sibling).second) siblings += (siblings.empty() ? "" : ", ") + sibling;
  }
  return "unknown key; known here: " + siblings;
}

// Every key of the document must be an option, every section an object.
void check_keys(const Json& object, const std::string& prefix, const std::string& file,
                const ValueOrigins& origins) {
  for (const auto& [key, value] : object.items()) {
    const std::string path = prefix + key;
    if (path == "$schema") {
      if (!value.is_string()) {
        throw Error(where(path, file, origins) + ": found " + found(value) +
                    ", allowed is the schema's address");
      }
    } else if (key.find('.') != std::string::npos) {
      throw Error(where(path, file, origins) +
                  ": unknown key; sections are written as objects, \"loss\": {\"margin\": 0.2}");
    } else if (find_option(path) != nullptr) {
      continue;
    } else if (!is_section(path)) {
      throw Error(where(path, file, origins) + ": " + unknown_key(path));
    } else if (!value.is_object()) {
      throw Error(where(path, file, origins) + ": found " + found(value) +
                  ", allowed is a section in braces, {...}");
    } else {
      check_keys(value, path + '.', file, origins);
    }
  }
}

const Json* find_value(const Json& document, const std::string& path) {
  const Json* value = &document;
  for (std::size_t start = 0;;) {
    const std::size_t dot = path.find('.', start);
    const std::string key = path.substr(start, dot - start);
    if (!value->is_object() || !value->contains(key)) return nullptr;
    value = &(*value)[key];
    if (dot == std::string::npos) return value;
    start = dot + 1;
  }
}

void put_value(Json& document, const std::string& path, Json new_value) {
  Json* value = &document;
  for (std::size_t start = 0;;) {
    const std::size_t dot = path.find('.', start);
    value = &(*value)[path.substr(start, dot - start)];
    if (dot == std::string::npos) break;
    start = dot + 1;
  }
  *value = std::move(new_value);
}

}  // namespace

const char* to_string(EncoderType value) { return name_of(value); }
const char* to_string(LossType value) { return name_of(value); }
const char* to_string(ScoreType value) { return name_of(value); }
const char* to_string(NegativesType value) { return name_of(value); }
const char* to_string(Metric value) { return name_of(value); }

const std::vector<Option>& experiment_options() {
  static const std::vector<Option> kOptions = make_options();
  return kOptions;
}

const Option& experiment_option(const std::string& path) {
  const Option* option = find_option(path);
  if (option == nullptr) throw std::logic_error("no option '" + path + "'");
  return *option;
}

std::string Option::allowed() const {
  switch (kind) {
    case Kind::text:
      return pattern_meaning;
    case Kind::path:
      return may_be_empty ? "a path or \"\"" : "a path";
    case Kind::boolean:
      return "true or false";
    case Kind::choice:
      return quoted_list(choices);
    case Kind::integer:
      return "a whole number from " + whole_bound(minimum) + " to " + whole_bound(maximum);
    case Kind::number:
      return std::string("a number ") + (above_minimum ? "above " : "from ") + bound(minimum) +
             (above_minimum ? (below_maximum ? " and below " : " and at most ")
                            : (below_maximum ? " to below " : " to ")) +
             bound(maximum);
  }
  return {};
}

std::string Option::Condition::text() const { return path + (unless ? " is not " : " is ") + value.dump(); }

bool Option::applies(const Experiment& experiment) const {
  if (!only_with) return true;
  return (experiment_option(only_with->path).get(experiment) == only_with->value) != only_with->unless;
}

Json parse_json(const std::string& text, const std::string& file) {
  // The keys seen in each object that is open, and the key under which it stands.
  std::vector<std::set<std::string>> keys;
  std::vector<std::string> path;
  const auto callback = [&](int /*depth*/, Json::parse_event_t event, Json& parsed) {
    switch (event) {
      case Json::parse_event_t::object_start:
        keys.emplace_back();
        path.emplace_back();
        break;
      case Json::parse_event_t::object_end:
        keys.pop_back();
        path.pop_back();
        break;
      case Json::parse_event_t::key: {
        path.back() = parsed.get<std::string>();
        if (!keys.back().insert(path.back()).second) {
          std::string full;
          for (const std::string& key : path) full += (full.empty() ? "" : ".") + key;
          throw Error("'" + file + "': " + full + ": the key stands there twice");
        }
        break;
      }
      default:
        break;
    }
    return true;
  };
  try {
    return Json::parse(text, callback);
  } catch (const Json::parse_error& error) {
    const std::size_t byte = std::min(error.byte == 0 ? 0 : error.byte - 1, text.size());
    const auto begin = text.begin();
    const auto at = begin + static_cast<std::ptrdiff_t>(byte);
    const auto line = 1 + std::count(begin, at, '\n');
    const std::size_t newline = text.substr(0, byte).rfind('\n');
    const std::size_t column = byte - (newline == std::string::npos ? 0 : newline + 1) + 1;
    std::string what = error.what();
    // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error while ..."
    const std::size_t colon = what.find(": ");
    if (colon != std::string::npos) what.erase(0, colon + 2);
    throw Error(fmt::format("{}:{}:{}: {}", file, line, column, what));
  } catch (const Json::exception& error) {
    std::string what = error.what();
    const std::size_t bracket = what.find("] ");
    if (bracket != std::string::npos) what.erase(0, bracket + 2);
    throw Error("'" + file + "': " + what);
  }
}

void apply_setting(Json& document, const std::string& setting, ValueOrigins& origins) {
  const std::string argument = "--set " + setting;
  const std::size_t equals = setting.find('=');
  if (equals == 0 || equals == std::string::npos)
    throw Error(argument + ": found no key=value, as in loss.margin=0.2");
  const std::string path = setting.substr(0, equals);
  const std::string text = setting.substr(equals + 1);
  if (find_option(path) == nullptr) {
    if (is_section(path)) throw Error(argument + ": " + path + " is a section; set one of its keys");
    throw Error(argument + ": " + unknown_key(path));
  }
  Json value = Json::parse(text, nullptr, false);
  if (value.is_discarded()) value = text;
  try {
    (void)value.dump();
  } catch (const Json::exception&) {
    throw Error("--set " + path + "=...: the value is not valid UTF-8");
  }

  origins[path] = argument;
  if (value.is_null()) {
    // Takes the key out of its section.
    const std::size_t dot = path.rfind('.');
    Json* section = &document;
    if (dot != std::string::npos) {
      if (find_value(document, path.substr(0, dot)) == nullptr) return;
      section = &document;
      for (std::size_t start = 0; start < dot;) {
        const std::size_t end = path.find('.', start);
        section = &(*section)[path.substr(start, end - start)];
        start = end + 1;
      }
    }
    if (section->is_object()) section->erase(path.substr(dot == std::string::npos ? 0 : dot + 1));
    return;
  }
  try {
    put_value(document, path, std::move(value));
  } catch (const Json::exception&) {
    // A section of the file is no object; checking the file's keys says so.
    origins.erase(path);
  }
}

Experiment experiment_from_json(const Json& document, const std::string& file, const ValueOrigins& origins) {
  if (!document.is_object())
    throw Error("'" + file + "': found " + found(document) + ", allowed is an object, {...}");
  check_keys(document, "", file, origins);
  Experiment experiment;
  for (const Option& option : experiment_options()) {
    const Json* value = find_value(document, option.path);
    if (value == nullptr) {
      if (option.required)
        throw Error("'" + file + "': " + option.path + " is missing; " + option.allowed() + " is needed");
      if (!option.default_of.empty())
        option.set(experiment, experiment_option(option.default_of).get(experiment));
      continue;
    }
    if (!is_valid(option, *value)) {
      throw Error(where(option.path, file, origins) + ": found " + found(*value) + ", allowed is " +
                  option.allowed());
    }
    option.set(experiment, *value);
  }
  for (const Option& option : experiment_options()) {
    if (option.applies(experiment) || find_value(document, option.path) == nullptr) continue;
    const Json other = experiment_option(option.only_with->path).get(experiment);
    throw Error(where(option.path, file, origins) + ": allowed only where " + option.only_with->text() +
                ", but it is " + other.dump());
  }
  return experiment;
}

Experiment load_experiment(const std::filesystem::path& path, const std::vector<std::string>& settings) {
  Json document = parse_json(read_file(path), path.string());
  ValueOrigins origins;
  if (document.is_object()) {
    for (const std::string& setting : settings) apply_setting(document, setting, origins);
  }
  return experiment_from_json(document, path.string(), origins);
}

Json experiment_to_json(const Experiment& experiment) {
  Json document = Json::object();
  for (const Option& option : experiment_options()) {
    if (option.applies(experiment)) put_value(document, option.path, option.get(experiment));
  }
  return document;
}

std::optional<std::string> first_difference(const Experiment& theirs, const Experiment& ours) {
  for (const Option& option : experiment_options()) {
    if (!option.changes_result || (!option.applies(theirs) && !option.applies(ours))) continue;
    const Json their_value = option.get(theirs);
    const Json our_value = option.get(ours);
    if (their_value == our_value) continue;
    // Without a schedule, more epochs only go on from where fewer ended.
    if (option.path == "training.epochs" && ours.schedule == Schedule::constant) continue;
    return option.path + " is " + their_value.dump() + " there and " + our_value.dump() + " here";
  }
  return std::nullopt;
}

ModelConfig model_config(const Experiment& experiment, const Tokenizer& tokenizer,
                         const std::optional<PostFeatures>& features, const HashtagVocabulary& hashtags,
                         std::uint32_t threads) {
  ModelConfig config = experiment.model;
  config.vocab_size = features ? features->rows() : tokenizer.vocab_size();
  config.hashtags = hashtags.size();
  config.threads = threads;
  return config;
}

void make_paths_absolute(Experiment& experiment) {
  for (const Option& option : experiment_options()) {
    if (option.kind != Option::Kind::path) continue;
    const auto path = option.get(experiment).get<std::string>();
    if (!path.empty()) option.set(experiment, std::filesystem::absolute(path).lexically_normal().string());
  }
}

}  // namespace tagspace
