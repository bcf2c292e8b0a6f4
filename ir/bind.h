// Binding: what the named dims are, given real tensors.
#pragma once

#include <span>

#include "ir/graph.h"
#include "ir/tensor_view.h"

namespace tilewright {

/// Solves the named dims of `types` from `views` (same order) and checks ranks, dtypes and every dim.
/// Errors name the parameter, the axis, the size found and the size (or the other parameter's size) expected.
Result<DimBindings> bind_dims(std::span<const TensorType> types, std::span<const std::string> names,
                              std::span<const TensorView> views);

/// What only sizes can tell about a verified graph: every dim of every value is non-negative and does not overflow,
/// every slice lies inside its operand. Errors name the value, its type and the size found.
Diagnostics check_dims(const Graph& graph, const DimBindings& dims);

/// Names of `types` that no binding of their dims can determine (such as B in `B+S` alone); verify reports them.
std::vector<std::string> unsolvable_dims(std::span<const TensorType> types);

}  // namespace tilewright
