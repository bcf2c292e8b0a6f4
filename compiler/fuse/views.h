// Index mapping through view ops: where an element of a view comes from.
#pragma once

#include "compiler/fuse/index_math.h"

namespace tilewright::fusion {

/// Row-major re-indexing: the index into `to` of the element at `at` in `from` (same number of elements).
Indices reshape_indices(IndexMath& math, const Shape& from, const Indices& at, const Shape& to);

/// True for views of one operand (concat is none).
bool is_simple_view(Op op);

/// Index into the operand of a simple view for the element at `at` of its result.
Indices view_operand_indices(IndexMath& math, const Graph& graph, const Node& view, const Indices& at);

/// The other direction, for views that move every element to exactly one place (transpose, reshape): index into the
/// result for the element at `at` of the operand. nullopt for all others.
std::optional<Indices> view_result_indices(IndexMath& math, const Graph& graph, const Node& view, const Indices& at);

/// Index into an operand of shape `operand` that broadcasts right-aligned to a result of index `at`.
Indices broadcast_indices(IndexMath& math, const Shape& operand, const Indices& at);

}  // namespace tilewright::fusion
