// The steps of skip-gram with negative sampling (Mikolov, Sutskever, Chen, Corrado, Dean, "Distributed
// representations of words and phrases and their compositionality", NIPS 2013), for word2vec.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tagspace::kernels {

struct CpuContext;  // cpu_context.h

// A step is for one neighbour of a centre, both rows of the tables. Its targets are the centre and then the
// negatives; a negative that is the centre itself does not count, one that is there twice counts twice.
struct SkipgramSteps {
  std::size_t targets = 1;               // of a step
  std::vector<std::uint32_t> neighbors;  // [steps]
  std::vector<std::uint32_t> rows;       // [steps, targets]
};

// Each token's input vector and its output vector, [tokens, dim].
struct SkipgramTables {
  float* inputs = nullptr;
  float* outputs = nullptr;
  std::size_t dim = 0;
};

// The steps one after the other, each by gradient descent down its loss as it stands before the step: with x
// the neighbour's input vector and y the targets' output vectors,
//
//   -log sigmoid(x . y[centre]) - sum over the negatives n of log sigmoid(-x . y[n]).
//
// Returns the sum of the losses. The plain reference, and the implementation to use, which is one thread's;
// they differ by the order of additions.
double take_skipgram_steps_reference(const SkipgramSteps& steps, const SkipgramTables& tables, float rate);
double take_skipgram_steps(const SkipgramSteps& steps, const SkipgramTables& tables, float rate,
                           CpuContext& context);

}  // namespace tagspace::kernels
