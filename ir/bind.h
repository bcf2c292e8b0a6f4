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

}  // namespace tilewright
