// A yardstick for gradients where semantics 19 has none: how far the oracle moves when its intermediate values do.
#pragma once

#include <string>
#include <vector>

#include "ir/graph.h"
#include "tests/support/test_tensor.h"

namespace tilewright::testing {

/// Semantics 19 measures by a naive computation and by max|V|, which weights that sum to 1 multiply. The weights of a
/// gradient are differences: where a row keeps one key, dP - delta is exactly 0 for oracle and naive alike and a
/// rounding for any other order of summation. This judges one result against stochastic arithmetic: the oracle with
/// every parameter and every intermediate value moved at random by at most one unit of the accumulation type's
/// precision. At most 4 times the largest error of four draws (and of naive), 2 times their mean from 4096 elements on,
/// beside one rounding of the output. What is wrong, or nothing; NaN and infinities stand where the oracle has them.
std::string judge_by_conditioning(const Graph& graph, const DimBindings& dims, const std::vector<TestTensor>& inputs,
                                  size_t result, const TestTensor& found);

}  // namespace tilewright::testing
