// How a contract step's index space is walked as matrix products: rows × columns × depth for every outer index.
#pragma once

#include <vector>

#include "compiler/program.h"

namespace tilewright {

struct ContractAxes {
  std::vector<int> outer;  ///< each of their index tuples is a product of its own
  /// Flattened row-major into the rows of the product: the row axis, last, and the leading axes that value2 does not
  /// depend on (weights without batch axes).
  std::vector<int> rows;
  int column = -1, depth = -1;
};
ContractAxes contract_axes(const LoopStep& step);

/// The last index of a load moves with `axis`: its neighbours are likely to be close in memory.
bool innermost(const Expr& operand, int axis);

/// Product of the step's extents over `axes`, i64 over dims.
Expr extent_product(const LoopStep& step, const std::vector<int>& axes);

}  // namespace tilewright
