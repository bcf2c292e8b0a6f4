// Internal to the type rules: what infer_type.cpp and infer_structure.cpp share.
#pragma once

#include <string>

#include "ir/graph.h"

namespace tilewright::infer {

/// "%name", or the literal itself when the value is an inline constant.
std::string label(const Graph& graph, ValueId id);
/// "%name is f32[B,8]"
std::string described(const Graph& graph, ValueId id);

struct Rule {
  const Graph& graph;
  const Node& node;
  const TensorType& declared;

  ValueId operand(size_t i) const { return Graph::operand(node, i); }
  bool has(size_t i) const { return operand(i) != kNoValue; }
  const TensorType& type(size_t i) const { return graph.type(operand(i)); }
  std::string what(size_t i) const { return described(graph, operand(i)); }
};

Result<TensorType> leaf(const Rule& rule);
Result<TensorType> pointwise(const Rule& rule);
Result<TensorType> load(const Rule& rule);
Result<TensorType> scatter_add(const Rule& rule);
Result<TensorType> view(const Rule& rule);
Result<TensorType> reduce(const Rule& rule);
Result<TensorType> contract(const Rule& rule);
Result<TensorType> sugar(const Rule& rule);

}  // namespace tilewright::infer
