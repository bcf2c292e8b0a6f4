#include "codegen/cuda/access_writer.h"

#include "compiler/passes.h"
#include "compiler/tensor_map_access.h"

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

std::string write_row_address(DeviceNames& names, const AxisNames& axes, const Access& access) {
  Expr indices;
  std::vector<ExprId> roots;
  // Loops have an axis of that number, which they name.
  const bool first_element = axes[Axis::d].empty();
  for (const Expr& axis : access.axes)
    roots.push_back(indices.import(first_element ? with_axis(axis, Axis::d, 0) : axis));
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
