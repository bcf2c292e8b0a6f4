#include "runtime/launch_expr.h"

#include <algorithm>
#include <array>

#include "ir/result.h"
#include "runtime/integer_ops.h"

namespace tilewright {
namespace {

constexpr size_t kInlineSteps = 128;

}  // namespace

DimFormula::DimFormula(const Dim& dim, std::span<const std::string> names) : constant(dim.constant()) {
  for (const auto& [name, coefficient] : dim.terms()) {
    const auto found = std::find(names.begin(), names.end(), name);
    TW_CHECK(found != names.end());
    terms.emplace_back(static_cast<size_t>(found - names.begin()), coefficient);
  }
}

int64_t DimFormula::evaluate(std::span<const int64_t> dims) const {
  auto sum = static_cast<uint64_t>(constant);
  for (const auto& [position, coefficient] : terms)
    sum += static_cast<uint64_t>(coefficient) * static_cast<uint64_t>(dims[position]);
  return wrapping(sum);
}

bool DimFormula::evaluate_checked(std::span<const int64_t> dims, int64_t& value) const {
  value = constant;
  for (const auto& [position, coefficient] : terms) {
    int64_t product = 0;
    if (__builtin_mul_overflow(coefficient, dims[position], &product) || __builtin_add_overflow(value, product, &value))
      return false;
  }
  return true;
}

LaunchExpr::LaunchExpr(const Expr& expr, std::span<const std::string> names) {
  if (expr.empty()) return;
  const Expr pruned = expr.pruned();
  TW_CHECK(raw(pruned.root()) == static_cast<int>(pruned.nodes().size()) - 1);
  for (const ExprNode& node : pruned.nodes()) {
    TW_CHECK(!is_float(node.dtype) && node.args.size() <= 3);
    Step step{node.kind, node.op, node.dtype, node.args.empty() ? node.dtype : pruned[node.args[0]].dtype, {}, {}};
    if (node.kind == ExprKind::constant) {
      step.dim.constant = node.literal.integer;
    } else if (node.kind == ExprKind::dim) {
      step.dim = DimFormula(node.dim, names);
    } else {
      TW_CHECK(node.kind == ExprKind::op);
      for (size_t i = 0; i < node.args.size(); ++i) step.args[i] = raw(node.args[i]);
    }
    steps_.push_back(std::move(step));
  }
}

int64_t LaunchExpr::evaluate(std::span<const int64_t> dims) const {
  if (steps_.empty()) return 0;
  std::array<int64_t, kInlineSteps> inline_values;
  std::vector<int64_t> more;
  int64_t* values = inline_values.data();
  if (steps_.size() > kInlineSteps) {
    more.resize(steps_.size());
    values = more.data();
  }
  for (size_t i = 0; i < steps_.size(); ++i) {
    const Step& step = steps_[i];
    const int64_t value = step.kind == ExprKind::op ? apply_integer(step.op, step.operands, values[step.args[0]],
                                                                    values[step.args[1]], values[step.args[2]])
                                                    : step.dim.evaluate(dims);
    values[i] = wrap_integer(value, step.dtype);
  }
  return values[steps_.size() - 1];
}

}  // namespace tilewright
