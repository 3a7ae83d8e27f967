// Random inputs for the tests of kernels, and every CPU context that they have to agree on.
#pragma once

#include <cmath>
#include <cstdint>
#include <gtest/gtest.h>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "model/kernels/cpu_context.h"
#include "model/kernels/simd.h"

namespace tagspace::kernels {

// Calls body(context, description) for 1, 2, 3 and 7 threads on every instruction set of this machine.
template <typename Body>
void for_each_context(const Body& body) {
  for (const auto* simd : available_simd_kernels()) {
    for (const std::size_t threads : {1, 2, 3, 7}) {
      CpuContext context(threads, simd);
      SCOPED_TRACE(std::string(simd->name) + ", " + std::to_string(threads) + " threads");
      body(context);
    }
  }
}

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  float normal(float scale = 1) { return scale * std::normal_distribution<float>()(engine_); }
  std::uint32_t below(std::uint32_t n) {
    return std::uniform_int_distribution<std::uint32_t>(0, n - 1)(engine_);
  }
  std::vector<float> normals(std::size_t count, float scale = 1) {
    std::vector<float> values(count);
    for (auto& value : values) value = normal(scale);
    return values;
  }

 private:
  std::mt19937_64 engine_;
};

// The one table of tolerances: a float kernel may differ from its reference by this share of the largest
// value, for its additions have another order and fused multiply-adds.
constexpr float kFloatTolerance = 2e-5F;

inline void expect_close(const std::vector<float>& actual, const std::vector<float>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  float largest = 1e-6F;
  for (const float x : expected) largest = std::max(largest, std::abs(x));
  for (std::size_t i = 0; i < actual.size(); ++i) {
    // Written so that a value that is no number fails.
    ASSERT_TRUE(std::abs(actual[i] - expected[i]) <= kFloatTolerance * largest)
        << "at " << i << ": " << actual[i] << " instead of " << expected[i];
  }
}

}  // namespace tagspace::kernels
