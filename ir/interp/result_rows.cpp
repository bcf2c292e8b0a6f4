#include "ir/interp/result_rows.h"

#include <algorithm>

namespace tilewright::interp {
namespace {

std::optional<Anchor> search(const Graph& graph, ValueId id) {
  const Node& node = graph[id];
  const auto rank = static_cast<size_t>(node.type.rank());
  const auto through = [&](ValueId operand) {
    auto anchor = search(graph, operand);
    if (anchor) anchor->trail.push_back(id);
    return anchor;
  };
  switch (node.op) {
    case Op::matmul:
    case Op::matmul_nt: return Anchor{id, rank - 2, {}, node.operands[1]};
    case Op::softmax: return rank >= 2 ? std::optional(Anchor{id, rank - 2, {}, kNoValue}) : std::nullopt;
    case Op::transpose:
    case Op::reshape:
    case Op::cast: return through(node.operands[0]);
    case Op::scatter_add: return std::nullopt;
    default: break;
  }
  if (info(node.op).group == OpGroup::reduce) {
    const bool kept = node.attributes.keepdims;
    if (rank < (kept ? 2u : 1u) || static_cast<size_t>(node.attributes.axis) + (kept ? 1 : 0) != rank)
      return std::nullopt;
    return Anchor{id, kept ? rank - 2 : rank - 1, {}, kNoValue};
  }
  if (info(node.op).group != OpGroup::pointwise || node.op == Op::load) return std::nullopt;
  for (ValueId operand : node.operands) {
    if (graph.type(operand).shape != node.type.shape) continue;
    if (auto anchor = through(operand)) {
      anchor->right_operand = kNoValue;
      return anchor;
    }
  }
  return std::nullopt;
}

std::vector<bool> ancestors(const Graph& graph, ValueId result) {
  std::vector<bool> reached(graph.nodes.size(), false);
  reached[static_cast<size_t>(raw(result))] = true;
  for (size_t i = graph.nodes.size(); i-- > 0;)
    if (reached[i])
      for (ValueId operand : graph.nodes[i].operands)
        if (operand != kNoValue) reached[static_cast<size_t>(raw(operand))] = true;
  return reached;
}

}  // namespace

Anchor find_anchor(const Graph& graph, ValueId result) {
  if (auto anchor = search(graph, result)) return *anchor;
  const int64_t rank = graph.type(result).rank();
  return {result, static_cast<size_t>(std::max<int64_t>(0, rank - 2)), {}, kNoValue};
}

std::vector<int64_t> follow_trail(const GraphOracle& oracle, const Anchor& anchor, std::vector<int64_t> index) {
  const std::vector<int64_t>* shape = &oracle.shape(anchor.value);
  for (ValueId id : anchor.trail) {
    const Node& node = oracle.graph()[id];
    const std::vector<int64_t>& next = oracle.shape(id);
    if (node.op == Op::transpose) {
      std::vector<int64_t> moved(index.size());
      for (size_t i = 0; i < index.size(); ++i) moved[i] = index[static_cast<size_t>(node.attributes.perm[i])];
      index = std::move(moved);
    } else if (node.op == Op::reshape) {
      int64_t flat = 0;
      for (size_t i = 0; i < index.size(); ++i) flat = flat * (*shape)[i] + index[i];
      index.resize(next.size());
      for (size_t i = next.size(); i-- > 0; flat /= next[i]) index[i] = flat % next[i];
    }
    shape = &next;
  }
  return index;
}

int64_t score_count(const GraphOracle& oracle, ValueId result) {
  const Graph& graph = oracle.graph();
  const std::vector<bool> reached = ancestors(graph, result);
  int64_t most = 0;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const Op op = graph.nodes[i].op;
    if (!reached[i] || (op != Op::matmul && op != Op::matmul_nt && op != Op::softmax)) continue;
    int64_t count = 1;
    for (int64_t size : oracle.shape(ValueId{static_cast<int32_t>(i)})) count *= size;
    most = std::max(most, count);
  }
  return most;
}

bool depends_on_tanh(const Graph& graph, ValueId result) {
  const std::vector<bool> reached = ancestors(graph, result);
  for (size_t i = 0; i < graph.nodes.size(); ++i)
    if (reached[i] && (graph.nodes[i].op == Op::tanh || graph.nodes[i].op == Op::softcap)) return true;
  return false;
}

RowChoice all_rows(int64_t groups, int64_t rows) {
  RowChoice choice(static_cast<size_t>(groups));
  for (std::vector<int64_t>& list : choice)
    for (int64_t row = 0; row < rows; ++row) list.push_back(row);
  return choice;
}

RowChoice sampled_rows(int64_t groups, int64_t rows, int64_t count, const std::vector<int64_t>& blocks, uint64_t seed) {
  RowChoice choice(static_cast<size_t>(groups));
  if (groups == 0 || rows == 0) return choice;
  std::mt19937_64 random(seed);
  const auto take = [&](int64_t group, int64_t row) { choice[static_cast<size_t>(group)].push_back(row); };
  for (int64_t i = 0; i < count; ++i) {
    const auto at = static_cast<int64_t>(random() % static_cast<uint64_t>(groups * rows));
    take(at / rows, at % rows);
  }
  constexpr int64_t kMostGroups = 16, kMostBorders = 64;
  for (int64_t i = 0; i < std::min(groups, kMostGroups); ++i) {
    const int64_t group = i * (groups - 1) / std::max<int64_t>(1, std::min(groups, kMostGroups) - 1);
    take(group, 0);
    take(group, rows - 1);
  }
  for (int64_t block : blocks) {
    const int64_t borders = block > 0 ? (rows - 1) / block : 0, used = std::min(borders, kMostBorders);
    for (int64_t i = 0; i < used; ++i) {
      const int64_t row = (1 + i * borders / used) * block;
      take(i % groups, row - 1);
      take(i % groups, row);
    }
  }
  for (std::vector<int64_t>& list : choice) {
    std::sort(list.begin(), list.end());
    list.erase(std::unique(list.begin(), list.end()), list.end());
  }
  return choice;
}

}  // namespace tilewright::interp
