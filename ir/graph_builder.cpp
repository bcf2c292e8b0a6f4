#include "ir/graph.h"

namespace tilewright {

ValueId GraphBuilder::add(Node node) {
  if (auto type = infer_type(graph_, node, node.type))
    node.type = std::move(*type);
  else if (!node.operands.empty() && Graph::operand(node, 0) != kNoValue)
    node.type = graph_.type(node.operands[0]);
  const auto id = ValueId{static_cast<int32_t>(graph_.nodes.size())};
  const std::string name = std::move(node.name);
  node.name.clear();
  const bool is_inline = node.op == Op::constant && name.empty();
  graph_.nodes.push_back(std::move(node));
  return is_inline ? id : named(id, name);
}

ValueId GraphBuilder::named(ValueId value, std::string name) {
  const auto taken = [&](const std::string& candidate) {
    for (size_t i = 0; i < graph_.nodes.size(); ++i)
      if (static_cast<int32_t>(i) != raw(value) && graph_.nodes[i].name == candidate) return true;
    return false;
  };
  const std::string stem = name.empty() ? std::to_string(raw(value)) : std::move(name);
  name = stem;
  for (int suffix = 1; taken(name); ++suffix) name = fmt::format("{}_{}", stem, suffix);
  graph_[value].name = std::move(name);
  return value;
}

ValueId GraphBuilder::param(std::string name, TensorType type, bool inout) {
  Node node;
  node.op = Op::param;
  node.type = std::move(type);
  node.name = std::move(name);
  node.inout = inout;
  const ValueId id = add(std::move(node));
  graph_.params.push_back(id);
  return id;
}

namespace {
Node make(Op op, std::vector<ValueId> operands, TensorType declared = {}) {
  Node node;
  node.op = op;
  node.operands = std::move(operands);
  node.type = std::move(declared);
  return node;
}
}  // namespace

ValueId GraphBuilder::constant(double value, DType dtype) {
  Node node = make(Op::constant, {}, {dtype, {}});
  node.attributes.literal.real = value;
  if (!is_float(dtype)) node.attributes.literal = {0, static_cast<int64_t>(value)};
  return add(std::move(node));
}

ValueId GraphBuilder::constant_int(int64_t value, DType dtype) {
  Node node = make(Op::constant, {}, {dtype, {}});
  node.attributes.literal.integer = value;
  if (is_float(dtype)) node.attributes.literal = {static_cast<double>(value), 0};
  return add(std::move(node));
}

ValueId GraphBuilder::index(int64_t axis, Shape shape, DType dtype) {
  Node node = make(Op::index, {}, {dtype, std::move(shape)});
  node.attributes.axis = axis;
  return add(std::move(node));
}

ValueId GraphBuilder::dim(Dim value) {
  Node node = make(Op::dim, {}, {DType::i64, {}});
  node.attributes.dim = std::move(value);
  return add(std::move(node));
}

ValueId GraphBuilder::unary(Op op, ValueId a) { return add(make(op, {a})); }
ValueId GraphBuilder::binary(Op op, ValueId a, ValueId b) { return add(make(op, {a, b})); }
ValueId GraphBuilder::select(ValueId condition, ValueId a, ValueId b) {
  return add(make(Op::select, {condition, a, b}));
}
ValueId GraphBuilder::cast(ValueId a, DType dtype) { return add(make(Op::cast, {a}, {dtype, {}})); }

ValueId GraphBuilder::load(ValueId table, std::vector<ValueId> indices) {
  indices.insert(indices.begin(), table);
  return add(make(Op::load, std::move(indices)));
}

ValueId GraphBuilder::scatter_add(ValueId updates, std::vector<ValueId> indices, Shape table) {
  indices.insert(indices.begin(), updates);
  return add(make(Op::scatter_add, std::move(indices), {graph_.type(updates).dtype, std::move(table)}));
}

ValueId GraphBuilder::transpose(ValueId a, std::vector<int64_t> perm) {
  Node node = make(Op::transpose, {a});
  node.attributes.perm = std::move(perm);
  return add(std::move(node));
}

ValueId GraphBuilder::reshape(ValueId a, Shape shape) {
  return add(make(Op::reshape, {a}, {graph_.type(a).dtype, std::move(shape)}));
}

bool updates_in_place(const Graph& graph, ValueId id) {
  if (graph[id].op != Op::update) return false;
  while (graph[id].op == Op::update && !graph[id].operands.empty() && raw(graph[id].operands[0]) >= 0 &&
         raw(graph[id].operands[0]) < raw(id))
    id = graph[id].operands[0];
  return graph[id].op == Op::param && graph[id].inout;
}

ValueId GraphBuilder::slice(ValueId a, int64_t axis, Dim begin, Dim end) {
  Node node = make(Op::slice, {a});
  node.attributes.axis = axis;
  node.attributes.begin = std::move(begin);
  node.attributes.end = std::move(end);
  return add(std::move(node));
}

ValueId GraphBuilder::concat(std::vector<ValueId> parts, int64_t axis) {
  Node node = make(Op::concat, std::move(parts));
  node.attributes.axis = axis;
  return add(std::move(node));
}

ValueId GraphBuilder::update(ValueId cache, ValueId rows, ValueId at, int64_t axis) {
  Node node = make(Op::update, {cache, rows, at});
  node.attributes.axis = axis;
  return add(std::move(node));
}

ValueId GraphBuilder::broadcast(ValueId a, Shape shape) {
  return add(make(Op::broadcast, {a}, {graph_.type(a).dtype, std::move(shape)}));
}

ValueId GraphBuilder::repeat_heads(ValueId a, int64_t times) {
  Node node = make(Op::repeat_heads, {a});
  node.attributes.times = times;
  return add(std::move(node));
}

ValueId GraphBuilder::reduce(Op op, ValueId a, int64_t axis, bool keepdims) {
  Node node = make(op, {a});
  node.attributes.axis = axis;
  node.attributes.keepdims = keepdims;
  return add(std::move(node));
}

ValueId GraphBuilder::softmax(ValueId a, int64_t axis, ValueId sink) {
  Node node = make(Op::softmax, {a});
  if (sink != kNoValue) node.operands.push_back(sink);
  node.attributes.axis = axis;
  return add(std::move(node));
}

ValueId GraphBuilder::logsumexp(ValueId a, int64_t axis, bool keepdims, ValueId sink) {
  Node node = make(Op::logsumexp, {a});
  if (sink != kNoValue) node.operands.push_back(sink);
  node.attributes.axis = axis;
  node.attributes.keepdims = keepdims;
  return add(std::move(node));
}

ValueId GraphBuilder::matmul(ValueId a, ValueId b) {
  return add(make(Op::matmul, {a, b}, {compute_type(graph_.type(a).dtype), {}}));
}

ValueId GraphBuilder::matmul_nt(ValueId a, ValueId b) {
  return add(make(Op::matmul_nt, {a, b}, {compute_type(graph_.type(a).dtype), {}}));
}

ValueId GraphBuilder::mask_causal(ValueId a, CausalAlign align, ValueId q_offset) {
  Node node = make(Op::mask_causal, {a});
  if (q_offset != kNoValue) node.operands.push_back(q_offset);
  node.attributes.align = align;
  return add(std::move(node));
}

ValueId GraphBuilder::mask_window(ValueId a, int64_t left, int64_t right, CausalAlign align, ValueId q_offset) {
  Node node = make(Op::mask_window, {a});
  if (q_offset != kNoValue) node.operands.push_back(q_offset);
  node.attributes.left = left;
  node.attributes.right = right;
  node.attributes.align = align;
  return add(std::move(node));
}

ValueId GraphBuilder::alibi(ValueId a, ValueId slopes, CausalAlign align, ValueId q_offset) {
  Node node = make(Op::alibi, {a});
  if (slopes != kNoValue || q_offset != kNoValue) node.operands.push_back(slopes);
  if (q_offset != kNoValue) node.operands.push_back(q_offset);
  node.attributes.align = align;
  return add(std::move(node));
}

ValueId GraphBuilder::softcap(ValueId a, double cap) {
  Node node = make(Op::softcap, {a});
  node.attributes.cap = cap;
  return add(std::move(node));
}

ValueId GraphBuilder::random_bits(ValueId seed, ValueId offset, ValueId bh, ValueId q, ValueId kv) {
  return add(make(Op::random_bits, {seed, offset, bh, q, kv}));
}

ValueId GraphBuilder::dropout(ValueId p, ValueId seed, ValueId offset, double rate) {
  Node node = make(Op::dropout, {p, seed, offset});
  node.attributes.rate = rate;
  return add(std::move(node));
}

}  // namespace tilewright
