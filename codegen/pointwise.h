// The one walker over Exprs. It decides what every node needs and when (hoisting), which family of operations it
// belongs to (dtype rules), and nothing of how a target spells it: that is the builder's part.
//
// A builder holds values of its own type (Operand) and has
//   bool ready(id, known)      may the node be computed once the axes in `known` are set (and its arguments are there)?
//   void stage(id, values)     told of a node that is not ready: parts of it may be prepared at this place
//   Value finish(id, value)    makes a value that was prepared early ready for use
//   Value constant(id), index(id), dim(id), score(id), load(id, args), load_extreme(id, args)
//   Value real(id, op, args)       float arithmetic in compute_type(dtype): f16 and bf16 count as f32 and are not
//   rounded Value integer(id, op, args)    wraps at the declared width; div and mod floor, by zero 0 Value logic(id,
//   op, args)      bool: and, or, xor, not Value compare_real / compare_integer / compare_logic(id, op, args) Value
//   select(id, args)         the arm not taken vanishes Value convert(id, from, arg)   to the node's dtype; float to
//   int truncates and saturates, NaN gives 0
#pragma once

#include <optional>
#include <vector>

#include "ir/expr.h"
#include "ir/result.h"

namespace tilewright {

constexpr bool is_comparison(Op op) {
  return op == Op::eq || op == Op::ne || op == Op::lt || op == Op::le || op == Op::gt || op == Op::ge;
}

template <class Builder>
class PointwiseWalker {
 public:
  using Value = typename Builder::Operand;
  using Values = std::vector<Value>;

  /// `expr` must be pruned (all nodes reached from the roots that are asked for) and outlive the walker.
  PointwiseWalker(Builder& builder, const Expr& expr)
      : builder_(builder), expr_(expr), depends_(dependencies(expr)), values_(expr.nodes().size()) {}

  /// Drops values that depend on these axes; they have new meanings.
  void forget(uint32_t axes) {
    for (size_t i = 0; i < values_.size(); ++i)
      if (depends_[i] & axes) values_[i].reset();
  }

  /// Computes here what the axes in `known` allow, and keeps it.
  void hoist(uint32_t known) {
    for (size_t i = 0; i < values_.size(); ++i) {
      if (values_[i]) continue;
      const ExprId id{static_cast<int32_t>(i)};
      if (has_arguments(id) && builder_.ready(id, known))
        values_[i] = evaluate(id);
      else
        builder_.stage(id, values_);
    }
  }

  /// Calls visit(id, value) for everything that hoist() kept.
  template <class Visit>
  void each_kept(const Visit& visit) const {
    for (size_t i = 0; i < values_.size(); ++i)
      if (values_[i]) visit(ExprId{static_cast<int32_t>(i)}, *values_[i]);
  }

  /// Computes everything that is missing, once for all roots; none of that is kept.
  Values roots(const std::vector<ExprId>& ids) {
    const std::vector<std::optional<Value>> kept = values_;
    for (size_t i = 0; i < values_.size(); ++i) {
      const ExprId id{static_cast<int32_t>(i)};
      values_[i] = builder_.finish(id, values_[i] ? *values_[i] : evaluate(id));
    }
    Values results;
    for (ExprId id : ids) results.push_back(*values_[static_cast<size_t>(raw(id))]);
    values_ = kept;
    return results;
  }

 private:
  bool has_arguments(ExprId id) const {
    for (ExprId arg : expr_[id].args)
      if (!values_[static_cast<size_t>(raw(arg))]) return false;
    return true;
  }

  Value evaluate(ExprId id) {
    const ExprNode& node = expr_[id];
    Values args;
    for (ExprId arg : node.args) args.push_back(*values_[static_cast<size_t>(raw(arg))]);
    switch (node.kind) {
      case ExprKind::constant: return builder_.constant(id);
      case ExprKind::index: return builder_.index(id);
      case ExprKind::dim: return builder_.dim(id);
      case ExprKind::score: return builder_.score(id);
      case ExprKind::load: return builder_.load(id, args);
      case ExprKind::load_min:
      case ExprKind::load_max: return builder_.load_extreme(id, args);
      case ExprKind::op: break;
    }
    const DType from = expr_[node.args[0]].dtype;
    if (node.op == Op::select) return builder_.select(id, args);
    if (node.op == Op::cast) return builder_.convert(id, from, args[0]);
    if (is_comparison(node.op)) {
      if (is_float(from)) return builder_.compare_real(id, node.op, args);
      if (from == DType::boolean) return builder_.compare_logic(id, node.op, args);
      return builder_.compare_integer(id, node.op, args);
    }
    if (is_float(node.dtype)) return builder_.real(id, node.op, args);
    if (node.dtype == DType::boolean) return builder_.logic(id, node.op, args);
    return builder_.integer(id, node.op, args);
  }

  Builder& builder_;
  const Expr& expr_;
  std::vector<uint32_t> depends_;
  std::vector<std::optional<Value>> values_;
};

}  // namespace tilewright
