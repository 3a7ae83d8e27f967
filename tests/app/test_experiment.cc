#include <algorithm>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <regex>
#include <string>
#include <unistd.h>
#include <vector>

#include "app/experiment.h"
#include "base/error.h"
#include "base/files.h"

namespace tagspace {
namespace {

using Json = nlohmann::ordered_json;

const Json kSmallest = {{"name", "x"}, {"data", {{"train", "a.txt"}, {"valid", "b.txt"}}}};

// The message of the Error that reading this experiment ends with; empty if it is fine.
std::string error_of(const std::string& text, const std::vector<std::string>& settings = {}) {
  try {
    Json document = parse_json(text, "c.json");
    ValueOrigins origins;
    for (const std::string& setting : settings) apply_setting(document, setting, origins);
    (void)experiment_from_json(document, "c.json", origins);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

std::string error_of(const Json& document, const std::vector<std::string>& settings = {}) {
  return error_of(document.dump(), settings);
}

Json with(const std::string& path, const Json& value) {
  Json document = kSmallest;
  std::string pointer = "/" + path;
  std::replace(pointer.begin(), pointer.end(), '.', '/');
  document[Json::json_pointer(pointer)] = value;
  return document;
}

TEST(Experiment, SmallestHasTheDefaults) {
  const Experiment experiment = experiment_from_json(kSmallest, "c.json");
  EXPECT_EQ(experiment.name, "x");
  EXPECT_EQ(experiment.model.seed, 1U);
  EXPECT_EQ(experiment.model.encoder, EncoderType::cnn);
  EXPECT_EQ(experiment.model.dim, 64U);
  EXPECT_EQ(experiment.model.window, 5U);
  EXPECT_EQ(experiment.model.filters, 1000U);
  EXPECT_FLOAT_EQ(experiment.model.margin, 0.1F);
  EXPECT_EQ(experiment.model.max_tries, 1000U);
  EXPECT_EQ(experiment.model.rank_weight, RankWeightType::harmonic);
  EXPECT_EQ(experiment.model.negatives, NegativesType::automatic);
  EXPECT_FLOAT_EQ(experiment.model.learning_rate, 0.05F);
  EXPECT_EQ(experiment.tokenizer.type, TokenizerType::sentencepiece);
  EXPECT_EQ(experiment.tokenizer.vocab_size, 16000U);
  EXPECT_EQ(experiment.data.min_count, 5U);
  EXPECT_EQ(experiment.data.max_size, 100000U);
  EXPECT_EQ(experiment.training.epochs, 20U);
  EXPECT_EQ(experiment.training.bag_epochs, 0U);
  EXPECT_EQ(experiment.training.batch_size, 512U);
  EXPECT_EQ(experiment.training.device, "auto");
  EXPECT_EQ(experiment.training.metric, Metric::recall_at_10);
  EXPECT_EQ(experiment.training.patience, 3U);
}

TEST(Experiment, EveryKeyArrivesWhereItBelongs) {
  const Json document = Json::parse(R"({
    "$schema": "experiment.schema.json", "name": "a-1", "seed": 7,
    "data": {"train": "t", "valid": "v", "test": "s", "cache": "c", "hashtags": {"min_count": 2, "max_size": 30}},
    "tokenizer": {"type": "word", "vocab_size": 100, "min_count": 4, "lowercase": false, "max_tokens": 20},
    "encoder": {"type": "cnn", "dim": 8, "window": 3, "filters": 16, "initial_scale": 0.5, "pretrained": "w", "word_dropout": 0.25, "dropout": 0.75},
    "loss": {"type": "warp", "score": "cosine", "margin": 2, "max_tries": 9, "rank_weight": "log", "negatives": "exact",
             "negative_samples": 12, "all_positives": true},
    "optimizer": {"type": "sgd", "learning_rate": 0.5, "encoder_learning_rate": 0.25, "schedule": "linear", "max_norm": 3},
    "training": {"epochs": 6, "bag_epochs": 5, "batch_size": 11, "device": "cpu", "threads": 2,
                 "row_updates": "hogwild", "table_format": "bfloat16",
                 "early_stopping": {"metric": "mean_rank", "patience": 0}},
    "lexical": {"type": "linear", "mixture": "alone", "epochs": 7, "learning_rate": 0.125}})");
  const Experiment e = experiment_from_json(document, "c.json");
  EXPECT_EQ(e.name, "a-1");
  EXPECT_EQ(e.model.seed, 7U);
  EXPECT_EQ(e.data.train, "t");
  EXPECT_EQ(e.data.valid, "v");
  EXPECT_EQ(e.data.test, "s");
  EXPECT_EQ(e.data.cache, "c");
  EXPECT_EQ(e.data.min_count, 2U);
  EXPECT_EQ(e.data.max_size, 30U);
  EXPECT_EQ(e.tokenizer.type, TokenizerType::word);
  EXPECT_EQ(e.tokenizer.vocab_size, 100U);
  EXPECT_EQ(e.tokenizer.min_count, 4U);
  EXPECT_FALSE(e.tokenizer.lowercase);
  EXPECT_EQ(e.tokenizer.max_tokens, 20U);
  EXPECT_EQ(e.model.encoder, EncoderType::cnn);
  EXPECT_EQ(e.model.dim, 8U);
  EXPECT_EQ(e.model.window, 3U);
  EXPECT_EQ(e.model.filters, 16U);
  EXPECT_EQ(e.model.initial_scale, 0.5F);
  EXPECT_EQ(e.pretrained, "w");
  EXPECT_EQ(e.model.word_dropout, 0.25F);
  EXPECT_EQ(e.model.dropout, 0.75F);
  EXPECT_EQ(e.model.score, ScoreType::cosine);
  EXPECT_EQ(e.model.margin, 2.0F);
  EXPECT_EQ(e.model.max_tries, 9U);
  EXPECT_EQ(e.model.rank_weight, RankWeightType::log);
  EXPECT_EQ(e.model.negatives, NegativesType::exact);
  EXPECT_EQ(e.model.negative_samples, 12U);
  EXPECT_TRUE(e.model.all_positives);
  EXPECT_EQ(e.lexical.type, LexicalType::linear);
  EXPECT_EQ(e.lexical.mixture, LexicalMixture::alone);
  EXPECT_FALSE(e.has_vectors());
  EXPECT_EQ(e.lexical.epochs, 7U);
  EXPECT_EQ(e.lexical.learning_rate, 0.125F);
  EXPECT_EQ(e.model.optimizer, OptimizerType::sgd);
  EXPECT_EQ(e.model.learning_rate, 0.5F);
  EXPECT_EQ(e.model.encoder_learning_rate, 0.25F);
  EXPECT_EQ(e.schedule, Schedule::linear);
  EXPECT_EQ(e.model.max_norm, 3.0F);
  EXPECT_EQ(e.training.epochs, 6U);
  EXPECT_EQ(e.training.bag_epochs, 5U);
  EXPECT_EQ(e.training.batch_size, 11U);
  EXPECT_EQ(e.training.device, "cpu");
  EXPECT_EQ(e.model.row_updates, RowUpdateMode::hogwild);
  EXPECT_EQ(e.model.table_format, TableFormat::bfloat16);
  EXPECT_EQ(e.training.threads, 2U);
  EXPECT_EQ(e.training.metric, Metric::mean_rank);
  EXPECT_EQ(e.training.patience, 0U);
  // The complete copy is the same document: nothing lost, nothing renamed, nothing added.
  Json complete = experiment_to_json(e);
  Json expected = document;
  expected.erase("$schema");
  EXPECT_EQ(nlohmann::json(complete), nlohmann::json(expected));
}

TEST(Experiment, KeysOfOneTypeArriveToo) {
  Json document = kSmallest;
  document["loss"] = {{"type", "skipgram"}, {"window", 7U}};
  document["lexical"] = {{"type", "naive_bayes"}, {"smoothing", 2.5}};
  Experiment e = experiment_from_json(document, "c.json");
  EXPECT_EQ(e.model.loss, LossType::skipgram);
  EXPECT_EQ(e.skipgram_window, 7U);
  EXPECT_EQ(e.lexical.type, LexicalType::naive_bayes);
  EXPECT_EQ(e.lexical.mixture, LexicalMixture::learnt);
  EXPECT_TRUE(e.has_vectors());
  EXPECT_EQ(e.lexical.smoothing, 2.5F);
  document["lexical"] = {{"type", "neighbors"}, {"neighbors", 3U}};
  e = experiment_from_json(document, "c.json");
  EXPECT_EQ(e.lexical.type, LexicalType::neighbors);
  EXPECT_EQ(e.lexical.neighbors, 3U);
}

TEST(Experiment, EncoderLearningRateFollowsTheOther) {
  const Experiment follows = experiment_from_json(with("optimizer.learning_rate", 0.2), "c.json");
  EXPECT_FLOAT_EQ(follows.model.encoder_learning_rate, 0.2F);
}

TEST(Experiment, ErrorsNameFileKeyFoundAndAllowed) {
  const struct {
    Json document;
    const char* message;
  } kCases[] = {
      {with("loss.margin", "big"),
       R"('c.json': loss.margin: found "big" (text), allowed is a number from 0 to 1000)"},
      {with("loss.margin", -1), "'c.json': loss.margin: found -1, allowed is a number from 0 to 1000"},
      {with("loss.margin", nullptr), "'c.json': loss.margin: found null, allowed is a number from 0 to 1000"},
      {with("loss", 3), "'c.json': loss: found 3, allowed is a section in braces, {...}"},
      {with("loss.margin", {{"a", 1}}),
       "'c.json': loss.margin: found a section, allowed is a number from 0 to 1000"},
      {with("encoder.dim", {1, 2}),
       "'c.json': encoder.dim: found a list, allowed is a whole number from 1 to 8192"},
      {with("encoder.dim", 0), "'c.json': encoder.dim: found 0, allowed is a whole number from 1 to 8192"},
      {with("encoder.dim", 1.5),
       "'c.json': encoder.dim: found 1.5, allowed is a whole number from 1 to 8192"},
      {with("encoder.dim", 8193),
       "'c.json': encoder.dim: found 8193, allowed is a whole number from 1 to 8192"},
      {with("encoder.dim", true),
       "'c.json': encoder.dim: found true, allowed is a whole number from 1 to 8192"},
      {with("encoder.type", "rnn"),
       R"('c.json': encoder.type: found "rnn" (text), allowed is "cnn" or "bag")"},
      {with("encoder.dropout", 1),
       "'c.json': encoder.dropout: found 1, allowed is a number from 0 to below 1"},
      {with("encoder.dropout", 0.9999999999),
       "'c.json': encoder.dropout: found 0.9999999999, allowed is a number from 0 to below 1"},
      {with("optimizer.learning_rate", 0),
       "'c.json': optimizer.learning_rate: found 0, allowed is a number above 0 and at most 1000"},
      {with("optimizer.learning_rate", 1e-60),
       "'c.json': optimizer.learning_rate: found 1e-60, allowed is a number above 0 and at most 1000"},
      {with("tokenizer.lowercase", "yes"),
       R"('c.json': tokenizer.lowercase: found "yes" (text), allowed is true or false)"},
      {with("training.device", "gpu"),
       R"('c.json': training.device: found "gpu" (text), allowed is "auto", "cpu", "cuda" or "cuda:N")"},
      {with("data.train", ""), R"('c.json': data.train: found "" (text), allowed is a path)"},
      {with("data.train", std::string("a\0b", 3)),
       R"('c.json': data.train: found "a\u0000b" (text), allowed is a path)"},
      {with("name", "../x"),
       R"('c.json': name: found "../x" (text), allowed is letters, digits, '.', '_' and '-', at most 100, the first a letter or digit)"},
      {with("$schema", 3), "'c.json': $schema: found 3, allowed is the schema's address"},
      {with("loss.margn", 1), "'c.json': loss.margn: unknown key; did you mean loss.margin?"},
      {with("margin", 1), "'c.json': margin: unknown key; did you mean loss.margin?"},
      {with("optimzer", Json::object()), "'c.json': optimzer: unknown key; did you mean optimizer?"},
      {with("loss.zzzzzzzz", 1),
       "'c.json': loss.zzzzzzzz: unknown key; known here: type, score, margin, max_tries, rank_weight, "
       "negatives, negative_samples, window, all_positives"},
      {Json{{"loss.margin", 1}},
       R"('c.json': loss.margin: unknown key; sections are written as objects, "loss": {"margin": 0.2})"},
      {Json{{"name", "x"}}, "'c.json': data.train is missing; a path is needed"},
      {Json::object(),
       "'c.json': name is missing; letters, digits, '.', '_' and '-', at most 100, the first a letter or "
       "digit is needed"},
      {Json::array(), "'c.json': found a list, allowed is an object, {...}"},
  };
  for (const auto& test : kCases) {
    EXPECT_EQ(error_of(test.document), test.message) << test.document.dump();
  }
}

TEST(Experiment, KeysOutOfPlaceAreErrors) {
  Json bag = with("encoder.type", "bag");
  EXPECT_EQ(error_of(bag), "");
  bag["encoder"]["window"] = 5;
  EXPECT_EQ(error_of(bag),
            R"('c.json': encoder.window: allowed only where encoder.type is "cnn", but it is "bag")");
  bag["encoder"].erase("window");
  bag["training"]["bag_epochs"] = 2;
  EXPECT_EQ(error_of(bag),
            R"('c.json': training.bag_epochs: allowed only where encoder.type is "cnn", but it is "bag")");

  EXPECT_EQ(
      error_of(with("tokenizer.min_count", 3)),
      R"('c.json': tokenizer.min_count: allowed only where tokenizer.type is "word", but it is "sentencepiece")");
  Json model = with("tokenizer.model", "m.model");
  EXPECT_EQ(error_of(model), "");
  model["tokenizer"]["vocab_size"] = 100;
  EXPECT_EQ(
      error_of(model),
      R"('c.json': tokenizer.vocab_size: allowed only where tokenizer.model is "", but it is "m.model")");
}

TEST(Experiment, WholeNumbersMustBeWrittenAsSuch) {
  EXPECT_EQ(error_of(std::string(R"({"name":"x","seed":1e3,"data":{"train":"a","valid":"b"}})")),
            "'c.json': seed: found 1000.0, allowed is a whole number from 0 to 9007199254740991");
  EXPECT_EQ(
      error_of(std::string(R"({"name":"x","seed":18446744073709551615,"data":{"train":"a","valid":"b"}})")),
      "'c.json': seed: found 18446744073709551615, allowed is a whole number from 0 to 9007199254740991");
  EXPECT_NE(error_of(std::string(
                R"({"name":"x","seed":99999999999999999999999,"data":{"train":"a","valid":"b"}})")),
            "");
}

TEST(Experiment, BrokenJsonNamesLineAndColumn) {
  EXPECT_TRUE(error_of(std::string("{\n  \"name\": \"x\",\n}")).starts_with("c.json:3:1: "))
      << error_of(std::string("{\n  \"name\": \"x\",\n}"));
  EXPECT_TRUE(error_of(std::string("")).starts_with("c.json:1:1: ")) << error_of(std::string(""));
  EXPECT_TRUE(error_of(std::string("{\"name\": NaN}")).starts_with("c.json:1:"))
      << error_of(std::string("{\"name\": NaN}"));
  EXPECT_TRUE(error_of(std::string("{\"name\": \"\xff\"}")).starts_with("c.json:1:"));
  EXPECT_TRUE(error_of(std::string("{} {}")).starts_with("c.json:1:"));
  EXPECT_NE(error_of(std::string("{\"seed\": 1e999}")).find("c.json"), std::string::npos);
  EXPECT_EQ(error_of(std::string(R"({"loss":{"margin":1,"margin":2}})")),
            "'c.json': loss.margin: the key stands there twice");
  EXPECT_EQ(error_of(std::string(R"({"loss":{"type":"warp"},"loss":{}})")),
            "'c.json': loss: the key stands there twice");
}

TEST(Experiment, SettingsReplaceValues) {
  Json document = with("encoder.filters", 7);
  ValueOrigins origins;
  for (const char* setting : {"loss.margin=0.5", "name=other", "data.train=/a b/c=d.txt",
                              "tokenizer.type=word", "training.early_stopping.patience=9",
                              "encoder.filters=null", "encoder.window=null", "optimizer.max_norm=null"}) {
    apply_setting(document, setting, origins);
  }
  const Experiment experiment = experiment_from_json(document, "c.json", origins);
  EXPECT_EQ(experiment.model.margin, 0.5F);
  EXPECT_EQ(experiment.name, "other");
  EXPECT_EQ(experiment.data.train, "/a b/c=d.txt");
  EXPECT_EQ(experiment.tokenizer.type, TokenizerType::word);
  EXPECT_EQ(experiment.training.patience, 9U);
  EXPECT_EQ(experiment.model.filters, 1000U);
}

TEST(Experiment, ErrorsInSettingsNameTheArgument) {
  EXPECT_EQ(error_of(kSmallest, {"loss.margin=big"}),
            R"(--set loss.margin=big: found "big" (text), allowed is a number from 0 to 1000)");
  EXPECT_EQ(error_of(kSmallest, {"loss.margn=1"}),
            "--set loss.margn=1: unknown key; did you mean loss.margin?");
  EXPECT_EQ(error_of(kSmallest, {"loss=1"}), "--set loss=1: loss is a section; set one of its keys");
  EXPECT_EQ(error_of(kSmallest, {"loss.margin"}),
            "--set loss.margin: found no key=value, as in loss.margin=0.2");
  EXPECT_EQ(error_of(kSmallest, {"=1"}), "--set =1: found no key=value, as in loss.margin=0.2");
  EXPECT_EQ(error_of(kSmallest, {"encoder.type=bag", "encoder.window=3"}),
            R"(--set encoder.window=3: allowed only where encoder.type is "cnn", but it is "bag")");
  EXPECT_EQ(error_of(kSmallest, {"data.test=\xff"}), "--set data.test=...: the value is not valid UTF-8");
  // The last of two for one key holds.
  EXPECT_EQ(error_of(kSmallest, {"encoder.dim=0", "encoder.dim=4"}), "");
}

TEST(Experiment, CompleteCopyReadsBackAsTheSame) {
  for (const Json& document :
       {kSmallest, with("encoder.type", "bag"), with("tokenizer.type", "word"), with("tokenizer.model", "m"),
        with("optimizer.learning_rate", 0.3), with("loss.margin", 0.123456789)}) {
    const Json complete = experiment_to_json(experiment_from_json(document, "c.json"));
    EXPECT_EQ(experiment_to_json(experiment_from_json(complete, "c.json")), complete);
  }
  // 0.1F is written as a person writes it.
  EXPECT_NE(experiment_to_json(experiment_from_json(kSmallest, "c.json")).dump().find("\"margin\":0.1,"),
            std::string::npos);
}

TEST(Experiment, DifferencesThatMatterAreFound) {
  const Experiment ours = experiment_from_json(kSmallest, "c.json");
  Experiment theirs = ours;
  EXPECT_EQ(first_difference(theirs, ours), std::nullopt);
  theirs.name = "other";
  theirs.training.threads = 3;
  theirs.data.cache = "elsewhere";
  theirs.training.epochs = 99;
  EXPECT_EQ(first_difference(theirs, ours), std::nullopt);
  theirs.model.margin = 0.25F;
  EXPECT_EQ(first_difference(theirs, ours), "loss.margin is 0.25 there and 0.1 here");
  // With a schedule, the number of epochs decides every step's rate.
  Experiment linear = ours;
  linear.schedule = Schedule::linear;
  Experiment longer = linear;
  longer.training.epochs = 99;
  EXPECT_EQ(first_difference(longer, linear), "training.epochs is 99 there and 20 here");
}

TEST(Experiment, ShippedConfigsAreFine) {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(TAGSPACE_CONFIGS)) {
    if (entry.path().extension() != ".json" || entry.path().filename() == "experiment.schema.json") continue;
    ++count;
    const Experiment experiment = load_experiment(entry.path(), {});
    EXPECT_EQ(experiment.name, entry.path().stem().string());
  }
  EXPECT_GE(count, 13U);
}

TEST(Experiment, ShippedSchemaIsTheProgramsOwn) {
  EXPECT_EQ(read_file(std::filesystem::path(TAGSPACE_CONFIGS) / "experiment.schema.json"),
            experiment_schema().dump(2) + "\n")
      << "write it anew: tagspace schema > configs/experiment.schema.json";
}

TEST(Experiment, ReferenceNamesEveryKey) {
  const std::string reference = experiment_reference();
  for (const Option& option : experiment_options()) {
    EXPECT_NE(reference.find("| `" + option.path + "` |"), std::string::npos) << option.path;
  }
}

// ------------------------------------------------------------------- the schema and the parser allow the
// same

// The part of JSON Schema that experiment_schema() uses, and nothing else: an unknown word of it fails.
bool schema_accepts(const Json& schema, const Json& value) {
  if (schema.is_boolean()) return schema.get<bool>();
  for (const auto& [word, rule] : schema.items()) {
    bool fine = true;
    if (word == "type") {
      const auto type = rule.get<std::string>();
      fine = (type == "object" && value.is_object()) || (type == "string" && value.is_string()) ||
             (type == "boolean" && value.is_boolean()) || (type == "number" && value.is_number()) ||
             (type == "integer" && value.is_number_integer());
    } else if (word == "enum") {
      fine = std::find(rule.begin(), rule.end(), value) != rule.end();
    } else if (word == "const") {
      fine = rule == value;
    } else if (word == "not") {
      fine = !schema_accepts(rule, value);
    } else if (word == "minimum") {
      fine = !value.is_number() || value.get<double>() >= rule.get<double>();
    } else if (word == "maximum") {
      fine = !value.is_number() || value.get<double>() <= rule.get<double>();
    } else if (word == "exclusiveMinimum") {
      fine = !value.is_number() || value.get<double>() > rule.get<double>();
    } else if (word == "exclusiveMaximum") {
      fine = !value.is_number() || value.get<double>() < rule.get<double>();
    } else if (word == "pattern") {
      fine = !value.is_string() ||
             std::regex_search(value.get<std::string>(), std::regex(rule.get<std::string>()));
    } else if (word == "minLength") {
      fine = !value.is_string() || value.get<std::string>().size() >= rule.get<std::size_t>();
    } else if (word == "required") {
      for (const Json& key : rule)
        fine = fine && (!value.is_object() || value.contains(key.get<std::string>()));
    } else if (word == "properties") {
      if (!value.is_object()) continue;
      for (const auto& [key, child] : rule.items())
        fine = fine && (!value.contains(key) || schema_accepts(child, value[key]));
    } else if (word == "additionalProperties") {
      if (!value.is_object()) continue;
      for (const auto& [key, child] : value.items()) fine = fine && schema.at("properties").contains(key);
    } else if (word == "allOf") {
      for (const Json& part : rule) fine = fine && schema_accepts(part, value);
    } else if (word == "if") {
      fine = !schema_accepts(rule, value) || schema_accepts(schema.at("then"), value);
    } else {
      EXPECT_TRUE(word == "then" || word == "description" || word == "default" || word == "$schema" ||
                  word == "title")
          << word;
    }
    if (!fine) return false;
  }
  return true;
}

TEST(Experiment, SchemaAndParserAllowTheSame) {
  const Json schema = experiment_schema();
  ASSERT_TRUE(schema_accepts(schema, kSmallest));
  std::vector<Json> values = {
      nullptr, true, "",  "x", "cnn", "bag", "word", "cuda:1", Json::array(), Json::object(),
      -1,      0,    0.5, 1,   2,     64,    65537,  1e-30,    1e12,          9007199254740992ULL};
  std::vector<std::string> paths = {"loss", "training.early_stopping", "nonsense", "loss.nonsense"};
  for (const Option& option : experiment_options()) {
    paths.push_back(option.path);
    for (const double edge : {option.minimum, option.maximum}) {
      values.emplace_back(edge);
      if (edge < 1e15) values.emplace_back(static_cast<std::int64_t>(edge));
    }
    for (const std::string& choice : option.choices) values.emplace_back(choice);
  }
  const std::vector<Json> bases = {kSmallest, with("encoder.type", "bag"), with("tokenizer.type", "word"),
                                   with("tokenizer.model", "m")};
  std::size_t accepted = 0;
  for (const Json& base : bases) {
    for (const std::string& path : paths) {
      for (const Json& value : values) {
        Json document = base;
        std::string pointer = "/" + path;
        std::replace(pointer.begin(), pointer.end(), '.', '/');
        document[Json::json_pointer(pointer)] = value;
        const std::string error = error_of(document);
        EXPECT_EQ(schema_accepts(schema, document), error.empty()) << document.dump() << '\n' << error;
        accepted += error.empty() ? 1 : 0;
        // And every refusal says which file and which key.
        EXPECT_TRUE(error.empty() || error.find("c.json") != std::string::npos) << error;
      }
    }
    for (const char* required : {"/name", "/data/train", "/data/valid"}) {
      Json document = base;
      const Json::json_pointer pointer(required);
      document[pointer.parent_pointer()].erase(pointer.back());
      EXPECT_FALSE(schema_accepts(schema, document));
      EXPECT_NE(error_of(document), "");
    }
  }
  EXPECT_GT(accepted, 500U);
}

TEST(Experiment, EveryOptionRefusesWrongTypesAndItsNeighboursOutOfRange) {
  for (const Option& option : experiment_options()) {
    SCOPED_TRACE(option.path);
    Json base = kSmallest;
    if (option.only_with && option.only_with->value != Json("")) {
      base = with(option.only_with->path, option.only_with->value);
    }
    const auto refuses = [&](const Json& value) {
      Json document = base;
      std::string pointer = "/" + option.path;
      std::replace(pointer.begin(), pointer.end(), '.', '/');
      document[Json::json_pointer(pointer)] = value;
      const std::string error = error_of(document);
      return error.starts_with("'c.json': " + option.path + ": found ") &&
             error.find("allowed is " + option.allowed()) != std::string::npos;
    };
    EXPECT_TRUE(refuses(nullptr));
    EXPECT_TRUE(refuses(Json::array()));
    EXPECT_TRUE(refuses(Json::object()));
    switch (option.kind) {
      case Option::Kind::text:
      case Option::Kind::choice:
        EXPECT_TRUE(refuses("no such thing!"));
        [[fallthrough]];
      case Option::Kind::path:
        EXPECT_TRUE(refuses(3));
        EXPECT_TRUE(refuses(true));
        break;
      case Option::Kind::boolean:
        EXPECT_TRUE(refuses(1));
        EXPECT_TRUE(refuses("true"));
        break;
      case Option::Kind::integer:
        EXPECT_TRUE(refuses(1.5));
        EXPECT_TRUE(refuses(static_cast<std::int64_t>(option.minimum) - 1));
        EXPECT_TRUE(refuses(static_cast<std::int64_t>(option.maximum) + 1));
        EXPECT_FALSE(refuses(static_cast<std::int64_t>(option.minimum)));
        EXPECT_FALSE(refuses(static_cast<std::int64_t>(option.maximum)));
        [[fallthrough]];
      case Option::Kind::number:
        EXPECT_TRUE(refuses("1"));
        EXPECT_TRUE(refuses(true));
        EXPECT_TRUE(refuses(option.minimum - 1));
        EXPECT_TRUE(refuses(option.maximum * 1.01 + 1));
        if (option.kind == Option::Kind::number) {
          EXPECT_EQ(refuses(option.minimum), option.above_minimum);
          EXPECT_EQ(refuses(option.maximum), option.below_maximum);
        }
        break;
    }
  }
}

TEST(Experiment, PathsBecomeAbsolute) {
  Experiment experiment = experiment_from_json(with("data.test", "./x/../t.txt"), "c.json");
  make_paths_absolute(experiment);
  EXPECT_EQ(experiment.data.train, std::filesystem::current_path() / "a.txt");
  EXPECT_EQ(experiment.data.test, std::filesystem::current_path() / "t.txt");
  EXPECT_TRUE(experiment.data.cache.is_absolute());
  EXPECT_TRUE(experiment.tokenizer.model.empty());
}

}  // namespace
}  // namespace tagspace
