// Which elements of its operands a node needs, given those wanted of itself.
#pragma once

#include "ir/interp/index_set.h"
#include "ir/interp/prepare.h"

namespace tilewright::interp {

/// What is really computed when `wanted` is asked of node `id`: a softmax is computed over its whole axis,
/// a scatter_add whole.
Grid computed_grid(const PreparedGraph& prepared, ValueId id, const Grid& wanted);

/// Elements of operand `k` of node `id` that computing `grid` reads.
Grid needed_of_operand(const PreparedGraph& prepared, const DimBindings& dims, ValueId id, size_t k, const Grid& grid);

/// A reshape falls into groups of axes with equal products: result axes [begin, end) hold the same elements as operand
/// axes [operand_begin, operand_end).
struct ReshapeGroup {
  size_t begin, end, operand_begin, operand_end;
};
std::vector<ReshapeGroup> reshape_groups(const std::vector<int64_t>& from, const std::vector<int64_t>& to);

}  // namespace tilewright::interp
