// Evaluates one point of an Expr: every node in order, into a small buffer.
#include <array>
#include <vector>

#include "ir/interp.h"
#include "ir/interp/number.h"
#include "ir/interp/philox.h"
#include "ir/interp/scalar_ops.h"

namespace tilewright {
namespace {

using interp::apply_compare;
using interp::apply_int;
using interp::apply_real;

/// A float node's value is in `real`, all others' in `integer`.
struct Number {
  long double real;
  int64_t integer;
};

struct Point {
  const DimBindings& dims;
  std::span<const TensorView> tensors;
  std::span<const int64_t> axis_values;
  std::span<const long double> products;  ///< s and t
};

int64_t clamp_index(int64_t index, int64_t size) { return std::max<int64_t>(0, std::min(index, size - 1)); }

Number element(const TensorView& tensor, int64_t offset) {
  if (is_float(tensor.dtype)) return {interp::load_real(tensor.dtype, tensor.data, offset), 0};
  return {0, interp::load_int(tensor.dtype, tensor.data, offset)};
}

Number load(const ExprNode& node, const Number* values, const Point& point) {
  const TensorView& tensor = point.tensors[static_cast<size_t>(node.tensor)];
  if (tensor.element_count() == 0) return {0, 0};
  int64_t offset = 0;
  for (size_t i = 0; i < node.args.size(); ++i)
    offset += clamp_index(values[raw(node.args[i])].integer, tensor.shape[i]) * tensor.strides[i];
  return element(tensor, offset);
}

/// min or max over the inclusive box of load_min / load_max.
Number load_extreme(const ExprNode& node, const Number* values, const Point& point) {
  const TensorView& tensor = point.tensors[static_cast<size_t>(node.tensor)];
  if (tensor.element_count() == 0) return {0, 0};
  const size_t rank = node.args.size() / 2;
  const Op op = node.kind == ExprKind::load_min ? Op::min : Op::max;
  std::array<int64_t, kMaxRank> low{}, high{}, at{};
  for (size_t i = 0; i < rank; ++i) {
    low[i] = clamp_index(values[raw(node.args[i])].integer, tensor.shape[i]);
    high[i] = clamp_index(values[raw(node.args[rank + i])].integer, tensor.shape[i]);
    if (high[i] < low[i]) high[i] = low[i];
  }
  at = low;
  Number best{};
  for (bool first = true;; first = false) {
    int64_t offset = 0;
    for (size_t i = 0; i < rank; ++i) offset += at[i] * tensor.strides[i];
    const Number next = element(tensor, offset);
    if (first)
      best = next;
    else
      best = {apply_real(op, best.real, next.real), apply_int(op, DType::i64, best.integer, next.integer)};
    size_t axis = rank;
    while (axis > 0 && at[axis - 1] == high[axis - 1]) --axis, at[axis] = low[axis];
    if (axis == 0) return best;
    ++at[axis - 1];
  }
}

Number apply(const Expr& expr, const ExprNode& node, const Number* values) {
  const auto argument = [&](size_t i) { return values[raw(node.args[i])]; };
  const DType from = expr[node.args[0]].dtype;
  if (node.op == Op::select) return argument(0).integer ? argument(1) : argument(2);
  if (node.op == Op::random_bits) {
    const auto integer = [&](size_t i) { return argument(i).integer; };
    return {0, interp::random_bits(integer(0), integer(1), integer(2), integer(3), integer(4))};
  }
  const Number a = argument(0);
  const Number b = node.args.size() > 1 ? argument(1) : Number{};
  if (interp::is_comparison(node.op))
    return {0, is_float(from) ? apply_compare(node.op, a.real, b.real) : apply_compare(node.op, a.integer, b.integer)};
  if (node.op == Op::cast) {
    if (is_float(node.dtype)) return {is_float(from) ? a.real : static_cast<long double>(a.integer), 0};
    return {0, is_float(from) ? interp::real_to_int(node.dtype, a.real) : interp::wrap(node.dtype, a.integer)};
  }
  if (is_float(from)) return {apply_real(node.op, a.real, b.real), 0};
  return {0, apply_int(node.op, from, a.integer, b.integer)};
}

Number evaluate_node(const Expr& expr, const ExprNode& node, const Number* values, const Point& point) {
  switch (node.kind) {
    case ExprKind::op: return apply(expr, node, values);
    case ExprKind::score:
      TW_CHECK(static_cast<size_t>(node.product) < point.products.size());
      return {point.products[static_cast<size_t>(node.product)], 0};
    case ExprKind::constant: return {node.literal.real, interp::wrap(node.dtype, node.literal.integer)};
    case ExprKind::index:
      TW_CHECK(static_cast<size_t>(node.axis) < point.axis_values.size());
      return {0, interp::wrap(node.dtype, point.axis_values[static_cast<size_t>(node.axis)])};
    case ExprKind::dim: {
      const std::optional<int64_t> value = node.dim.evaluate(point.dims);
      TW_CHECK(value.has_value());
      return {0, *value};
    }
    case ExprKind::load: return load(node, values, point);
    case ExprKind::load_min:
    case ExprKind::load_max: return load_extreme(node, values, point);
  }
  return {};
}

/// Values of the first `count` nodes; users come after their arguments.
template <class Use>
auto with_values(const Expr& expr, size_t count, const Point& point, Use use) {
  constexpr size_t kSmall = 48;
  std::array<Number, kSmall> small;
  std::vector<Number> large(count > kSmall ? count : 0);
  Number* values = count > kSmall ? large.data() : small.data();
  for (size_t i = 0; i < count; ++i) values[i] = evaluate_node(expr, expr.nodes()[i], values, point);
  return use(values);
}

Number evaluate_root(const Expr& expr, const Point& point) {
  TW_CHECK(!expr.empty() && raw(expr.root()) >= 0);
  const size_t count = static_cast<size_t>(raw(expr.root())) + 1;
  return with_values(expr, count, point, [&](const Number* values) { return values[count - 1]; });
}

long double as_real(DType dtype, Number value) {
  return is_float(dtype) ? value.real : static_cast<long double>(value.integer);
}

}  // namespace

long double evaluate(const Expr& expr, const DimBindings& dims, std::span<const TensorView> tensors,
                     std::span<const int64_t> axis_values, long double score) {
  return as_real(expr.root_node().dtype, evaluate_root(expr, {dims, tensors, axis_values, std::span(&score, 1)}));
}

std::vector<long double> evaluate(const Expr& expr, std::span<const ExprId> roots, const DimBindings& dims,
                                  std::span<const TensorView> tensors, std::span<const int64_t> axis_values,
                                  std::span<const long double> products) {
  return with_values(expr, expr.nodes().size(), {dims, tensors, axis_values, products}, [&](const Number* values) {
    std::vector<long double> out;
    for (const ExprId root : roots) out.push_back(as_real(expr[root].dtype, values[raw(root)]));
    return out;
  });
}

int64_t evaluate_int(const Expr& expr, const DimBindings& dims, std::span<const TensorView> tensors,
                     std::span<const int64_t> axis_values) {
  TW_CHECK(!is_float(expr.root_node().dtype));
  return evaluate_root(expr, {dims, tensors, axis_values, {}}).integer;
}

}  // namespace tilewright
