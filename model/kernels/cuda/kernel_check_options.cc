#include "model/kernels/cuda/kernel_check_options.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <functional>
#include <string_view>
#include <utility>

namespace tagspace::kernels::check {
namespace {

// One option; `set` returns whether the value is allowed.
struct Option {
  std::string name;
  std::string value_name;
  std::string meaning;
  std::string allowed;
  std::function<bool(std::string_view value, Options& options)> set;
  std::function<std::string(const Options& options)> get;
};

template <typename T>
bool parse_number(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

std::string text_of(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

template <typename T>
Option whole_number(std::string name, std::string meaning, T least, T most, T Options::*member) {
  return {std::move(name),
          "N",
          std::move(meaning),
          "a whole number from " + std::to_string(least) + " to " + std::to_string(most),
          [=](std::string_view text, Options& options) {
            T value = 0;
            if (!parse_number(text, value) || value < least || value > most) return false;
            options.*member = value;
            return true;
          },
          [=](const Options& options) { return std::to_string(options.*member); }};
}

template <typename T>
Option choice(std::string name, std::string meaning, const std::vector<std::pair<std::string, T>>& choices,
              T Options::*member) {
  std::string allowed;
  std::string value_name;
  for (std::size_t i = 0; i < choices.size(); ++i) {
    allowed += (i == 0 ? "" : i + 1 < choices.size() ? ", " : " or ") + choices[i].first;
    value_name += (i == 0 ? "" : "|") + choices[i].first;
  }
  return {std::move(name),
          value_name,
          std::move(meaning),
          allowed,
          [=](std::string_view text, Options& options) {
            const auto found = std::find_if(choices.begin(), choices.end(),
                                            [&](const auto& choice) { return choice.first == text; });
            if (found == choices.end()) return false;
            options.*member = found->second;
            return true;
          },
          [=](const Options& options) {
            return std::find_if(choices.begin(), choices.end(),
                                [&](const auto& choice) { return choice.second == options.*member; })
                ->first;
          }};
}

Option max_norm() {
  return {"--max-norm",
          "X",
          "cut rows that are longer than this after a step; 0: never",
          "a number that is not below 0",
          [](std::string_view text, Options& options) {
            return parse_number(text, options.max_norm) && std::isfinite(options.max_norm) &&
                   options.max_norm >= 0;
          },
          [](const Options& options) { return text_of(double{options.max_norm}); }};
}

std::vector<Option> all_options() {
  return {
      whole_number("--posts", "posts of the problem", 1U, 1'000'000U, &Options::posts),
      whole_number("--hashtags", "rows of the hashtag table", 2U, 100'000'000U, &Options::hashtags),
      whole_number("--dim", "elements of a vector", 1U, 8192U, &Options::dim),
      whole_number("--tries", "most tries for a pair", 1U, 1'000'000U, &Options::tries),
      choice<Score>("--score", "how a post and a hashtag are compared",
                    {{"dot", Score::dot}, {"cosine", Score::cosine}}, &Options::score),
      choice<RankWeight>(
          "--rank-weight", "how the tries weigh in the loss",
          {{"harmonic", RankWeight::harmonic}, {"log", RankWeight::log}, {"linear", RankWeight::linear}},
          &Options::rank_weight),
      choice<Mode>("--mode", "whether the table changes after the search or during it",
                   {{"deterministic", Mode::deterministic}, {"hogwild", Mode::hogwild}}, &Options::mode),
      choice<TableType>("--table", "what the table is kept in",
                        {{"float32", TableType::float32}, {"bfloat16", TableType::bfloat16}},
                        &Options::table),
      choice<OptimizerKind>("--optimizer", "the step on the table",
                            {{"adagrad", OptimizerKind::adagrad}, {"sgd", OptimizerKind::sgd}},
                            &Options::optimizer),
      max_norm(),
      whole_number<std::uint64_t>("--seed", "of the problem and of the negatives", 0, ~std::uint64_t{0},
                                  &Options::seed),
      choice<bool>("--fill", "device memory before a kernel writes to it; none: for initcheck",
                   {{"pattern", true}, {"none", false}}, &Options::fill),
  };
}

}  // namespace

Options parse_options(const std::vector<std::string>& arguments) {
  const std::vector<Option> known = all_options();
  Options options;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::size_t equals = arguments[i].find('=');
    const std::string name = arguments[i].substr(0, equals);
    if (arguments[i] == "--help" || arguments[i] == "-h") {
      options.help = true;
      return options;
    }
    const auto option =
        std::find_if(known.begin(), known.end(), [&](const Option& each) { return each.name == name; });
    if (option == known.end()) {
      throw UsageError("there is no option '" + name + "'; --help lists those that there are");
    }
    if (equals == std::string::npos && i + 1 == arguments.size()) {
      throw UsageError(name + " has no value; it can be " + option->allowed);
    }
    const std::string value = equals == std::string::npos ? arguments[++i] : arguments[i].substr(equals + 1);
    if (!option->set(value, options)) {
      throw UsageError(
          std::string(name).append(" is '").append(value).append("'; it can be ").append(option->allowed));
    }
  }
  return options;
}

std::string help_text() {
  std::string text =
      "Runs the CUDA kernels of WARP and of the row update on a random problem, and compares all that they\n"
      "write with the plain reference.\n\n"
      "  tagspace_kernel_check [option value]...\n\n";
  for (const Option& option : all_options()) {
    std::string usage = "  " + option.name + " " + option.value_name;
    usage.resize(std::max<std::size_t>(usage.size() + 2, 38), ' ');
    text += usage + option.meaning + " (" + option.get(Options{}) + ")\n";
  }
  text +=
      "\nExit status: 0 if all agree, 1 if something differs or there is no usable GPU, 2 for wrong usage.\n";
  return text;
}

std::string summary(const Options& options) {
  std::string text;
  for (const Option& option : all_options()) {
    text += (text.empty() ? "" : " ") + option.name + " " + option.get(options);
  }
  return text;
}

}  // namespace tagspace::kernels::check
