// Scores that sum several products of queries and keys (MLA has two).
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "ir/expr.h"

namespace tilewright::fusion {

/// The raw product of dot term `i` while a score is being read; only merge_dots may see it.
ExprId partial_score(Expr& pool, size_t i, DType dtype);

/// Adds partial scores up wherever they are summed under the same factors, all of `roots` at once, which are renumbered
/// in place. Returns the products that are left, in the order of their first term: disjoint sets of terms, bit i for
/// term i. nullopt when a term is mentioned in more than one of them.
std::optional<std::vector<int64_t>> merge_dots(Expr& pool, std::span<ExprId> roots, size_t count);

/// Partial scores of the terms products[i] become product i.
void number_products(Expr& pool, std::span<ExprId> roots, std::span<const int64_t> products);

}  // namespace tilewright::fusion
