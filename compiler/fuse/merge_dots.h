// Scores that sum several products of queries and keys (MLA has two).
#pragma once

#include <optional>

#include "ir/expr.h"

namespace tilewright::fusion {

/// The raw product of dot term `i` while a score is being read; only merge_dots may see it.
ExprId partial_score(Expr& pool, size_t i, DType dtype);

/// `root` with the partial scores of all `count` dot terms added up in one score node. nullopt when they are not
/// summed under the same factors, or mentioned apart from their sum.
std::optional<ExprId> merge_dots(Expr& pool, ExprId root, size_t count);

}  // namespace tilewright::fusion
