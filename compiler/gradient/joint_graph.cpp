#include "compiler/gradient/joint_graph.h"

namespace tilewright::grad {

JointGraph::JointGraph(const Graph& given) : nodes_(given) {
  moved_ = canonical::rewrite(nodes_, given);
  const Graph& g = nodes_.graph();
  forward_size_ = g.nodes.size();
  live_.assign(forward_size_, false);
  is_result_.assign(forward_size_, false);
  users_.resize(forward_size_);
  for (ValueId id : g.results) live_[at(id)] = is_result_[at(id)] = true;
  for (size_t i = forward_size_; i-- > 0;) {
    if (!live_[i]) continue;
    for (ValueId operand : g.nodes[i].operands)
      if (operand != kNoValue) live_[at(operand)] = true;
  }
  for (size_t i = 0; i < forward_size_; ++i) {
    stems_.push_back(g.nodes[i].name);
    if (!live_[i]) continue;
    for (ValueId operand : g.nodes[i].operands)
      if (operand != kNoValue) users_[at(operand)].push_back(ValueId{static_cast<int32_t>(i)});
  }
}

ValueId JointGraph::recorded(ValueId id) {
  stems_.resize(graph().nodes.size(), stem_);
  return id;
}

ValueId JointGraph::param(TensorType type, std::string name) {
  Node node;
  node.type = std::move(type);
  node.name = name;
  const Name named(*this, std::move(name));
  return recorded(nodes_.param(node));
}

ValueId JointGraph::emit(Op op, std::vector<ValueId> operands, Attributes attributes, TensorType declared) {
  Node node;
  node.op = op;
  node.operands = std::move(operands);
  node.attributes = std::move(attributes);
  auto type = infer_type(graph(), node, declared);
  TW_CHECK(type.ok());
  node.type = std::move(*type);
  return recorded(nodes_.emit(std::move(node)));
}

ValueId JointGraph::cast(ValueId a, DType dtype) { return recorded(nodes_.cast(a, dtype)); }

ValueId JointGraph::mul(ValueId a, ValueId b) {
  if (nodes_.is_constant(b, 1) && shape(b).size() <= shape(a).size()) return a;
  if (nodes_.is_constant(a, 1) && shape(a).size() <= shape(b).size()) return b;
  return emit(Op::mul, {a, b});
}

ValueId JointGraph::neg(ValueId a) {
  const Node& node = (*this)[a];
  return node.op == Op::neg ? node.operands[0] : emit(Op::neg, {a});
}

ValueId JointGraph::reshape(ValueId a, Shape shape) { return recorded(nodes_.reshape(a, std::move(shape))); }
ValueId JointGraph::broadcast(ValueId a, Shape shape) { return recorded(nodes_.broadcast(a, std::move(shape))); }

ValueId JointGraph::slice(ValueId a, int64_t axis, const Dim& begin, const Dim& end) {
  return recorded(nodes_.slice(a, axis, begin, end));
}

ValueId JointGraph::concat(std::vector<ValueId> parts, int64_t axis) {
  constexpr size_t kMost = 8;
  Attributes attributes;
  attributes.axis = axis;
  while (parts.size() > 1) {
    std::vector<ValueId> joined;
    for (size_t i = 0; i < parts.size(); i += kMost) {
      const std::vector<ValueId> some(parts.begin() + static_cast<int64_t>(i),
                                      parts.begin() + static_cast<int64_t>(std::min(i + kMost, parts.size())));
      joined.push_back(some.size() == 1 ? some[0] : emit(Op::concat, some, attributes));
    }
    parts = std::move(joined);
  }
  return parts[0];
}

ValueId JointGraph::transpose_matrix(ValueId a) {
  Attributes attributes;
  const auto rank = type(a).rank();
  for (int64_t i = 0; i < rank; ++i) attributes.perm.push_back(i);
  std::swap(attributes.perm[static_cast<size_t>(rank - 1)], attributes.perm[static_cast<size_t>(rank - 2)]);
  return emit(Op::transpose, {a}, std::move(attributes));
}

ValueId JointGraph::reduce(Op op, ValueId a, int64_t axis, bool keepdims) {
  Attributes attributes;
  attributes.axis = axis;
  attributes.keepdims = keepdims;
  return emit(op, {a}, std::move(attributes));
}

ValueId JointGraph::sum_to(ValueId a, Shape shape) {
  const Shape from = this->shape(a);
  const size_t missing = from.size() - shape.size();
  for (size_t axis = 0; axis < from.size(); ++axis) {
    const bool repeated = axis < missing || shape[axis - missing].is_constant(1);
    if (repeated && !from[axis].is_constant(1)) a = reduce(Op::reduce_sum, a, static_cast<int64_t>(axis));
  }
  return reshape(a, std::move(shape));
}

bool is_view_or_cast(const Graph& graph, const Node& node) {
  if (node.op == Op::cast) return is_float(node.type.dtype) && is_float(graph.type(node.operands[0]).dtype);
  return info(node.op).group == OpGroup::view && node.op != Op::concat;
}

bool is_transparent(const Node& node) {
  const OpGroup group = info(node.op).group;
  return group == OpGroup::view || (group == OpGroup::pointwise && node.op != Op::load);
}

}  // namespace tilewright::grad
