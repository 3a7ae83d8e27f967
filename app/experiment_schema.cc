// The two descriptions of the experiment file that come from its table of options.
#include <algorithm>
#include <cstdint>
#include <fmt/format.h>
#include <string>
#include <utility>
#include <vector>

#include "app/experiment.h"

namespace tagspace {
namespace {

using Json = nlohmann::ordered_json;

// A range's bound as JSON: 5, not 5.0.
Json bound(double value) {
  const auto whole = static_cast<std::int64_t>(value);
  return static_cast<double>(whole) == value ? Json(whole) : Json(value);
}

std::string full_description(const Option& option) {
  std::string text = option.description;
  if (option.only_with) {
    text += fmt::format(" Allowed only where {}.", option.only_with->text());
  }
  if (!option.default_of.empty()) text += fmt::format(" Default: the value of {}.", option.default_of);
  return text;
}

Json option_schema(const Option& option, const Experiment& defaults) {
  Json schema = Json::object();
  schema["description"] = full_description(option);
  switch (option.kind) {
    case Option::Kind::text:
      schema["type"] = "string";
      schema["pattern"] = option.pattern;
      break;
    case Option::Kind::path:
      schema["type"] = "string";
      if (!option.may_be_empty) schema["minLength"] = 1;
      break;
    case Option::Kind::boolean:
      schema["type"] = "boolean";
      break;
    case Option::Kind::choice:
      schema["enum"] = option.choices;
      break;
    case Option::Kind::integer:
    case Option::Kind::number:
      schema["type"] = option.kind == Option::Kind::integer ? "integer" : "number";
      schema[option.above_minimum ? "exclusiveMinimum" : "minimum"] = bound(option.minimum);
      schema[option.below_maximum ? "exclusiveMaximum" : "maximum"] = bound(option.maximum);
      break;
  }
  if (!option.required && option.default_of.empty()) schema["default"] = option.get(defaults);
  return schema;
}

// The object schema of a section, made if it is not there yet: "" is the whole file.
Json& section_schema(Json& root, const std::string& section) {
  Json* schema = &root;
  for (std::size_t start = 0; start < section.size();) {
    const std::size_t dot = std::min(section.find('.', start), section.size());
    Json& child = (*schema)["properties"][section.substr(start, dot - start)];
    if (child.is_null()) {
      child = {{"type", "object"}, {"additionalProperties", false}, {"properties", Json::object()}};
    }
    schema = &child;
    start = dot + 1;
  }
  return *schema;
}

std::pair<std::string, std::string> split_path(const std::string& path) {
  const std::size_t dot = path.rfind('.');
  if (dot == std::string::npos) return {"", path};
  return {path.substr(0, dot), path.substr(dot + 1)};
}

// A schema that asks something of the value at `path`; with `needed`, the value must be there.
Json at_path(const std::string& path, Json schema, bool needed) {
  for (std::string rest = path; !rest.empty();) {
    const auto [section, key] = split_path(rest);
    Json outer = {{"properties", {{key, std::move(schema)}}}};
    if (needed) outer["required"] = {key};
    schema = std::move(outer);
    rest = section;
  }
  return schema;
}

// "encoder.window only where encoder.type is cnn", for all keys with the same condition.
Json condition_schemas(const Experiment& defaults) {
  Json all = Json::array();
  std::vector<Option::Condition> done;
  for (const Option& first : experiment_options()) {
    if (!first.only_with) continue;
    const Option::Condition& condition = *first.only_with;
    if (std::find(done.begin(), done.end(), condition) != done.end()) continue;
    done.push_back(condition);
    // Left out, the other key has its default, which may or may not be the value asked for.
    const bool default_is_fine =
        (experiment_option(condition.path).get(defaults) == condition.value) != condition.unless;
    Json other = {{"const", condition.value}};
    if (!condition.unless) other = {{"not", std::move(other)}};
    Json then = Json::object();
    for (const Option& option : experiment_options()) {
      if (option.only_with != condition) continue;
      then.merge_patch(at_path(option.path, false, false));
    }
    all.push_back(
        {{"if", at_path(condition.path, std::move(other), default_is_fine)}, {"then", std::move(then)}});
  }
  return all;
}

}  // namespace

Json experiment_schema() {
  const Experiment defaults;
  Json schema = {
      {"$schema", "https://json-schema.org/draft/2020-12/schema"},
      {"title", "tagspace experiment"},
      {"description", "Everything about one training. Written by `tagspace schema`."},
      {"type", "object"},
      {"additionalProperties", false},
      {"properties",
       {{"$schema", {{"description", "Address of this schema, for editors."}, {"type", "string"}}}}}};
  for (const Option& option : experiment_options()) {
    const auto [section, key] = split_path(option.path);
    section_schema(schema, section)["properties"][key] = option_schema(option, defaults);
    if (!option.required) continue;
    // A section with a required key is required itself.
    for (std::string path = option.path; !path.empty();) {
      const auto [parent, name] = split_path(path);
      Json& required = section_schema(schema, parent)["required"];
      if (required.is_null()) required = Json::array();
      if (std::find(required.begin(), required.end(), name) == required.end()) required.push_back(name);
      path = parent;
    }
  }
  schema["allOf"] = condition_schemas(defaults);
  return schema;
}

std::string experiment_reference() {
  const Experiment defaults;
  std::string text;
  std::string section = "-";
  for (const Option& option : experiment_options()) {
    std::string top = option.path.substr(0, option.path.find('.'));
    if (option.path.find('.') == std::string::npos) top.clear();
    if (top != section) {
      section = top;
      if (!text.empty()) text += '\n';
      if (!top.empty()) text += fmt::format("### {}\n\n", top);
      text += "| Key | Allowed | Default | |\n|---|---|---|---|\n";
    }
    std::string value = option.required ? "must be given" : fmt::format("`{}`", option.get(defaults).dump());
    if (!option.default_of.empty()) value = fmt::format("`{}`", option.default_of);
    text += fmt::format("| `{}` | {} | {} | {} |\n", option.path, option.allowed(), value,
                        full_description(option));
  }
  return text;
}

}  // namespace tagspace
