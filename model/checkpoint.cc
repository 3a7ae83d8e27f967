#include "model/checkpoint.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace tagspace {
namespace {

using nlohmann::json;
static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

constexpr std::uint64_t kLargestHeader = 100'000'000;  // as the format's reference implementation has it

std::string checksum_of(std::span<const std::byte> bytes) {
  Checksum checksum;
  checksum.update(bytes);
  return checksum.hex();
}

static_assert(sizeof(float) == sizeof(std::uint32_t));
std::span<const std::byte> bytes_of(const NamedArray& array) {
  return array.integers != nullptr ? std::as_bytes(std::span(array.integers, array.size()))
                                   : std::as_bytes(std::span(array.data, array.size()));
}

}  // namespace

void write_checkpoint(const std::filesystem::path& path, std::span<const NamedArray> arrays,
                      const std::string& text) {
  json header;
  std::uint64_t offset = 0;
  Checksum checksum;
  for (const auto& array : arrays) {
    const std::span values(array.data, array.integers != nullptr ? 0 : array.size());
    if (!std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); })) {
      throw Diverged("'" + path.string() + "' is not written: '" + array.name +
                     "' has values that are not finite numbers; lower optimizer.learning_rate or set "
                     "optimizer.max_norm");
    }
    const auto bytes = bytes_of(array);
    checksum.update(bytes);
    header[array.name] = {{"dtype", array.integers != nullptr ? "U32" : "F32"},
                          {"shape", array.shape},
                          {"data_offsets", {offset, offset + bytes.size()}}};
    offset += bytes.size();
  }
  header["__metadata__"] = {{"format", "tagspace"}, {"text", text}, {"xxh3", checksum.hex()}};
  std::string head = header.dump();
  head.append((8 - head.size() % 8) % 8, ' ');  // the arrays are aligned
  const std::uint64_t head_size = head.size();

  AtomicFile file(path);
  file.write(std::as_bytes(std::span(&head_size, 1)));
  file.write(head);
  for (const auto& array : arrays) file.write(bytes_of(array));
  file.commit();
}

std::vector<std::uint32_t> to_halves(std::span<const std::uint64_t> numbers) {
  std::vector<std::uint32_t> halves;
  halves.reserve(2 * numbers.size() + 1);  // not null, even of no numbers
  for (const std::uint64_t number : numbers) {
    halves.push_back(static_cast<std::uint32_t>(number));
    halves.push_back(static_cast<std::uint32_t>(number >> 32U));
  }
  return halves;
}

std::vector<std::uint64_t> from_halves(std::span<const std::uint32_t> halves) {
  std::vector<std::uint64_t> numbers(halves.size() / 2);
  for (std::size_t i = 0; i < numbers.size(); ++i)
    numbers[i] = halves[2 * i] | (std::uint64_t{halves[2 * i + 1]} << 32U);
  return numbers;
}

CheckpointFile::CheckpointFile(const std::filesystem::path& path) : path_(path.string()), file_(path) {
  const auto damaged = [&](const std::string& what) {
    return Error("'" + path.string() + "' is not a whole checkpoint: " + what);
  };
  const auto bytes = file_.bytes();
  std::uint64_t head_size = 0;
  if (bytes.size() < sizeof head_size)
    throw damaged("it has only " + std::to_string(bytes.size()) + " bytes");
  std::memcpy(&head_size, bytes.data(), sizeof head_size);
  if (head_size > kLargestHeader) throw damaged("it does not begin with a safetensors header");
  if (head_size > bytes.size() - sizeof head_size) throw damaged("it ends within its header");
  const auto* head = reinterpret_cast<const char*>(bytes.data() + sizeof head_size);
  const auto data = bytes.subspan(sizeof head_size + head_size);

  try {
    const json header = json::parse(head, head + head_size);
    std::uint64_t expected = 0;
    for (const auto& [name, entry] : header.items()) {
      if (name == "__metadata__") continue;
      const bool integers = entry.at("dtype") == "U32";
      if (!integers && entry.at("dtype") != "F32") {
        throw damaged("'" + name + "' is neither of float32 numbers nor of unsigned ones of 32 bits");
      }
      NamedArray array{name, entry.at("shape").get<std::vector<std::uint64_t>>()};
      const auto begin = entry.at("data_offsets").at(0).get<std::uint64_t>();
      const auto end = entry.at("data_offsets").at(1).get<std::uint64_t>();
      if (end < begin || end - begin != array.size() * sizeof(float) || begin % sizeof(float) != 0) {
        throw damaged("the place of '" + name + "' does not fit its shape");
      }
      if (end > data.size()) throw damaged("it ends before the end of '" + name + "'");
      if (integers) {
        array.integers = reinterpret_cast<const std::uint32_t*>(data.data() + begin);
      } else {
        array.data = reinterpret_cast<const float*>(data.data() + begin);
      }
      expected = std::max(expected, end);
      arrays_.push_back(std::move(array));
    }
    if (expected != data.size()) throw damaged("it has bytes beyond its arrays");
    const json& metadata = header.at("__metadata__");
    text_ = metadata.at("text").get<std::string>();
    if (metadata.at("xxh3").get<std::string>() != checksum_of(data))
      throw damaged("its checksum does not fit its contents");
  } catch (const json::exception& error) {
    throw damaged("its header is not as expected");
  }
}

std::span<const float> CheckpointFile::get(const std::string& name,
                                           const std::vector<std::uint64_t>& shape) const {
  const NamedArray& array = find(name, shape, false);
  return {array.data, array.size()};
}

std::span<const std::uint32_t> CheckpointFile::get_integers(const std::string& name,
                                                            const std::vector<std::uint64_t>& shape) const {
  const NamedArray& array = find(name, shape, true);
  return {array.integers, array.size()};
}

const NamedArray& CheckpointFile::find(const std::string& name, const std::vector<std::uint64_t>& shape,
                                       bool integers) const {
  const auto array = std::find_if(arrays_.begin(), arrays_.end(), [&](const NamedArray& candidate) {
    return candidate.name == name && (candidate.integers != nullptr) == integers;
  });
  if (array == arrays_.end()) throw Error("'" + path_ + "' has no array '" + name + "'");
  if (array->shape != shape) {
    const auto text = [](const std::vector<std::uint64_t>& extents) {
      std::string result;
      for (const auto extent : extents) result += (result.empty() ? "" : " x ") + std::to_string(extent);
      return result;
    };
    throw Error("'" + path_ + "' does not belong to this model: '" + name + "' is " + text(array->shape) +
                ", and should be " + text(shape));
  }
  return *array;
}

}  // namespace tagspace
