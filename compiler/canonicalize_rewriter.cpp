#include "compiler/canonicalize_rewriter.h"

#include <cmath>

#include "compiler/passes.h"

namespace tilewright::canonical {
namespace {

bool same_bits(double a, double b) { return a == b && std::signbit(a) == std::signbit(b); }

/// Equal keys mean equal values.
std::string key_of(const Node& node) {
  std::string key = fmt::format("{} {}", static_cast<int>(node.op), to_string(node.type));
  for (ValueId id : node.operands) key += fmt::format(" %{}", raw(id));
  const Attributes& at = node.attributes;
  switch (node.op) {
    case Op::index:
    case Op::concat:
    case Op::update:
    case Op::softmax:
    case Op::reduce_sum:
    case Op::reduce_max:
    case Op::reduce_min:
    case Op::reduce_mean:
    case Op::logsumexp: key += fmt::format(" a{} {}", at.axis, at.keepdims); break;
    case Op::slice: key += fmt::format(" a{} {}:{}", at.axis, to_string(at.begin), to_string(at.end)); break;
    case Op::transpose: key += fmt::format(" p{}", fmt::join(at.perm, ",")); break;
    case Op::repeat_heads: key += fmt::format(" t{}", at.times); break;
    case Op::dim: key += " d" + to_string(at.dim); break;
    case Op::constant: key += fmt::format(" c{:a} {}", at.literal.real, at.literal.integer); break;
    default: break;
  }
  return key;
}

bool is_widening(DType from, DType to) {
  if (!is_float(from) || !is_float(to)) return false;
  return size_of(to) > size_of(from);
}

}  // namespace

void Rewriter::set_origin(const Node& origin) {
  stem_ = origin.name;
  line_ = origin.line;
}

std::string Rewriter::unique_name(const Node& node) {
  if (node.op == Op::constant) return {};
  std::string name = stem_.empty() ? std::to_string(graph_.nodes.size()) : stem_;
  for (int i = 1; !names_.insert(name).second; ++i) name = fmt::format("{}_{}", stem_, i);
  return name;
}

ValueId Rewriter::param(const Node& param) {
  const ValueId id{static_cast<int32_t>(graph_.nodes.size())};
  graph_.nodes.push_back(param);
  graph_.params.push_back(id);
  names_.insert(param.name);
  return id;
}

const Scalar* Rewriter::literal(ValueId id) const {
  if (id == kNoValue || graph_[id].op != Op::constant) return nullptr;
  return &graph_[id].attributes.literal;
}

bool Rewriter::is_constant(ValueId id, double value) const {
  const Scalar* scalar = literal(id);
  return scalar && is_float(type(id).dtype) && same_bits(scalar->real, value);
}

ValueId Rewriter::emit(Node node) {
  while (!node.operands.empty() && node.operands.back() == kNoValue) node.operands.pop_back();
  if (ValueId found = simpler(node); found != kNoValue) return found;
  const std::string key = key_of(node);
  if (auto found = known_.find(key); found != known_.end()) return found->second;
  node.line = line_;
  node.name = unique_name(node);
  const ValueId id{static_cast<int32_t>(graph_.nodes.size())};
  graph_.nodes.push_back(std::move(node));
  known_.emplace(key, id);
  return id;
}

ValueId Rewriter::simpler(const Node& node) {
  switch (info(node.op).group) {
    case OpGroup::pointwise: return fold_pointwise(node);
    case OpGroup::view: return simpler_view(node);
    default: break;
  }
  if (node.op == Op::dim && node.attributes.dim.is_constant())
    return constant_int(node.attributes.dim.constant(), DType::i64);
  return kNoValue;
}

ValueId Rewriter::fold_pointwise(const Node& node) {
  if (node.op == Op::cast) {
    const ValueId from = node.operands[0];
    if (node.type.dtype == type(from).dtype) return from;
    // bf16 -> f32 -> bf16 is the value that went in; the other way round rounds.
    const Node& inner = graph_[from];
    if (inner.op == Op::cast && type(inner.operands[0]).dtype == node.type.dtype &&
        is_widening(node.type.dtype, inner.type.dtype))
      return inner.operands[0];
  }
  if (node.op == Op::load) return kNoValue;
  Expr expr;
  std::vector<ExprId> args;
  for (ValueId operand : node.operands) {
    const Scalar* scalar = literal(operand);
    if (!scalar) return kNoValue;
    const DType dtype = type(operand).dtype;
    args.push_back(is_float(dtype) ? expr.constant(scalar->real, dtype) : expr.constant_int(scalar->integer, dtype));
  }
  expr.set_root(expr.op(node.op, node.type.dtype, std::move(args)));
  const Expr folded = simplify(expr);
  const ExprNode& root = folded.root_node();
  if (root.kind != ExprKind::constant || root.dtype != node.type.dtype) return kNoValue;
  return is_float(root.dtype) ? constant(root.literal.real, root.dtype)
                              : constant_int(root.literal.integer, root.dtype);
}

ValueId Rewriter::simpler_view(const Node& node) {
  const ValueId from = node.operands[0];
  const Node& inner = graph_[from];
  const bool same_shape = node.type.shape == inner.type.shape;
  const Attributes& at = node.attributes;
  switch (node.op) {
    case Op::reshape: {
      if (same_shape) return from;
      if (inner.op != Op::reshape) return kNoValue;
      return reshape(inner.operands[0], node.type.shape);
    }
    case Op::broadcast: return same_shape ? from : kNoValue;
    case Op::slice: return same_shape && at.begin.is_constant(0) ? from : kNoValue;
    case Op::repeat_heads: return at.times == 1 ? from : kNoValue;
    case Op::concat: return node.operands.size() == 1 ? from : kNoValue;
    case Op::transpose: {
      bool identity = true;
      for (size_t i = 0; i < at.perm.size(); ++i) identity = identity && at.perm[i] == static_cast<int64_t>(i);
      if (identity) return from;
      if (inner.op != Op::transpose) return kNoValue;
      Node merged = node;
      merged.operands = inner.operands;
      for (size_t i = 0; i < at.perm.size(); ++i)
        merged.attributes.perm[i] = inner.attributes.perm[static_cast<size_t>(at.perm[i])];
      return emit(std::move(merged));
    }
    default: return kNoValue;
  }
}

ValueId Rewriter::constant(double value, DType dtype) {
  Node node;
  node.op = Op::constant;
  node.type = {dtype, {}};
  node.attributes.literal.real = value;
  return emit(std::move(node));
}

ValueId Rewriter::constant_int(int64_t value, DType dtype) {
  Node node;
  node.op = Op::constant;
  node.type = {dtype, {}};
  node.attributes.literal.integer = value;
  return emit(std::move(node));
}

ValueId Rewriter::index(int64_t axis, const Dim& extent, int64_t rank) {
  Node node;
  node.op = Op::index;
  node.type = {DType::i64, Shape(static_cast<size_t>(rank), Dim(1))};
  node.type.shape[static_cast<size_t>(axis)] = extent;
  node.attributes.axis = axis;
  return emit(std::move(node));
}

ValueId Rewriter::dim(const Dim& value) {
  Node node;
  node.op = Op::dim;
  node.type = {DType::i64, {}};
  node.attributes.dim = value;
  return emit(std::move(node));
}

ValueId Rewriter::pointwise(Op op, std::vector<ValueId> operands) {
  Node node;
  node.op = op;
  node.operands = std::move(operands);
  Shape shape;
  for (ValueId operand : node.operands) {
    auto both = tilewright::broadcast(shape, type(operand).shape);
    TW_CHECK(both);
    shape = *both;
  }
  const DType dtype = op >= Op::eq && op <= Op::ge ? DType::boolean : type(node.operands.back()).dtype;
  node.type = {dtype, std::move(shape)};
  return emit(std::move(node));
}

ValueId Rewriter::cast(ValueId a, DType dtype) {
  Node node;
  node.op = Op::cast;
  node.operands = {a};
  node.type = {dtype, type(a).shape};
  return emit(std::move(node));
}

ValueId Rewriter::reshape(ValueId a, Shape shape) {
  Node node;
  node.op = Op::reshape;
  node.operands = {a};
  node.type = {type(a).dtype, std::move(shape)};
  return emit(std::move(node));
}

ValueId Rewriter::broadcast(ValueId a, Shape shape) {
  Node node;
  node.op = Op::broadcast;
  node.operands = {a};
  node.type = {type(a).dtype, std::move(shape)};
  return emit(std::move(node));
}

ValueId Rewriter::slice(ValueId a, int64_t axis, const Dim& begin, const Dim& end) {
  Node node;
  node.op = Op::slice;
  node.operands = {a};
  node.attributes.axis = axis;
  node.attributes.begin = begin;
  node.attributes.end = end;
  node.type = type(a);
  node.type.shape[static_cast<size_t>(axis)] = end - begin;
  return emit(std::move(node));
}

}  // namespace tilewright::canonical
