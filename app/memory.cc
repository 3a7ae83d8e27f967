#include "app/memory.h"

#include <algorithm>
#include <charconv>
#include <fmt/format.h>
#include <fstream>
#include <limits>
#include <malloc.h>
#include <string>
#include <string_view>
#include <vector>

#include "app/trained_model.h"
#include "app/training.h"
#include "model/cpu_memory.h"

namespace tagspace {
namespace {

// Bytes that a line "Name:   123 kB" of a file of the kernel's tells; 0 if there is none.
std::uint64_t kernel_figure(const char* file, std::string_view name) {
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(name) || line.size() <= name.size() || line[name.size()] != ':') continue;
    const std::size_t begin = line.find_first_of("0123456789");
    std::uint64_t kibibytes = 0;
    if (begin == std::string::npos) return 0;
    std::from_chars(line.data() + begin, line.data() + line.size(), kibibytes);
    return kibibytes << 10U;
  }
  return 0;
}

// The most that this process may hold: what is free and what it has already, or its control group's limit.
std::uint64_t memory_limit(std::uint64_t resident) {
  std::uint64_t limit = std::numeric_limits<std::uint64_t>::max();
  if (const std::uint64_t available = kernel_figure("/proc/meminfo", "MemAvailable"); available > 0)
    limit = available + resident;
  std::uint64_t of_group = 0;
  if (std::ifstream("/sys/fs/cgroup/memory.max") >> of_group) limit = std::min(limit, of_group);
  return limit;
}

// A batch as the corpus gives them, made of posts from all over it.
StepSize size_of_steps(const Corpus& corpus, const std::optional<PostFeatures>& features,
                       std::uint64_t posts) {
  const std::uint64_t count = std::min(posts, corpus.posts());
  std::vector<std::uint32_t> words;
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto tokens = corpus.tokens(i * corpus.posts() / count);
    if (features) {
      features->expand(tokens, words);
    } else {
      words.insert(words.end(), tokens.begin(), tokens.end());
    }
  }
  corpus.release_pages();
  const std::uint64_t tokens = words.size();
  std::sort(words.begin(), words.end());
  const auto distinct = std::unique(words.begin(), words.end()) - words.begin();
  return {count, tokens, static_cast<std::uint64_t>(distinct), std::min(count, std::uint64_t{kPostsAtOnce})};
}

std::string mebibytes(std::uint64_t bytes) {
  return format_count((bytes + (std::uint64_t{1} << 19U)) >> 20U);
}

}  // namespace

void report_memory(const ModelConfig& config, const Experiment& experiment, const PreparedData& data,
                   const std::optional<PostFeatures>& features, Reporter& reporter) {
  ::malloc_trim(0);  // what reading the posts took and gave back
  const std::uint64_t resident = kernel_figure("/proc/self/status", "VmRSS");
  const std::uint64_t posts = std::max<std::uint64_t>(experiment.training.batch_size, kPostsAtOnce);
  CpuMemory memory = estimate_cpu_memory(config, size_of_steps(*data.train, features, posts));
  const std::uint64_t batches =
      loader_memory(*data.train, loader_options(experiment, config.threads, features));
  // Validation reads its corpus from start to end. Where the convolution begins, the best tables are read.
  std::uint64_t mapped = data.valid->bytes();
  if (config.encoder == EncoderType::cnn && experiment.training.bag_epochs > 0) {
    memory.validation = std::max(memory.validation, memory.parameters);
  }
  const std::uint64_t total = resident + memory.total() + batches + mapped;
  const std::uint64_t peak = kernel_figure("/proc/self/status", "VmHWM");
  reporter.line(fmt::format(
      "memory: about {} MiB at most: program and data {}, tables {}, optimizer {}, step {}, batches {}, "
      "validation {}{}",
      mebibytes(std::max(total, peak)), mebibytes(resident + memory.library), mebibytes(memory.parameters),
      mebibytes(memory.optimizer), mebibytes(memory.step), mebibytes(batches),
      mebibytes(memory.validation + mapped), peak > total ? "; reading the posts took the most" : ""));
  const std::uint64_t limit = memory_limit(resident);
  if (total <= limit) return;
  reporter.line(
      fmt::format("warning: that does not fit into the {} MiB that this process can have. A smaller "
                  "encoder.dim, a larger "
                  "data.hashtags.min_count or a smaller tokenizer.vocab_size make the tables smaller, "
                  "a smaller training.batch_size the step; or take optimizer.type \"sgd\"",
                  mebibytes(limit)));
}

}  // namespace tagspace
