// A gradient judged by the oracle alone: the backward graph interpreted, against differences of the forward
// interpreted.
#pragma once

#include <string>
#include <vector>

#include "compiler/gradient.h"
#include "ir/interp.h"
#include "tests/support/test_tensor.h"

namespace tilewright::testing {

/// One forward and backward on data. Gradients of the results are N(0,1).
struct GradientCase {
  Graph graph;
  DimBindings dims;
  std::vector<TestTensor> inputs;  ///< of `graph`, in signature order
  GradientRequest request;
  uint64_t seed = 1;

  // Filled by run_backward.
  Gradient gradient;
  std::vector<TestTensor> result_gradients;  ///< one per float result, in order
  std::vector<TestTensor> backward_inputs;   ///< in signature order of the backward
  std::vector<std::vector<long double>> gradients;
};

/// Inputs N(0,1), integers 0 … 3, bools a fair coin. Dims that the graph names and `dims` does not give are 3.
GradientCase make_gradient_case(const Graph& graph, DimBindings dims = {}, uint64_t seed = 1);

/// Differentiates, checks that both graphs verify and survive their text, interprets the forward for what it saves and
/// then the backward. False after a gtest failure.
bool run_backward(GradientCase& test);

/// After run_backward, of an f64 graph: d(Σ result · gradient) along a random direction of each parameter and along
/// `elements` single elements, by central differences, within 1e-6 of it relative to the gradient's size.
void expect_differences(GradientCase& test, int elements = 3);

/// The same along one random direction of all parameters together.
void expect_joint_difference(GradientCase& test);

/// The graph with every float in f64.
Graph in_f64(Graph graph);

/// run_backward and expect_differences, saving and recomputing.
void check_gradient(const Graph& graph, DimBindings dims = {}, uint64_t seed = 1);

}  // namespace tilewright::testing
