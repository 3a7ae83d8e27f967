#include <cmath>
#include <fmt/format.h>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "app/commands/command.h"
#include "app/trained_model.h"
#include "base/error.h"
#include "base/files.h"

namespace tagspace {
namespace {

struct Arguments {
  RunOptions run;
  std::filesystem::path output;
  std::string format = "word2vec";
};

// Rows of a table with what they are called.
struct NamedTable {
  std::string what;                // "words", "hashtags"
  std::span<const float> vectors;  // [rows, dim]
  std::size_t dim = 0;
  std::function<std::string(std::uint32_t)> name;
  std::function<std::string(std::uint32_t)> count;  // training posts; empty if it is not known
};

// The formats have no way to quote white space in a name.
std::string without_space(const std::string& name) {
  constexpr std::string_view kSpace = " \t\n\v\f\r\x1c\x1d\x1e\x1f";
  constexpr std::string_view kVisibleSpace = "\xE2\x96\x81";  // U+2581, as sentencepiece writes it
  std::string result;
  for (const char c : name) {
    if (kSpace.find(c) == std::string_view::npos)
      result += c;
    else
      result += kVisibleSpace;
  }
  return result.empty() ? std::string(kVisibleSpace) : result;
}

// Nine significant digits give the same float back.
void append_row(std::string& line, const NamedTable& table, std::size_t row, char separator) {
  for (std::size_t i = 0; i < table.dim; ++i) {
    if (i > 0) line += separator;
    fmt::format_to(std::back_inserter(line), "{:.9g}", table.vectors[row * table.dim + i]);
  }
  line += '\n';
}

std::size_t rows_of(const NamedTable& table) { return table.vectors.size() / table.dim; }

void write_word2vec(const NamedTable& table, const std::filesystem::path& folder) {
  AtomicFile file(folder / (table.what + ".vec"));
  file.write(fmt::format("{} {}\n", rows_of(table), table.dim));
  std::string line;
  for (std::size_t row = 0; row < rows_of(table); ++row) {
    line = without_space(table.name(static_cast<std::uint32_t>(row))) + ' ';
    append_row(line, table, row, ' ');
    file.write(line);
  }
  file.commit();
}

void write_projector(const NamedTable& table, const std::filesystem::path& folder) {
  AtomicFile vectors(folder / (table.what + ".vectors.tsv"));
  AtomicFile metadata(folder / (table.what + ".metadata.tsv"));
  const bool counts = table.count != nullptr;
  // A header only where there is more than one column: so the projector wants it.
  if (counts) metadata.write("name\ttraining_posts\n");
  std::string line;
  for (std::size_t row = 0; row < rows_of(table); ++row) {
    const auto id = static_cast<std::uint32_t>(row);
    line.clear();
    append_row(line, table, row, '\t');
    vectors.write(line);
    metadata.write(without_space(table.name(id)) + (counts ? '\t' + table.count(id) : "") + '\n');
  }
  vectors.commit();
  metadata.commit();
}

int export_tables(const Arguments& arguments) {
  TrainedModel trained = arguments.run.load(TrainedModel::Parts::vectors);
  const std::size_t dim = trained.model->dim();
  create_folder(arguments.output);
  const auto write = arguments.format == "word2vec" ? write_word2vec : write_projector;
  write({"hashtags", trained.model->hashtag_vectors(), dim,
         [&](std::uint32_t id) { return "#" + trained.hashtags[id].name; },
         [&](std::uint32_t id) { return std::to_string(trained.hashtags[id].count); }},
        arguments.output);
  const std::vector<float> words = trained.word_vectors();
  write({"words", words, dim, [&](std::uint32_t id) { return trained.tokenizer->token(id); }, nullptr},
        arguments.output);
  return kSuccess;
}

}  // namespace

Command add_export(CLI::App& program) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* app =
      program.add_subcommand("export", "The word and hashtag vectors as files for other programs");
  arguments->run.add_to(*app);
  app->add_option("--output", arguments->output, "The folder to write to")->required()->option_text("FOLDER");
  app->add_option(
         "--format", arguments->format,
         "word2vec: words.vec and hashtags.vec in word2vec's text format; projector: .vectors.tsv and "
         ".metadata.tsv of both for the TensorBoard projector")
      ->check(CLI::IsMember({"word2vec", "projector"}))
      ->option_text("word2vec|projector (word2vec)");
  app->footer(
      "Hashtags keep their '#', so that the two files of word2vec can be joined. White space in a name "
      "becomes U+2581. "
      "Numbers have nine digits and give the same float32 back. With the cosine score the vectors have "
      "length 1.");
  return {app, [arguments] { return export_tables(*arguments); }};
}

}  // namespace tagspace
