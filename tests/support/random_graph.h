// Random attention graphs: every spelling that fusion claims to know, random score and mask expressions, dtypes, sizes.
// The shared generator of all random tests: a new feature enters here on the day it lands.
#pragma once

#include <cstdint>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "ir/graph.h"
#include "tests/support/test_tensor.h"

namespace tilewright::testing {

/// How to fill a parameter.
struct Fill {
  enum class Kind : uint8_t { gaussian, coin, minus_inf_or_small, integer_between, ascending } kind = Kind::gaussian;
  double scale = 1;           ///< gaussian: standard deviation; coin: probability of true
  int64_t low = 0, high = 0;  ///< integer_between, ascending: inclusive bounds
};

struct RandomCase {
  uint64_t seed = 0;
  Graph graph;
  DimBindings dims;
  std::vector<Fill> fills;          ///< one per parameter
  std::set<std::string> spellings;  ///< what the graph uses: "gqa: reshape", "mask: additive", …
};

RandomCase random_attention(uint64_t seed);
/// The graph and its sizes, for failures.
std::string describe(const RandomCase& drawn);
/// Multiplications of all its products: what interpreting costs.
int64_t multiplications(const RandomCase& drawn);
/// Float parameters without an `update` on their way, which has no gradient.
std::vector<std::string> differentiable_params(const Graph& graph);
/// Inout parameters that are written, by position, and the value that stands there in the end.
std::vector<std::pair<size_t, ValueId>> written_params(const Graph& graph);
/// Data for its parameters, in guarded memory of random layouts.
std::vector<TestTensor> draw_inputs(const RandomCase& drawn, std::mt19937_64& random);

/// Shape of a parameter under the case's dims.
std::vector<int64_t> concrete_shape(const TensorType& type, const DimBindings& dims);

void fill(TestTensor& tensor, const Fill& how, std::mt19937_64& random);

}  // namespace tilewright::testing
