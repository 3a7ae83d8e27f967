#include "data_pipeline/corpus.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "base/error.h"
#include "data_pipeline/temporary_file.h"

namespace tagspace {
namespace {

static_assert(std::endian::native == std::endian::little,
              "the corpus is written and mapped as it is in memory");

constexpr char kMagic[8] = {'t', 'a', 'g', 's', 'p', 'a', 'c', 'e'};
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kReleaseBytes = std::size_t{8} << 20U;

struct Header {
  char magic[8] = {};
  std::uint32_t version = 0;
  std::uint32_t reserved = 0;
  std::uint64_t key = 0;
  std::uint32_t vocab_size = 0;
  std::uint32_t hashtag_table = 0;
  std::uint64_t posts = 0;
  std::uint64_t tokens = 0;
  std::uint64_t hashtags = 0;
  std::uint64_t reserved2 = 0;
  std::uint64_t checksum = 0;  // of all after the header, and then of the header before this
};
static_assert(sizeof(Header) == 72);

template <class T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

// Calls `visit(std::span<const std::uint32_t>)` with all numbers of the file, part by part.
template <class Visit>
void read_numbers(TemporaryFile& file, const Visit& visit) {
  std::vector<std::uint32_t> part;
  file.rewind();
  while (!file.at_end()) {
    constexpr std::uint64_t kMost = std::uint64_t{1} << 16U;
    part.resize(static_cast<std::size_t>(std::min(kMost, file.bytes_left() / sizeof(std::uint32_t))));
    file.read(std::as_writable_bytes(std::span(part)));
    visit(std::span<const std::uint32_t>(part));
  }
}

[[noreturn]] void fail_damaged(const std::filesystem::path& path, const std::string& reason) {
  throw Error("the corpus '" + path.string() + "' is damaged (" + reason +
              "): delete it, and it will be made again");
}

}  // namespace

struct CorpusWriter::Implementation {
  Implementation(const std::filesystem::path& path, const CorpusInfo& info)
      : file(path), hashtags(path), token_counts(path), hashtag_counts(path) {
    std::memcpy(header.magic, kMagic, sizeof kMagic);
    header.version = kVersion;
    header.key = info.key;
    header.vocab_size = info.vocab_size;
    header.hashtag_table = info.hashtags;
    file.write(bytes_of(header));
  }

  void write(std::span<const std::byte> bytes) {
    file.write(bytes);
    checksum.update(bytes);
  }

  void write_offsets(TemporaryFile& counts) {
    std::uint64_t offset = 0;
    std::vector<std::uint64_t> offsets = {0};
    read_numbers(counts, [&](std::span<const std::uint32_t> part) {
      for (const std::uint32_t count : part) offsets.push_back(offset += count);
      write(std::as_bytes(std::span(offsets)));
      offsets.clear();
    });
    write(std::as_bytes(std::span(offsets)));
  }

  AtomicFile file;
  TemporaryFile hashtags;
  TemporaryFile token_counts;
  TemporaryFile hashtag_counts;
  std::vector<std::uint32_t> numbers;  // of the posts that are being added
  Header header;
  Checksum checksum;
};

CorpusWriter::CorpusWriter(const std::filesystem::path& path, const CorpusInfo& info)
    : implementation_(std::make_unique<Implementation>(path, info)) {}
CorpusWriter::~CorpusWriter() = default;

void CorpusWriter::add(const PackedBatch& posts) {
  Implementation& to = *implementation_;
  to.write(std::as_bytes(std::span(posts.tokens)));
  to.hashtags.write(std::as_bytes(std::span(posts.hashtags)));
  const auto write_counts = [&](const std::vector<std::uint32_t>& offsets, TemporaryFile& counts) {
    to.numbers.resize(posts.posts());
    for (std::size_t i = 0; i < posts.posts(); ++i) to.numbers[i] = offsets[i + 1] - offsets[i];
    counts.write(std::as_bytes(std::span(to.numbers)));
  };
  write_counts(posts.token_offsets, to.token_counts);
  write_counts(posts.hashtag_offsets, to.hashtag_counts);
  to.header.posts += posts.posts();
  to.header.tokens += posts.tokens.size();
  to.header.hashtags += posts.hashtags.size();
}

void CorpusWriter::commit() {
  Implementation& to = *implementation_;
  read_numbers(to.hashtags, [&](std::span<const std::uint32_t> part) { to.write(std::as_bytes(part)); });
  if ((to.header.tokens + to.header.hashtags) % 2 != 0) to.write(bytes_of(std::uint32_t{0}));
  to.write_offsets(to.token_counts);
  to.write_offsets(to.hashtag_counts);
  to.checksum.update(bytes_of(to.header).first(offsetof(Header, checksum)));
  to.header.checksum = to.checksum.value();
  to.file.overwrite(0, bytes_of(to.header));
  to.file.commit();
}

std::uint64_t CorpusWriter::posts() const { return implementation_->header.posts; }

Corpus::Corpus(const std::filesystem::path& path) : file_(path) {
  const std::span<const std::byte> bytes = file_.bytes();
  Header header;
  if (bytes.size() < sizeof header) fail_damaged(path, "it is shorter than its header");
  std::memcpy(&header, bytes.data(), sizeof header);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0)
    fail_damaged(path, "it does not begin as a corpus does");
  if (header.version > kVersion) {
    throw Error("the corpus '" + path.string() + "' has format version " + std::to_string(header.version) +
                ", this program reads up to " + std::to_string(kVersion) +
                ": use a newer program, or delete it");
  }
  if (header.version == 0) fail_damaged(path, "its version is 0");

  // Sizes, without overflow: no count can exceed the file's bytes.
  const std::uint64_t most = bytes.size();
  const bool counts_fit = header.posts < most && header.tokens < most && header.hashtags < most;
  const std::uint64_t numbers = header.tokens + header.hashtags;
  if (!counts_fit || sizeof header + 4 * (numbers + numbers % 2) + 16 * (header.posts + 1) != bytes.size()) {
    fail_damaged(path,
                 "its size is " + std::to_string(bytes.size()) + " bytes, which is not what its header says");
  }

  Checksum checksum;
  for (std::size_t at = sizeof header; at < bytes.size(); at += kReleaseBytes) {
    checksum.update(bytes.subspan(at, std::min(kReleaseBytes, bytes.size() - at)));
    release_pages();
  }
  checksum_ = checksum.value();
  checksum.update(bytes.first(offsetof(Header, checksum)));
  if (checksum.value() != header.checksum) fail_damaged(path, "its checksum does not fit");

  info_ = {header.vocab_size, header.hashtag_table, header.key};
  posts_ = header.posts;
  const auto* ids = reinterpret_cast<const std::uint32_t*>(bytes.data() + sizeof header);
  tokens_ = {ids, static_cast<std::size_t>(header.tokens)};
  hashtags_ = {ids + header.tokens, static_cast<std::size_t>(header.hashtags)};
  const auto* offsets = reinterpret_cast<const std::uint64_t*>(ids + numbers + numbers % 2);
  token_offsets_ = {offsets, static_cast<std::size_t>(posts_ + 1)};
  hashtag_offsets_ = {offsets + posts_ + 1, static_cast<std::size_t>(posts_ + 1)};

  // A right checksum over wrong contents is a mistake of whatever wrote them, and must not become a stray
  // read.
  const auto check_ids = [&](std::span<const std::uint32_t> all, std::uint32_t bound, const char* what) {
    while (!all.empty()) {
      const auto part = all.first(std::min(all.size(), kReleaseBytes / sizeof(std::uint32_t)));
      if (*std::max_element(part.begin(), part.end()) >= bound)
        fail_damaged(path, std::string(what) + " is out of range");
      all = all.subspan(part.size());
      release_pages();
    }
  };
  const auto check_offsets = [&](std::span<const std::uint64_t> all, std::uint64_t last) {
    if (all.front() != 0 || all.back() != last) fail_damaged(path, "its offsets do not fit");
    std::uint64_t previous = 0;
    while (!all.empty()) {
      const auto part = all.first(std::min(all.size(), kReleaseBytes / sizeof(std::uint64_t)));
      for (const std::uint64_t offset : part) {
        if (offset < previous) fail_damaged(path, "an offset goes backwards");
        previous = offset;
      }
      all = all.subspan(part.size());
      release_pages();
    }
  };
  check_ids(tokens_, header.vocab_size, "a token");
  check_ids(hashtags_, header.hashtag_table, "a hashtag");
  check_offsets(token_offsets_, header.tokens);
  check_offsets(hashtag_offsets_, header.hashtags);
}

std::span<const std::uint32_t> Corpus::tokens(std::uint64_t post) const {
  return tokens_.subspan(token_offsets_[post], token_offsets_[post + 1] - token_offsets_[post]);
}

std::span<const std::uint32_t> Corpus::hashtags(std::uint64_t post) const {
  return hashtags_.subspan(hashtag_offsets_[post], hashtag_offsets_[post + 1] - hashtag_offsets_[post]);
}

void Corpus::append_to(PackedBatch& batch, std::uint64_t begin, std::uint64_t end) const {
  append_ids(tokens_, token_offsets_, begin, end, batch.tokens, batch.token_offsets);
  append_ids(hashtags_, hashtag_offsets_, begin, end, batch.hashtags, batch.hashtag_offsets);
}

}  // namespace tagspace
