#include "codegen/cuda/access_writer.h"

#include "compiler/passes.h"

namespace tilewright::cuda {

Expr with_axis(const Expr& expr, Axis axis, int64_t value) {
  Expr out;
  std::vector<ExprId> ids;
  for (ExprNode node : expr.nodes()) {
    if (node.kind == ExprKind::index && node.axis == axis) {
      ids.push_back(out.constant_int(value, node.dtype));
      continue;
    }
    for (ExprId& arg : node.args) arg = ids[static_cast<size_t>(raw(arg))];
    ids.push_back(out.add(std::move(node)));
  }
  out.set_root(ids[static_cast<size_t>(raw(expr.root()))]);
  return simplify(out);
}

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

std::string write_row_address(DeviceNames& names, const AxisNames& axes, const Access& access) {
  Expr indices;
  std::vector<ExprId> roots;
  for (const Expr& axis : access.axes) roots.push_back(indices.import(with_axis(axis, Axis::d, 0)));
  const WrittenRoots written = write_roots(names, axes, indices, roots);
  std::string address = names.base(access.tensor), separator = " +\n        ";
  for (size_t i = 0; i < roots.size(); ++i) {
    const ExprNode& root = indices[roots[i]];
    if (root.kind == ExprKind::constant && root.literal.integer == 0) continue;
    constexpr int kProduct = 5;
    address += separator;
    address +=
        fmt::format("{} * {}", within(written.roots[i], kProduct), names.stride(access.tensor, static_cast<int>(i)));
    separator = " + ";
  }
  return fmt::format("{}  return {};\n", written.lines, address);
}

std::string write_access_stride(const DeviceNames& names, const Access& access, Axis axis) {
  std::string text;
  for (size_t i = 0; i < access.axes.size(); ++i) {
    const int64_t factor = coefficient(access.axes[i], axis);
    if (factor == 0) continue;
    text += text.empty() ? "" : " + ";
    text += factor == 1 ? "" : fmt::format("{} * ", factor);
    text += names.stride(access.tensor, static_cast<int>(i));
  }
  return text.empty() ? "0" : text;
}

}  // namespace tilewright::cuda
