#include <bit>
#include <fmt/format.h>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "app/commands/command.h"
#include "app/output.h"
#include "app/trained_model.h"
#include "data_pipeline/parallel.h"
#include "data_pipeline/post_batcher.h"
#include "model/inference/post_encoder.h"

namespace tagspace {
namespace {

struct Arguments {
  RunOptions run;
  std::filesystem::path posts = "-";
  std::string format = "text";
};

// NumPy's format, version 1.0: a header in Python's syntax, padded to 64 bytes, then little-endian floats.
std::string npy_header(std::size_t rows, std::size_t columns) {
  static_assert(std::endian::native == std::endian::little);
  std::string header =
      fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", rows, columns);
  const std::size_t before = 10;  // magic, version and the header's length
  header.append(63 - (before + header.size()) % 64, ' ');
  header += '\n';
  std::string start("\x93NUMPY\x01\x00", 8);
  start += static_cast<char>(header.size() & 0xFFU);
  start += static_cast<char>(header.size() >> 8U);
  return start + header;
}

int embed(const Arguments& arguments) {
  TrainedModel trained = arguments.run.load(TrainedModel::Parts::vectors);
  const std::size_t dim = trained.model->dim();
  PostReader reader(arguments.posts, trained.tokenizer->config().lowercase);
  PostBatcher batcher(reader, *trained.tokenizer, trained.hashtags, trained.threads);
  Output output;
  PackedBatch batch;
  // [posts, dim] of each batch. NumPy's header comes first and says how many there are, so for it all are
  // kept.
  std::vector<std::vector<float>> vectors;
  const bool text = arguments.format == "text";
  std::size_t posts = 0;
  std::vector<std::string> lines(trained.threads);
  while (batcher.next(PostEncoder::kPostsPerPiece, batch)) {
    posts += batch.posts();
    if (!text || vectors.empty()) vectors.emplace_back();
    std::vector<float>& of_batch = vectors.back();
    of_batch.resize(batch.posts() * dim);
    trained.encode(batch, of_batch.data());
    if (!text) continue;
    run_threads(trained.threads, [&](std::uint32_t thread) {
      const std::size_t first = batch.posts() * thread / trained.threads * dim;
      const std::size_t last = batch.posts() * (thread + 1) / trained.threads * dim;
      rows_as_text(std::span(of_batch).subspan(first, last - first), dim, lines[thread]);
    });
    for (const std::string& part : lines) output.write(part);
    output.flush();
  }
  if (!text) {
    output.write(npy_header(posts, dim));
    for (const std::vector<float>& of_batch : vectors)
      output.write({reinterpret_cast<const char*>(of_batch.data()), of_batch.size() * sizeof(float)});
    output.flush();
  }
  return kSuccess;
}

}  // namespace

Command add_embed(CLI::App& program) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* app = program.add_subcommand("embed", "The vector of each post: one line out for each line in");
  arguments->run.add_to(*app);
  arguments->run.add_device_to(*app);
  app->add_option("--posts", arguments->posts, "File of posts; - is standard input")->option_text("FILE (-)");
  app->add_option("--format", arguments->format,
                  "text: numbers with a space between; npy: a NumPy array of float32")
      ->check(CLI::IsMember({"text", "npy"}))
      ->option_text("text|npy (text)");
  app->footer(
      "A hashtag's score for a post is the product of the post's vector and the hashtag's (see export); with "
      "the cosine "
      "score both have length 1.");
  return {app, [arguments] { return embed(*arguments); }};
}

}  // namespace tagspace
