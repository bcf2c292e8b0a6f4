#include "compiler/fuse/tracer.h"

namespace tilewright::fusion {

GraphFacts::GraphFacts(const Graph& g)
    : graph(g),
      users(g.nodes.size()),
      result_uses(g.nodes.size(), 0),
      reads(g.nodes.size(), 0),
      cheap(g.nodes.size(), false),
      stored(g.nodes.size(), false) {
  for (size_t i = 0; i < g.nodes.size(); ++i) {
    const Node& node = g.nodes[i];
    for (ValueId operand : node.operands)
      if (operand != kNoValue) users[at(operand)].push_back(ValueId{static_cast<int32_t>(i)});
    stored[i] = node.op == Op::update;
    const OpGroup group = info(node.op).group;
    cheap[i] = group == OpGroup::leaf ? node.op != Op::param || node.type.rank() == 0
                                      : (group == OpGroup::pointwise || is_simple_view(node.op)) && node.op != Op::load;
    for (ValueId operand : node.operands) cheap[i] = cheap[i] && operand != kNoValue && cheap[at(operand)];
  }
  for (ValueId id : g.results) ++result_uses[at(id)];
  for (size_t i = g.nodes.size(); i-- > 0;) {
    reads[i] = result_uses[i];
    for (ValueId user : users[i]) reads[i] += is_simple_view(g[user].op) ? reads[at(user)] : 1;
  }
}

bool is_float_cast(const Graph& graph, const Node& node) {
  return node.op == Op::cast && is_float(node.type.dtype) && is_float(graph.type(node.operands[0]).dtype);
}

bool Tracer::is_open_cast(ValueId id) const {
  return is_float_cast(graph_, graph_[id]) && !facts_.stored[GraphFacts::at(id)];
}

int Tracer::tensor(ValueId id) {
  for (size_t i = 0; i < tensors.size(); ++i)
    if (tensors[i] == id) return static_cast<int>(i);
  tensors.push_back(id);
  return static_cast<int>(tensors.size() - 1);
}

ExprId Tracer::cast(ExprId value, DType dtype) {
  const DType to = compute_type(dtype);
  return pool[value].dtype == to ? value : pool.op(Op::cast, to, {value});
}

ExprId Tracer::load_tensor(ValueId id, const Indices& at) {
  const DType dtype = graph_.type(id).dtype;
  return cast(pool.load(tensor(id), dtype, at, true), dtype);
}

ExprId Tracer::leaf(const Node& node, const Indices& at) {
  const DType dtype = node.type.dtype;
  switch (node.op) {
    case Op::constant:
      return is_float(dtype) ? pool.constant(node.attributes.literal.real, compute_type(dtype))
                             : pool.constant_int(node.attributes.literal.integer, dtype);
    case Op::dim: return pool.dim(node.attributes.dim);
    default: break;
  }
  const ExprId position = at[static_cast<size_t>(node.attributes.axis)];
  const ExprNode where = pool[position];
  if (where.kind == ExprKind::constant) return pool.constant_int(where.literal.integer, dtype);
  return where.kind == ExprKind::index ? pool.index(where.axis, dtype) : cast(position, dtype);
}

bool Tracer::inlined(ValueId id) const {
  const OpGroup group = info(graph_[id].op).group;
  if (computed_here && (*computed_here)[GraphFacts::at(id)]) return true;
  if (kept_in_memory && (*kept_in_memory)[GraphFacts::at(id)]) return false;
  if (facts_.stored[GraphFacts::at(id)] || graph_[id].op == Op::param) return false;
  if (group == OpGroup::leaf || is_simple_view(graph_[id].op)) return true;
  if (group != OpGroup::pointwise) return false;
  if (region_ == Region::attention || facts_.cheap[GraphFacts::at(id)]) return true;
  if (region_ == Region::contract) return is_float_cast(graph_, graph_[id]);
  if (facts_.reads[GraphFacts::at(id)] <= 1) return true;
  return is_float_cast(graph_, graph_[id]) && !inlined(graph_[id].operands[0]);  // repeats a conversion, not a chain
}

ExprId Tracer::read(ValueId id, const Indices& at) {
  if (inlined(id)) return compute(id, at);
  const OpGroup group = info(graph_[id].op).group;
  if (group == OpGroup::contract && !facts_.stored[GraphFacts::at(id)] && on_contract)
    if (auto replaced = on_contract(id, at)) return *replaced;
  if (on_memory)
    if (auto replaced = on_memory(id, at)) return *replaced;
  return load_tensor(id, at);
}

ExprId Tracer::compute(ValueId id, const Indices& at) {
  std::pair<int32_t, std::vector<int32_t>> key{raw(id), {}};
  for (ExprId index : at) key.second.push_back(raw(index));
  if (auto found = memo_.find(key); found != memo_.end()) return found->second;
  const Node& node = graph_[id];
  ExprId out{-1};
  if (info(node.op).group == OpGroup::leaf) {
    out = node.op == Op::param ? load_tensor(id, at) : leaf(node, at);
  } else if (is_simple_view(node.op)) {
    out = read(node.operands[0], view_operand_indices(math, graph_, node, at));
  } else if (node.op == Op::load) {
    out = read_table(node, at);
  } else if (node.op == Op::cast) {
    out = cast(read_operand(node, 0, at), node.type.dtype);
  } else {
    TW_CHECK(info(node.op).group == OpGroup::pointwise);
    std::vector<ExprId> args;
    for (size_t i = 0; i < node.operands.size(); ++i) args.push_back(read_operand(node, i, at));
    out = pool.op(node.op, compute_type(node.type.dtype), std::move(args));
  }
  memo_.emplace(std::move(key), out);
  return out;
}

ExprId Tracer::read_operand(const Node& node, size_t i, const Indices& at) {
  const ValueId operand = node.operands[i];
  return read(operand, operand_indices(operand, at));
}

ExprId Tracer::read_table(const Node& load, const Indices& at) {
  const ValueId table = load.operands[0];
  const TensorType& type = graph_.type(table);
  Indices where;
  for (size_t i = 1; i < load.operands.size(); ++i) where.push_back(cast(read_operand(load, i, at), DType::i64));
  if (!is_simple_view(graph_[table].op) || facts_.stored[GraphFacts::at(table)])
    return cast(pool.load(tensor(table), type.dtype, std::move(where), false), type.dtype);
  // A table that is a view is clamped to the view, then read where the view says.
  for (size_t i = 0; i < where.size(); ++i) {
    const ExprId last = pool.dim(type.shape[i] - 1);
    const ExprId low = pool.op(Op::max, DType::i64, {where[i], pool.constant_int(0, DType::i64)});
    where[i] = pool.op(Op::min, DType::i64, {low, last});
    math.set_extent(where[i], type.shape[i]);
  }
  return read(table, where);
}

const Scalar* Tracer::literal(ValueId id) const {
  for (;;) {
    const Node& node = graph_[id];
    if (node.op == Op::constant) return &node.attributes.literal;
    if (!is_simple_view(node.op) && !is_float_cast(graph_, node)) return nullptr;
    id = node.operands[0];
  }
}

}  // namespace tilewright::fusion
