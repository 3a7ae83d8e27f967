// The CUDA kernels of a training step against the device's memory bandwidth.
//
//   benchmark_kernels [posts] [rounds]
//
// Times the search, the sort by row with the update of the rows, and the search in hogwild mode, over a table
// of 100,000 x 256 and one of 10,000,000 x 64, for a model that has learned nothing yet (few tries) and one
// that has (many). Bytes are those that the algorithm cannot do without: each row that is tried, each post
// vector and gradient, and for a row that is changed the row and Adagrad's sums, read and written; for the
// sort, keys and numbers in each pass. Rows that are tried in vain beside the violator are not counted. What
// a cache answers is: a share of the peak above 100% says that much of the table is in the cache.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "model/kernels/cuda/device_array.h"
#include "model/kernels/cuda/row_update.cuh"
#include "model/kernels/cuda/warp.cuh"

namespace tagspace::kernels {
namespace {

using cuda::DeviceArray;
using cuda::require;

constexpr std::uint32_t kMaxTries = 1000;
constexpr unsigned kUpdateWarps = 4;
constexpr std::size_t kPattern = (1U << 20) + 7;  // numbers that a table repeats; odd, so that rows differ

class Event {
 public:
  Event() { require(cudaEventCreate(&event_), "creating an event"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  Event(Event&&) = delete;
  Event& operator=(Event&&) = delete;

  void record() { require(cudaEventRecord(event_, nullptr), "recording an event"); }
  // Seconds; waits for this event.
  [[nodiscard]] double since(const Event& start) const {
    float milliseconds = 0;
    require(cudaEventSynchronize(event_), "the kernels");
    require(cudaEventElapsedTime(&milliseconds, start.event_, event_), "reading the time between events");
    return milliseconds / 1e3;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

// In bytes a second; 0 if the device does not say.
double peak_bandwidth() {
  int kilohertz = 0;
  int bits = 0;
  if (cudaDeviceGetAttribute(&kilohertz, cudaDevAttrMemoryClockRate, 0) != cudaSuccess ||
      cudaDeviceGetAttribute(&bits, cudaDevAttrGlobalMemoryBusWidth, 0) != cudaSuccess) {
    (void)cudaGetLastError();  // it would be found again after the next launch
    return 0;
  }
  return 2.0 * kilohertz * 1e3 * bits / 8;  // two transfers a clock
}

std::vector<float> pattern(std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<float> normal(0, 0.3F);
  std::vector<float> values(kPattern);
  for (float& value : values) value = normal(engine);
  return values;
}

// Repeats `values` over an array of `size`.
template <typename T>
void fill(const DeviceArray<T>& array, const std::vector<T>& values) {
  for (std::size_t at = 0; at < array.size(); at += values.size()) {
    const std::size_t count = std::min(values.size(), array.size() - at);
    if (at == 0) {
      require(cudaMemcpy(array.data(), values.data(), count * sizeof(T), cudaMemcpyHostToDevice),
              "copying to the GPU");
    } else {
      require(cudaMemcpy(array.data() + at, array.data(), count * sizeof(T), cudaMemcpyDeviceToDevice),
              "copying on the GPU");
    }
  }
}

struct Size {
  std::uint32_t rows;
  std::uint32_t dim;
};

// Posts of 1 to 5 hashtags, one of which is the positive, towards which the post's vector leans.
struct Posts {
  std::vector<float> vectors;
  std::vector<std::uint32_t> own, own_offsets = {0}, positives, positive_offsets = {0};

  Posts(std::uint32_t count, const Size& size, float lean, const std::vector<float>& table) {
    std::mt19937_64 engine(2);
    std::normal_distribution<float> normal(0, 0.3F);
    const float factor = lean / std::sqrt(static_cast<float>(size.dim));
    for (std::uint32_t post = 0; post < count; ++post) {
      const auto begin = static_cast<std::ptrdiff_t>(own.size());
      for (std::uint32_t i = 0; i < 1 + post % 5; ++i) {
        own.push_back(static_cast<std::uint32_t>(engine() % size.rows));
      }
      const std::uint32_t positive = own.back();
      std::sort(own.begin() + begin, own.end());
      own_offsets.push_back(static_cast<std::uint32_t>(own.size()));
      positives.push_back(positive);
      positive_offsets.push_back(post + 1);
      for (std::uint32_t i = 0; i < size.dim; ++i) {
        const float of_row = table[(std::size_t{positive} * size.dim + i) % table.size()];
        vectors.push_back(normal(engine) + factor * of_row);
      }
    }
  }
};

// Of each round.
struct Measured {
  std::vector<double> seconds, bytes;

  void add(double seconds_of_round, double bytes_of_round) {
    seconds.push_back(seconds_of_round);
    bytes.push_back(bytes_of_round);
  }
  // The median of `values`, of an even number of them the upper one.
  static double median(std::vector<double> values) {
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
  }
};

class Benchmark {
 public:
  Benchmark(std::uint32_t posts, int rounds) : posts_(posts), rounds_(rounds), peak_(peak_bandwidth()) {}

  void run() {
    std::printf("%u posts a launch, one pair each; median of %d rounds; ", posts_, rounds_);
    if (peak_ > 0) {
      std::printf("the device's memory has %.0f GB/s\n\n", peak_ / 1e9);
    } else {
      std::printf("the device does not say how fast its memory is\n\n");
    }
    std::printf("%10s %5s  %-9s %7s  %-16s %9s %12s %8s %8s\n", "hashtags", "dim", "table", "tries",
                "kernels", "ms", "posts/s", "GB/s", "of peak");
    for (const Size& size : {Size{100'000, 256}, Size{10'000'000, 64}}) {
      run_size<float>(size, "float32");
      run_size<Bfloat16>(size, "bfloat16");
    }
  }

 private:
  template <typename T>
  void run_size(const Size& size, const char* type) {
    const std::size_t elements = std::size_t{size.rows} * size.dim;
    const std::size_t of_posts = std::size_t{posts_} * (2 * size.dim + 100) * sizeof(float);
    const std::size_t needed = elements * (sizeof(T) + sizeof(float)) + of_posts;
    std::size_t available = 0;
    std::size_t total = 0;
    require(cudaMemGetInfo(&available, &total), "asking for the device's free memory");
    if (needed > available) {
      std::printf("%10u %5u  %-9s left out: needs %.1f GB of memory, %.1f GB are free\n", size.rows, size.dim,
                  type, static_cast<double>(needed) / 1e9, static_cast<double>(available) / 1e9);
      return;
    }
    std::vector<float> values = pattern(1);
    std::vector<float> squares(values.size());
    std::transform(values.begin(), values.end(), squares.begin(), [](float x) { return 1 + x * x; });
    const DeviceArray<T> table(elements);
    const DeviceArray<float> sums(elements);
    fill(sums, squares);
    cuda::Table pointers;
    pointers.sums = sums.data();
    if constexpr (sizeof(T) == sizeof(float)) {
      fill(table, values);
      pointers.floats = table.data();
    } else {
      std::vector<Bfloat16> halves(values.size());
      std::transform(values.begin(), values.end(), halves.begin(), round_to_nearest);
      fill(table, halves);
      pointers.halves = table.data();
    }
    for (const float lean : {0.0F, 2.0F}) {
      run_posts(size, type, pointers, sizeof(T), Posts(posts_, size, lean, values));
    }
  }

  void run_posts(const Size& size, const char* type, const cuda::Table& table, std::size_t element_bytes,
                 const Posts& posts) {
    const std::vector<float> weights_of_tries = rank_weights(RankWeight::harmonic, size.rows, kMaxTries);
    const DeviceArray<float> weights(weights_of_tries);
    const DeviceArray<float> vectors(posts.vectors);
    const DeviceArray<std::uint32_t> own(posts.own);
    const DeviceArray<std::uint32_t> own_offsets(posts.own_offsets);
    const DeviceArray<std::uint32_t> positives(posts.positives);
    const DeviceArray<std::uint32_t> positive_offsets(posts.positive_offsets);
    const DeviceArray<std::uint32_t> violator(posts_);
    const DeviceArray<std::uint32_t> tries(posts_);
    const DeviceArray<float> loss(posts_);
    const DeviceArray<float> post_gradient(posts.vectors.size());
    const std::uint32_t contributions = 2 * posts_;
    const DeviceArray<std::uint32_t> rows(contributions);
    const DeviceArray<std::uint32_t> sources(contributions);
    const DeviceArray<float> coefficients(contributions);
    const DeviceArray<float> selves(contributions);
    const DeviceArray<std::uint32_t> sorted_rows(contributions);
    const DeviceArray<std::uint32_t> order(contributions);

    cuda::WarpSearch search;
    search.config = {Score::dot, 0.1F, kMaxTries, 1, weights.data()};
    search.batch = {posts_,     size.dim,           size.rows,        vectors.data(),          nullptr,
                    own.data(), own_offsets.data(), positives.data(), positive_offsets.data(), 0,
                    0};
    search.table = table;
    search.gradient_scale = 1 / static_cast<float>(posts_);
    search.output = {violator.data(), tries.data(),   loss.data(),         post_gradient.data(),
                     rows.data(),     sources.data(), coefficients.data(), selves.data()};
    std::size_t scratch_bytes = 0;
    require(cuda::sort_by_row(rows.data(), contributions, size.rows, sorted_rows.data(), order.data(),
                              nullptr, scratch_bytes, nullptr),
            "asking for the sort's memory");
    const DeviceArray<char> scratch(scratch_bytes);
    cuda::RowUpdate update;
    update.contributions = contributions;
    update.rows = sorted_rows.data();
    update.order = order.data();
    update.from = {vectors.data(), sources.data(), coefficients.data(), selves.data()};
    update.dim = size.dim;
    update.table = table;
    const auto sort_and_update = [&] {
      require(cuda::sort_by_row(rows.data(), contributions, size.rows, sorted_rows.data(), order.data(),
                                scratch.data(), scratch_bytes, nullptr),
              "the sort");
      require(cuda::update_rows(update, kUpdateWarps, nullptr), "the update");
    };

    // A round that is not timed, in which kernels are loaded; it says how many tries there are, for the
    // shape.
    require(cuda::warp_search(search, cuda::warp_shape(size.dim, 10), nullptr), "the search");
    sort_and_update();
    const double mean_tries = sum_of(tries) / posts_;
    const cuda::WarpShape shape = cuda::warp_shape(size.dim, static_cast<float>(mean_tries));
    search.hogwild = true;
    require(cuda::warp_search(search, shape, nullptr), "hogwild");

    const double row_bytes = static_cast<double>(element_bytes) * size.dim;
    const double vector_bytes = static_cast<double>(sizeof(float)) * size.dim;
    int passes = 0;
    for (std::uint32_t bits = size.rows; bits != 0; bits >>= 8) ++passes;
    const double sort_bytes = 4.0 * contributions * (1 + 4 * passes);
    Measured searching, updating, hogwild;
    Event start, searched, updated;
    for (int round = 0; round < rounds_; ++round) {
      search.batch.step = update.rounding.step = static_cast<std::uint64_t>(round) + 1;
      search.hogwild = false;
      start.record();
      require(cuda::warp_search(search, shape, nullptr), "the search");
      searched.record();
      sort_and_update();
      updated.record();
      const double search_bytes = (sum_of(tries) + posts_) * row_bytes + 2.0 * posts_ * vector_bytes;
      searching.add(searched.since(start), search_bytes);
      std::vector<std::uint32_t> touched = sorted_rows.values();
      touched.erase(std::lower_bound(touched.begin(), touched.end(), kNoRow), touched.end());
      double update_bytes = sort_bytes + static_cast<double>(touched.size()) * vector_bytes;
      touched.erase(std::unique(touched.begin(), touched.end()), touched.end());
      update_bytes += 2 * static_cast<double>(touched.size()) * (row_bytes + vector_bytes);
      updating.add(updated.since(searched), update_bytes);

      search.batch.step += 1'000'000;
      search.hogwild = true;
      start.record();
      require(cuda::warp_search(search, shape, nullptr), "hogwild");
      searched.record();
      const double hogwild_seconds = searched.since(start);
      const std::vector<std::uint32_t> found = violator.values();
      const auto changed = 2.0 * static_cast<double>(std::count_if(found.begin(), found.end(), [](auto row) {
                             return row != kNoViolator;
                           }));
      hogwild.add(hogwild_seconds, (sum_of(tries) + posts_) * row_bytes + 2.0 * posts_ * vector_bytes +
                                       changed * (row_bytes + 2 * vector_bytes));
    }
    print(size, type, mean_tries, "search", searching);
    print(size, type, mean_tries, "sort and update", updating);
    print(size, type, mean_tries, "hogwild search", hogwild);
  }

  static double sum_of(const DeviceArray<std::uint32_t>& array) {
    const std::vector<std::uint32_t> values = array.values();
    return std::accumulate(values.begin(), values.end(), 0.0);
  }

  void print(const Size& size, const char* type, double mean_tries, const char* kernels,
             const Measured& measured) const {
    const double seconds = Measured::median(measured.seconds);
    const double rate = Measured::median(measured.bytes) / seconds;
    std::printf("%10u %5u  %-9s %7.1f  %-16s %9.3f %12.0f %8.1f", size.rows, size.dim, type, mean_tries,
                kernels, seconds * 1e3, posts_ / seconds, rate / 1e9);
    if (peak_ > 0) {
      std::printf(" %7.1f%%\n", 100 * rate / peak_);
    } else {
      std::printf(" %8s\n", "unknown");
    }
    std::fflush(stdout);
  }

  std::uint32_t posts_;
  int rounds_;
  double peak_;
};

}  // namespace
}  // namespace tagspace::kernels

int main(int argc, char** argv) {
  try {
    const int posts = argc > 1 ? std::stoi(argv[1]) : 65536;
    const int rounds = argc > 2 ? std::stoi(argv[2]) : 20;
    if (posts < 1 || rounds < 1) throw std::invalid_argument("posts and rounds are 1 or more");
    tagspace::kernels::cuda::require_device();
    tagspace::kernels::Benchmark(static_cast<std::uint32_t>(posts), rounds).run();
  } catch (const tagspace::kernels::cuda::GpuError& error) {
    std::fprintf(stderr, "benchmark_kernels: error: %s\n", error.what());
    return 1;
  } catch (const std::logic_error&) {
    std::fprintf(stderr, "usage: benchmark_kernels [posts] [rounds], both 1 or more\n");
    return 2;
  }
  return 0;
}
