// A mask as the conditions that all have to hold.
#pragma once

#include <utility>
#include <vector>

#include "compiler/simplify_builder.h"

namespace tilewright {

/// Nodes of `in`, each with the value that it must have. Constants are listed like any other node.
std::vector<std::pair<ExprId, bool>> conjuncts(const SimplifyingBuilder& in, ExprId id);

}  // namespace tilewright
