// Sensible integers for a parameter, found from how the graph uses it: an index into a table stays inside it, a length
// inside its sequence, document ids ascend.
#pragma once

#include <string>

#include "ir/graph.h"
#include "ir/tensor_view.h"

namespace tilewright {

struct IntegerRange {
  int64_t low = 0, high = 7;  ///< inclusive
  bool ascending = false;     ///< along the last axis
  std::string why;            ///< "lengths within Sk", for people
};

IntegerRange integer_range(const Graph& graph, ValueId param, const DimBindings& dims);
void fill_integers(const TensorView& contiguous, const IntegerRange& range, uint64_t seed);

}  // namespace tilewright
