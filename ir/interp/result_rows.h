// How a graph's result falls into (b, h) groups and query rows, seen through the views that lay it out.
#pragma once

#include <optional>
#include <random>
#include <vector>

#include "ir/interp.h"

namespace tilewright::interp {

/// The value that made the result's numbers, and the way from there to the result.
struct Anchor {
  ValueId value = kNoValue;
  size_t row_axis = 0;               ///< axes before it are (b, h)
  std::vector<ValueId> trail;        ///< views, casts and pointwise ops after it, in order; same elements, other places
  ValueId right_operand = kNoValue;  ///< V, when a matmul made it and only views and casts follow
};
Anchor find_anchor(const Graph& graph, ValueId result);

/// Index in the result of the anchor's element `index`.
std::vector<int64_t> follow_trail(const GraphOracle& oracle, const Anchor& anchor, std::vector<int64_t> index);

/// Largest number of scores (matmul or softmax elements) of any value that the result depends on.
int64_t score_count(const GraphOracle& oracle, ValueId result);
bool depends_on_tanh(const Graph& graph, ValueId result);

/// Rows to compare, per group (row-major over the axes before row_axis), sorted.
using RowChoice = std::vector<std::vector<int64_t>>;
RowChoice all_rows(int64_t groups, int64_t rows);
/// `count` seeded rows of all groups, the first and the last rows, and those on both sides of block borders.
RowChoice sampled_rows(int64_t groups, int64_t rows, int64_t count, const std::vector<int64_t>& blocks, uint64_t seed);

}  // namespace tilewright::interp
