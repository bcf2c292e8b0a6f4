#include "ir/expr.h"

#include <algorithm>
#include <cmath>

namespace tilewright {

std::string_view to_string(Axis axis) {
  static constexpr std::string_view kNames[] = {"b",  "h",  "q",    "kv",   "d",     "i5",
                                                "i6", "i7", "q_lo", "q_hi", "kv_lo", "kv_hi"};
  return kNames[static_cast<size_t>(axis)];
}

ExprId Expr::add(ExprNode node) {
  // NaN literals never compare equal and so are not shared, which costs nothing.
  for (size_t i = 0; i < nodes_.size(); ++i)
    if (nodes_[i] == node && std::signbit(nodes_[i].literal.real) == std::signbit(node.literal.real))
      return ExprId{static_cast<int32_t>(i)};
  nodes_.push_back(std::move(node));
  return ExprId{static_cast<int32_t>(nodes_.size() - 1)};
}

ExprId Expr::constant(double value, DType dtype) {
  ExprNode node;
  node.dtype = dtype;
  node.literal.real = value;
  return add(std::move(node));
}

ExprId Expr::constant_int(int64_t value, DType dtype) {
  ExprNode node;
  node.dtype = dtype;
  node.literal.integer = value;
  return add(std::move(node));
}

ExprId Expr::index(Axis axis, DType dtype) {
  ExprNode node;
  node.kind = ExprKind::index;
  node.dtype = dtype;
  node.axis = axis;
  return add(std::move(node));
}

ExprId Expr::dim(Dim value) {
  if (value.is_constant()) return constant_int(value.constant(), DType::i64);
  ExprNode node;
  node.kind = ExprKind::dim;
  node.dtype = DType::i64;
  node.dim = std::move(value);
  return add(std::move(node));
}

ExprId Expr::score(DType dtype, int product) {
  ExprNode node;
  node.kind = ExprKind::score;
  node.product = product;
  node.dtype = dtype;
  return add(std::move(node));
}

ExprId Expr::load(int tensor, DType dtype, std::vector<ExprId> indices, bool in_bounds) {
  ExprNode node;
  node.kind = ExprKind::load;
  node.dtype = dtype;
  node.tensor = tensor;
  node.args = std::move(indices);
  node.in_bounds = in_bounds;
  return add(std::move(node));
}

ExprId Expr::op(Op op, DType dtype, std::vector<ExprId> args) {
  ExprNode node;
  node.kind = ExprKind::op;
  node.op = op;
  node.dtype = dtype;
  node.args = std::move(args);
  return add(std::move(node));
}

ExprId Expr::import(const Expr& other) { return import(other, other.root()); }

ExprId Expr::import(const Expr& other, ExprId root) {
  std::vector<ExprId> map(other.nodes().size(), ExprId{-1});
  std::vector<bool> needed(other.nodes().size(), false);
  needed[static_cast<size_t>(raw(root))] = true;
  for (size_t i = other.nodes().size(); i-- > 0;)
    if (needed[i])
      for (ExprId arg : other.nodes()[i].args) needed[static_cast<size_t>(raw(arg))] = true;
  for (size_t i = 0; i < other.nodes().size(); ++i) {
    if (!needed[i]) continue;
    ExprNode node = other.nodes()[i];
    for (ExprId& arg : node.args) arg = map[static_cast<size_t>(raw(arg))];
    map[i] = add(std::move(node));
  }
  return map[static_cast<size_t>(raw(root))];
}

Expr Expr::pruned() const {
  Expr out;
  if (!empty()) out.set_root(out.import(*this));
  return out;
}

Expr Expr::pruned(std::span<ExprId* const> roots) const {
  const auto at = [](ExprId id) { return static_cast<size_t>(raw(id)); };
  std::vector<bool> needed(nodes_.size(), false);
  for (const ExprId* root : roots)
    if (raw(*root) >= 0) needed[at(*root)] = true;
  for (size_t i = nodes_.size(); i-- > 0;)
    if (needed[i])
      for (ExprId arg : nodes_[i].args) needed[at(arg)] = true;
  Expr out;
  std::vector<ExprId> map(nodes_.size(), ExprId{-1});
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (!needed[i]) continue;
    ExprNode node = nodes_[i];
    for (ExprId& arg : node.args) arg = map[at(arg)];
    map[i] = out.add(std::move(node));
  }
  for (ExprId* root : roots)
    if (raw(*root) >= 0) *root = map[at(*root)];
  return out;
}

bool Expr::is_constant_true() const {
  return !empty() && root_node().kind == ExprKind::constant && root_node().dtype == DType::boolean &&
         root_node().literal.integer != 0;
}

std::vector<uint32_t> dependencies(const Expr& expr) {
  std::vector<uint32_t> bits;
  for (const ExprNode& node : expr.nodes()) {
    uint32_t mask = 0;
    if (node.kind == ExprKind::index) mask = bit(node.axis);
    if (node.kind == ExprKind::score) mask = node.product == 0 ? kDependsOnScore : kDependsOnScore | kDependsOnT;
    for (ExprId arg : node.args) mask |= bits[static_cast<size_t>(raw(arg))];
    bits.push_back(mask);
  }
  return bits;
}

}  // namespace tilewright
