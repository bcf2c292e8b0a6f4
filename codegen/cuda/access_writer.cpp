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
  std::string text = names.base(access.tensor);
  for (size_t i = 0; i < access.axes.size(); ++i) {
    const Expr at = with_axis(access.axes[i], Axis::d, 0);
    if (at.root_node().kind == ExprKind::constant && at.root_node().literal.integer == 0) continue;
    const WrittenRoots written = write_roots(names, axes, at, {at.root()});
    TW_CHECK(written.lines.empty() && "an access is one expression");
    constexpr int kProduct = 5;
    text +=
        fmt::format(" + {} * {}", within(written.roots[0], kProduct), names.stride(access.tensor, static_cast<int>(i)));
  }
  return text;
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
