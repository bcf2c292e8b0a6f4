#include "compiler/contract_axes.h"

namespace tilewright {

ContractAxes contract_axes(const LoopStep& step) {
  const int rank = static_cast<int>(step.extents.size());
  ContractAxes axes;
  axes.depth = rank - 1;
  axes.column = rank - 2;
  const std::vector<uint32_t> depends = dependencies(step.value2);
  const uint32_t shared = ~depends[static_cast<size_t>(raw(step.value2.root()))];
  for (int axis = 0; axis < rank - 3; ++axis)
    (shared & bit(static_cast<Axis>(axis)) ? axes.rows : axes.outer).push_back(axis);
  axes.rows.push_back(rank - 3);
  return axes;
}

bool innermost(const Expr& operand, int axis) {
  const std::vector<uint32_t> depends = dependencies(operand);
  for (const ExprNode& node : operand.nodes())
    if (node.kind == ExprKind::load && !node.args.empty() &&
        (depends[static_cast<size_t>(raw(node.args.back()))] & bit(static_cast<Axis>(axis))))
      return true;
  return false;
}

Expr extent_product(const LoopStep& step, const std::vector<int>& axes) {
  Expr expr;
  ExprId product = expr.constant_int(1, DType::i64);
  for (int axis : axes)
    product = expr.op(Op::mul, DType::i64, {product, expr.dim(step.extents[static_cast<size_t>(axis)])});
  expr.set_root(product);
  return expr;
}

}  // namespace tilewright
