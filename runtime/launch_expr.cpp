#include "runtime/launch_expr.h"

#include <algorithm>
#include <array>

#include "ir/result.h"

namespace tilewright {
namespace {

constexpr size_t kInlineSteps = 128;

int64_t wrap(int64_t value, DType dtype) {
  switch (dtype) {
    case DType::i32: return static_cast<int32_t>(value);
    case DType::i8: return static_cast<int8_t>(value);
    case DType::boolean: return value != 0;
    default: return value;
  }
}

int64_t wrapping(uint64_t value) { return static_cast<int64_t>(value); }

int64_t floor_div(int64_t a, int64_t b) {
  if (b == 0) return 0;
  if (b == -1) return wrapping(0 - static_cast<uint64_t>(a));
  return a / b - ((a % b != 0 && (a % b < 0) != (b < 0)) ? 1 : 0);
}

int64_t apply(Op op, int64_t a, int64_t b, int64_t c, bool boolean) {
  const auto ua = static_cast<uint64_t>(a), ub = static_cast<uint64_t>(b);
  switch (op) {
    case Op::add: return wrapping(ua + ub);
    case Op::sub: return wrapping(ua - ub);
    case Op::mul: return wrapping(ua * ub);
    case Op::div: return floor_div(a, b);
    case Op::mod: return b == 0 ? 0 : wrapping(ua - static_cast<uint64_t>(floor_div(a, b)) * ub);
    case Op::min: return std::min(a, b);
    case Op::max: return std::max(a, b);
    case Op::shl: return wrapping(ua << (ub & 63));
    case Op::shr: return a >> (ub & 63);
    case Op::logical_and: return a & b;
    case Op::logical_or: return a | b;
    case Op::logical_xor: return a ^ b;
    case Op::logical_not: return boolean ? a == 0 : ~a;
    case Op::eq: return a == b;
    case Op::ne: return a != b;
    case Op::lt: return a < b;
    case Op::le: return a <= b;
    case Op::gt: return a > b;
    case Op::ge: return a >= b;
    case Op::select: return a ? b : c;
    case Op::neg: return wrapping(0 - ua);
    case Op::abs: return a < 0 ? wrapping(0 - ua) : a;
    case Op::cast: return a;
    default: TW_CHECK(false);
  }
}

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
    Step step{node.kind, node.op, node.dtype, {}, {}};
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
    const int64_t value = step.kind == ExprKind::op ? apply(step.op, values[step.args[0]], values[step.args[1]],
                                                            values[step.args[2]], step.dtype == DType::boolean)
                                                    : step.dim.evaluate(dims);
    values[i] = wrap(value, step.dtype);
  }
  return values[steps_.size() - 1];
}

}  // namespace tilewright
