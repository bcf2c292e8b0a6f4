#include "ir/interp/needs.h"

namespace tilewright::interp {
namespace {

using Sizes = std::vector<int64_t>;

Grid of_broadcast(const Sizes& operand, const Grid& grid) {
  Grid out;
  const size_t missing = grid.size() - operand.size();
  for (size_t axis = 0; axis < operand.size(); ++axis) {
    const IndexSet& wanted = grid[missing + axis];
    out.push_back(operand[axis] == 1 && wanted.size() > 0 ? IndexSet::range(0, 1) : wanted);
  }
  return out;
}

/// Axes of the group, the elements of `set` seen as row-major positions, one set per axis.
void split_positions(const std::vector<int64_t>& positions, const Sizes& shape, size_t begin, size_t end, Grid& out) {
  int64_t inner = 1;
  std::vector<IndexSet> sets(end - begin);
  for (size_t axis = end; axis-- > begin;) {
    std::vector<int64_t> indices;
    for (int64_t position : positions) indices.push_back(position / inner % shape[axis]);
    sets[axis - begin] = IndexSet::of(std::move(indices));
    inner *= shape[axis];
  }
  for (IndexSet& set : sets) out.push_back(std::move(set));
}

std::vector<int64_t> joint_positions(const Grid& grid, const Sizes& shape, size_t begin, size_t end) {
  std::vector<int64_t> positions{0};
  for (size_t axis = begin; axis < end; ++axis) {
    std::vector<int64_t> next;
    for (int64_t position : positions)
      for (int64_t i = 0; i < grid[axis].size(); ++i) next.push_back(position * shape[axis] + grid[axis][i]);
    positions = std::move(next);
  }
  return positions;
}

Grid of_reshape(const Sizes& from, const Sizes& to, const Grid& grid) {
  Grid out;
  if (element_count(grid) == 0) return Grid(from.size(), IndexSet::range(0, 0));
  for (const ReshapeGroup& group : reshape_groups(from, to)) {
    if (group.end - group.begin == 1 && group.operand_end - group.operand_begin == 1)
      out.push_back(grid[group.begin]);
    else
      split_positions(joint_positions(grid, to, group.begin, group.end), from, group.operand_begin, group.operand_end,
                      out);
  }
  return out;
}

Grid of_matmul(const Node& node, const Sizes& operand, size_t k, const Grid& grid) {
  const size_t rank = operand.size(), batch = grid.size() - 2;
  Grid out;
  const Grid leading(grid.begin(), grid.begin() + static_cast<std::ptrdiff_t>(batch));
  const Sizes operand_leading(operand.begin(), operand.end() - 2);
  out = of_broadcast(operand_leading, leading);
  const bool rows_first = k == 0 || node.op == Op::matmul_nt;
  const IndexSet& wanted = grid[batch + k];
  out.push_back(rows_first ? wanted : IndexSet::range(0, operand[rank - 2]));
  out.push_back(rows_first ? IndexSet::range(0, operand[rank - 1]) : wanted);
  return out;
}

}  // namespace

std::vector<ReshapeGroup> reshape_groups(const Sizes& from, const Sizes& to) {
  std::vector<ReshapeGroup> groups;
  size_t i = 0, j = 0;
  while (i < to.size() || j < from.size()) {
    ReshapeGroup group{i, i, j, j};
    int64_t left = 1, right = 1;
    do {
      if (group.end < to.size() && (left <= right || group.operand_end == from.size()))
        left *= to[group.end++];
      else if (group.operand_end < from.size())
        right *= from[group.operand_end++];
    } while (left != right && (group.end < to.size() || group.operand_end < from.size()));
    // Trailing ones belong to the group before them, so that every group has axes on both sides where it can.
    if (group.end == group.begin || group.operand_end == group.operand_begin || left == 1) {
      while (group.end < to.size() && to[group.end] == 1) ++group.end;
      while (group.operand_end < from.size() && from[group.operand_end] == 1) ++group.operand_end;
    }
    groups.push_back(group);
    i = group.end;
    j = group.operand_end;
  }
  return groups;
}

Grid computed_grid(const PreparedGraph& prepared, ValueId id, const Grid& wanted) {
  const Node& node = prepared.graph[id];
  Grid grid = wanted;
  if (node.op == Op::scatter_add) return full_grid(prepared.shapes[static_cast<size_t>(raw(id))]);
  if (node.op == Op::softmax && element_count(wanted) > 0) {
    const auto axis = static_cast<size_t>(node.attributes.axis);
    grid[axis] = IndexSet::range(0, prepared.shapes[static_cast<size_t>(raw(id))][axis]);
  }
  return grid;
}

Grid needed_of_operand(const PreparedGraph& prepared, const DimBindings& dims, ValueId id, size_t k, const Grid& grid) {
  const Node& node = prepared.graph[id];
  const Sizes& own = prepared.shapes[static_cast<size_t>(raw(id))];
  const Sizes& operand = prepared.shapes[static_cast<size_t>(raw(node.operands[k]))];
  const auto axis = static_cast<size_t>(node.attributes.axis);
  switch (node.op) {
    case Op::scatter_add: return full_grid(operand);
    case Op::load: return k == 0 ? full_grid(operand) : of_broadcast(operand, grid);
    case Op::broadcast: return of_broadcast(operand, grid);
    case Op::transpose: {
      Grid out(grid.size());
      for (size_t i = 0; i < grid.size(); ++i) out[static_cast<size_t>(node.attributes.perm[i])] = grid[i];
      return out;
    }
    case Op::slice: {
      Grid out = grid;
      out[axis] = grid[axis].shifted(*node.attributes.begin.evaluate(dims));
      return out;
    }
    case Op::concat: {
      int64_t before = 0;
      for (size_t i = 0; i < k; ++i) before += prepared.shapes[static_cast<size_t>(raw(node.operands[i]))][axis];
      Grid out = grid;
      out[axis] = grid[axis].within(before, before + operand[axis]).shifted(-before);
      return out;
    }
    case Op::update: {
      if (k == 2) return full_grid(operand);
      Grid out = grid;
      if (k == 1) out[axis] = IndexSet::range(0, operand[axis]);
      return out;
    }
    case Op::repeat_heads: {
      Grid out = grid;
      const int64_t times = node.attributes.times;
      out[grid.size() - 3] = grid[grid.size() - 3].mapped([times](int64_t h) { return h / times; });
      return out;
    }
    case Op::reshape: return of_reshape(operand, own, grid);
    case Op::matmul:
    case Op::matmul_nt: return of_matmul(node, operand, k, grid);
    default: break;
  }
  if (info(node.op).group == OpGroup::reduce) {
    if (k == 1) return full_grid(operand);
    Grid out = grid;
    const IndexSet all = IndexSet::range(0, operand[axis]);
    if (node.op == Op::softmax || node.attributes.keepdims)
      out[axis] = all;
    else
      out.insert(out.begin() + node.attributes.axis, all);
    return out;
  }
  if (info(node.op).group == OpGroup::sugar) return k == 0 ? grid : full_grid(operand);
  return of_broadcast(operand, grid);
}

}  // namespace tilewright::interp
