#include "compiler/canonicalize_rewriter.h"
#include "compiler/passes.h"

namespace tilewright {
namespace canonical {

Graph remove_dead(const Graph& graph) {
  std::vector<bool> live(graph.nodes.size(), false);
  for (ValueId id : graph.results) live[static_cast<size_t>(raw(id))] = true;
  for (ValueId id : graph.params) live[static_cast<size_t>(raw(id))] = true;
  for (size_t i = 0; i < graph.nodes.size(); ++i)
    if (updates_in_place(graph, ValueId{static_cast<int32_t>(i)})) live[i] = true;
  for (size_t i = graph.nodes.size(); i-- > 0;) {
    if (!live[i]) continue;
    for (ValueId operand : graph.nodes[i].operands)
      if (operand != kNoValue) live[static_cast<size_t>(raw(operand))] = true;
  }
  Graph out;
  out.name = graph.name;
  out.precision = graph.precision;
  std::vector<ValueId> moved(graph.nodes.size(), kNoValue);
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    if (!live[i]) continue;
    Node node = graph.nodes[i];
    for (ValueId& operand : node.operands)
      if (operand != kNoValue) operand = moved[static_cast<size_t>(raw(operand))];
    moved[i] = ValueId{static_cast<int32_t>(out.nodes.size())};
    out.nodes.push_back(std::move(node));
  }
  for (ValueId id : graph.params) out.params.push_back(moved[static_cast<size_t>(raw(id))]);
  for (ValueId id : graph.results) out.results.push_back(moved[static_cast<size_t>(raw(id))]);
  return out;
}

std::vector<ValueId> rewrite(Rewriter& to, const Graph& graph) {
  std::vector<ValueId> moved(graph.nodes.size(), kNoValue);
  // Params first: their order is the signature's, and every name of theirs is taken before any other.
  for (ValueId id : graph.params) moved[static_cast<size_t>(raw(id))] = to.param(graph[id]);
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    Node node = graph.nodes[i];
    if (node.op == Op::param) continue;
    for (ValueId& operand : node.operands)
      if (operand != kNoValue) operand = moved[static_cast<size_t>(raw(operand))];
    to.set_origin(node);
    if (info(node.op).group == OpGroup::sugar) {
      moved[i] = expand_sugar(to, node, node.operands);
      continue;
    }
    if (node.op == Op::update && !updates_in_place(graph, ValueId{static_cast<int32_t>(i)})) {
      moved[i] = expand_update(to, node, node.operands);
      continue;
    }
    ValueId raised = raise_softmax(to, node);
    if (raised != kNoValue && to.type(raised).dtype != node.type.dtype) raised = to.cast(raised, node.type.dtype);
    moved[i] = raised != kNoValue ? raised : to.emit(std::move(node));
  }
  for (ValueId id : graph.results) to.graph().results.push_back(moved[static_cast<size_t>(raw(id))]);
  return moved;
}

}  // namespace canonical

Result<Graph> canonicalize(const Graph& graph) {
  canonical::Rewriter to(graph);
  canonical::rewrite(to, graph);
  return canonical::remove_dead(to.graph());
}

}  // namespace tilewright
