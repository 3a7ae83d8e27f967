// The steps of skipgram.h for one instruction set, with fused multiply-adds where it has them.
#include "model/kernels/simd.h"
#include "model/kernels/simd_dot.h"
#include "model/kernels/simd_vector.h"
#include "model/kernels/skipgram.h"

namespace tagspace::kernels {
namespace {

class Steps {
 public:
  Steps(const SkipgramStepsView& steps, const SkipgramTables& tables, float rate, float* scratch)
      : steps_(steps), tables_(tables), dim_(tables.dim), changes_(scratch), rate_(rate) {}

  double take() {
    // Rows that have to come from far away do so while the steps before are taken.
    constexpr std::size_t kAhead = 3;
    for (std::size_t step = 0; step < steps_.count && step < kAhead; ++step) ask_for(step);
    for (std::size_t step = 0; step < steps_.count; ++step) {
      if (step + kAhead < steps_.count) ask_for(step + kAhead);
      const float* const input = input_of(step);
      const std::uint32_t* const targets = targets_of(step);
      score(input, targets);
      weigh(targets);
      move(input_of(step), targets);
    }
    add_logarithms();
    return loss_;
  }

 private:
  [[nodiscard]] float* input_of(std::size_t step) const {
    return tables_.inputs + std::size_t{steps_.neighbors[step]} * dim_;
  }
  [[nodiscard]] const std::uint32_t* targets_of(std::size_t step) const {
    return steps_.rows + step * steps_.targets;
  }
  [[nodiscard]] float* output(std::uint32_t row) const { return tables_.outputs + std::size_t{row} * dim_; }

  [[gnu::always_inline]] void ask_for(std::size_t step) const {
    prefetch(input_of(step), dim_);
    for (std::size_t i = 0; i < steps_.targets; ++i) prefetch(output(targets_of(step)[i]), dim_);
  }

  // Products of the input vector with the targets' output vectors, in groups; what stands behind the last is
  // of no use.
  void score(const float* input, const std::uint32_t* targets) {
    for (std::size_t first = 0; first < steps_.targets; first += kGroup) {
      const float* rows[kGroup];
      for (std::size_t r = 0; r < kGroup; ++r)
        rows[r] = output(targets[first + r < steps_.targets ? first + r : first]);
      Vec8 products;
      dot_group<false>(input, rows, dim_, products);
      __builtin_memcpy(changes_ + first, &products, sizeof products);
    }
  }

  // Makes of the products what the step adds of the output vectors to the input vector and of it to each of
  // them, and adds up the losses.
  void weigh(const std::uint32_t* targets) {
    // Where the loss and its slope are nothing.
    constexpr float kNone = -1000;
    const std::size_t end = (steps_.targets + kLanes - 1) / kLanes * kLanes;
    changes_[0] = -changes_[0];  // the centre is to have a large product, the negatives a small one
    for (std::size_t i = 1; i < steps_.targets; ++i) {
      if (targets[i] == targets[0]) changes_[i] = kNone;
    }
    for (std::size_t i = steps_.targets; i < end; ++i) changes_[i] = kNone;
    for (std::size_t i = 0; i < end; i += kLanes) {
      const Vec x = load(changes_ + i);
      // With e = exp(-|x|): the loss -log sigmoid(-x) is max(0, x) + log(1 + e).
      const Vec size = x < 0 ? -x : x;
      const Vec far = splat(80);
      const Exponential exp = exponential(size > far ? -far : -size);
      const Vec e = size > far ? Vec{} : exp.power * exp.rest + exp.power;
      store(changes_ + i, splat(-rate_) * (x < 0 ? e : splat(1)) / (1 + e));
      above_ += x > 0 ? x : Vec{};
      factors_ *= 1 + e;
      if (++factor_count_ == kFactors) add_logarithms();
    }
    changes_[0] = -changes_[0];
  }

  // A logarithm for each of many losses would be half of the work: it is taken of their product.
  void add_logarithms() {
    for (std::size_t lane = 0; lane < kLanes; ++lane)
      loss_ += static_cast<double>(above_[lane] + __builtin_logf(factors_[lane]));
    above_ = Vec{};
    factors_ = splat(1);
    factor_count_ = 0;
  }

  void move(float* input, const std::uint32_t* targets) const {
    std::size_t i = 0;
    for (; i + kLanes <= dim_; i += kLanes) {
      const Vec before = load(input + i);
      Vec after = before;
      for (std::size_t k = 0; k < steps_.targets; ++k)
        after += splat(changes_[k]) * load(output(targets[k]) + i);
      for (std::size_t k = 0; k < steps_.targets; ++k) {
        float* const at = output(targets[k]) + i;
        store(at, load(at) + splat(changes_[k]) * before);
      }
      store(input + i, after);
    }
    for (; i < dim_; ++i) {
      const float before = input[i];
      for (std::size_t k = 0; k < steps_.targets; ++k) input[i] += changes_[k] * output(targets[k])[i];
      for (std::size_t k = 0; k < steps_.targets; ++k) output(targets[k])[i] += changes_[k] * before;
    }
  }

  static constexpr int kFactors = 64;  // each from 1 to 2, so that their product is a float

  Vec above_ = {};
  Vec factors_ = splat(1);
  const SkipgramStepsView& steps_;
  const SkipgramTables& tables_;
  std::size_t dim_;
  float* changes_;  // [targets], and room behind them
  double loss_ = 0;
  float rate_;
  int factor_count_ = 0;
};

double skipgram(const SkipgramStepsView& steps, const SkipgramTables& tables, float rate, float* scratch) {
  return Steps(steps, tables, rate, scratch).take();
}

}  // namespace

namespace TAGSPACE_ISA {
extern const SkipgramKernel skipgram_kernel;
const SkipgramKernel skipgram_kernel = skipgram;
}  // namespace TAGSPACE_ISA

}  // namespace tagspace::kernels
