#include "compiler/tensor_map_access.h"

#include <fmt/format.h>

namespace tilewright {

int64_t coefficient(const Expr& expr, Axis axis) {
  struct Form {
    int64_t constant = 0, factor = 0;  ///< constant: of constant nodes
  };
  std::vector<Form> forms;
  for (const ExprNode& node : expr.nodes()) {
    const auto arg = [&](size_t i) { return forms[static_cast<size_t>(raw(node.args[i]))]; };
    Form form;
    if (node.kind == ExprKind::constant) form.constant = node.literal.integer;
    if (node.kind == ExprKind::index && node.axis == axis) form.factor = 1;
    if (node.kind == ExprKind::op) {
      switch (node.op) {
        case Op::cast: form = arg(0); break;
        case Op::neg: form = {-arg(0).constant, -arg(0).factor}; break;
        case Op::add: form = {arg(0).constant + arg(1).constant, arg(0).factor + arg(1).factor}; break;
        case Op::sub: form = {arg(0).constant - arg(1).constant, arg(0).factor - arg(1).factor}; break;
        case Op::mul:
          form = {arg(0).constant * arg(1).constant, arg(0).factor * arg(1).constant + arg(1).factor * arg(0).constant};
          break;
        default: break;
      }
    }
    forms.push_back(form);
  }
  return forms[static_cast<size_t>(raw(expr.root()))].factor;
}

std::variant<TensorMapAccess, std::string> analyze_tensor_map(const ScoreSpace& space, const Access& access,
                                                              Axis position, const Dim& length, int64_t columns) {
  const SpecTensor& tensor = space.tensors[static_cast<size_t>(access.tensor)];
  constexpr size_t kMaxRank = 5;
  if (access.axes.size() > kMaxRank)
    return fmt::format("{} has {} axes, and a tensor map holds {}", tensor.name, access.axes.size(), kMaxRank);
  TensorMapAccess found;
  for (size_t i = 0; i < access.axes.size(); ++i) {
    const Expr& axis = access.axes[i];
    const int64_t column = coefficient(axis, Axis::d), row = coefficient(axis, position);
    const auto is_index = [&](Axis name) {
      return axis.root_node().kind == ExprKind::index && axis.root_node().axis == name;
    };
    if (column == 0 && row == 0) continue;
    if (column != 0 && row != 0)
      return fmt::format("axis {} of {} holds positions and columns at once", i, tensor.name);
    if (column + row != 1 || (column != 0 ? found.column_axis : found.row_axis) >= 0)
      return fmt::format("a box of {} would need steps along axis {}", tensor.name, i);
    if (column != 0) {
      found.column_axis = static_cast<int>(i);
      found.exact_columns = is_index(Axis::d) && tensor.type.shape[i] == Dim(columns);
    } else {
      found.row_axis = static_cast<int>(i);
      found.exact_rows = is_index(position) && tensor.type.shape[i] == length;
    }
  }
  if (found.column_axis < 0) return fmt::format("{} is the same in all columns", tensor.name);
  if (found.row_axis < 0) return fmt::format("{} is the same in all rows", tensor.name);
  return found;
}

}  // namespace tilewright
