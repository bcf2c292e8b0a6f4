#include "compiler/fuse/score_exits.h"

#include <algorithm>

namespace tilewright::fusion {
namespace {

bool in_chain(const Node& node) {
  return (info(node.op).group == OpGroup::pointwise && node.op != Op::load) || is_simple_view(node.op);
}

bool is_linear(Op op) {
  return is_simple_view(op) || op == Op::cast || op == Op::mul || op == Op::div || op == Op::add || op == Op::sub ||
         op == Op::neg || op == Op::select;
}

bool swaps_last_axes(const Node& node) {
  const auto& perm = node.attributes.perm;
  const auto rank = static_cast<int64_t>(perm.size());
  return node.op == Op::transpose && rank >= 2 && perm[perm.size() - 1] == rank - 2 &&
         perm[perm.size() - 2] == rank - 1;
}

/// Products of a constant, small head dim: others cannot be recomputed per score.
bool is_dot(const Graph& graph, const Node& node) {
  if (info(node.op).group != OpGroup::contract) return false;
  const Dim& head_dim = graph.type(node.operands[0]).shape.back();
  return head_dim.is_constant() && head_dim.constant() >= 1 && head_dim.constant() <= kMaxHeadDim;
}

ScoreReach joined(const Node& node, const std::vector<ScoreReach>& reach) {
  ScoreReach out;
  int reached = 0;
  for (size_t i = 0; i < node.operands.size(); ++i) {
    const ScoreReach& in = reach[GraphFacts::at(node.operands[i])];
    if (in.products.empty()) continue;
    if (reached++ == 0) out.crossed = in.crossed;
    std::vector<ValueId> both;
    std::set_union(out.products.begin(), out.products.end(), in.products.begin(), in.products.end(),
                   std::back_inserter(both));
    out.products = std::move(both);
    const bool bends = (node.op == Op::div && i == 1) || (node.op == Op::select && i == 0);
    out.nonlinear = out.nonlinear || in.nonlinear || bends;
  }
  out.nonlinear = out.nonlinear || (reached > 0 && !is_linear(node.op)) || (reached > 1 && node.op == Op::mul);
  out.crossed = out.crossed != swaps_last_axes(node);
  return out;
}

}  // namespace

std::vector<ScoreReach> score_reach(const GraphFacts& facts, const std::vector<bool>& claimed) {
  const Graph& graph = facts.graph;
  std::vector<ScoreReach> reach(graph.nodes.size());
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    if (facts.stored[i]) continue;
    if (is_dot(graph, node)) {
      if (!claimed[i]) reach[i].products = {ValueId{static_cast<int32_t>(i)}};
    } else if (in_chain(node)) {
      reach[i] = joined(node, reach);
    }
  }
  return reach;
}

std::vector<ScoreExit> score_exits(const GraphFacts& facts, const std::vector<bool>& claimed,
                                   const std::vector<ScoreReach>& reach) {
  const Graph& graph = facts.graph;
  std::vector<ScoreExit> exits;
  const auto leave = [&](ValueId user, size_t operand, ValueId value) {
    if (reach[GraphFacts::at(value)].products.empty()) return;
    ScoreExit exit{user, operand, value, value, {}, {}, {}};
    while (is_simple_view(graph[exit.core].op) || is_float_cast(graph, graph[exit.core]))
      exit.core = graph[exit.core].operands[0];
    const Shape& shape = graph.type(exit.core).shape;
    if (shape.size() < 2) return;
    exit.lead.assign(shape.begin(), shape.end() - 2);
    if (user != kNoValue && info(graph[user].op).group == OpGroup::contract) {
      // The other operand may have more batches or heads.
      const Shape &own = graph.type(value).shape, &out = graph.type(user).shape;
      if (own.size() >= 2 && Shape(own.begin(), own.end() - 2) == exit.lead)
        exit.lead.assign(out.begin(), out.end() - 2);
    }
    exit.crossed = reach[GraphFacts::at(exit.core)].crossed;
    exit.q_len = shape[shape.size() - (exit.crossed ? 1 : 2)];
    exit.kv_len = shape[shape.size() - (exit.crossed ? 2 : 1)];
    exits.push_back(std::move(exit));
  };
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    if (facts.stored[i] || claimed[i] || in_chain(node)) continue;
    for (size_t k = 0; k < node.operands.size(); ++k)
      if (node.operands[k] != kNoValue) leave(ValueId{static_cast<int32_t>(i)}, k, node.operands[k]);
  }
  for (ValueId result : graph.results) leave(kNoValue, 0, result);
  return exits;
}

std::vector<ValueId> views_between(const Graph& graph, ValueId core, ValueId value) {
  std::vector<ValueId> path;
  for (; value != core; value = graph[value].operands[0]) path.push_back(value);
  std::reverse(path.begin(), path.end());
  return path;
}

}  // namespace tilewright::fusion
