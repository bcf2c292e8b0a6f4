// The one place where log2(e) merges into a score expression, and the split of a constant scale onto Q.
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "compiler/passes.h"

namespace tilewright {
namespace {

// Extra operations per score that scaling a node costs. One multiplication of the root is 1, so anything below wins.
constexpr double kUniform = 0.01;  // one operation per row
constexpr double kScore = 0.5;     // one per score, or none where the template scales Q instead (leading_scale)
constexpr double kWrap = 1;
constexpr double kShared = 1;  // the unscaled node stays alive for its other users

class Folder {
 public:
  Folder(const Expr& expr, double factor) : in_(expr), factor_(factor), depends_(dependencies(expr)) {
    uses_.assign(in_.nodes().size(), 0);
    for (const ExprNode& node : in_.nodes())
      for (ExprId arg : node.args) ++uses_[index(arg)];
    cost_.assign(in_.nodes().size(), -1);
  }

  FoldedScale run() {
    if (factor_ == 1) return {in_, 1};
    if (cost(in_.root()) >= kWrap && !may_be_huge(in_.root())) return {in_, factor_};
    out_ = in_;
    out_.set_root(scaled(in_.root()));
    return {out_.pruned(), 1};
  }

 private:
  static size_t index(ExprId id) { return static_cast<size_t>(raw(id)); }
  bool uniform(ExprId id) const { return !(depends_[index(id)] & (bit(Axis::kv) | kDependsOnScore)); }

  double cost(ExprId id) {
    double& memo = cost_[index(id)];
    if (memo < 0) {
      memo = own_cost(id);
      if (uses_[index(id)] > 1 && !uniform(id)) memo += kShared;
    }
    return memo;
  }

  /// Whether a product before the cast is as exact as one behind it: in f32 it is not, where f64 goes on.
  bool keeps_precision(const ExprNode& cast) const {
    const DType from = in_[cast.args[0]].dtype;
    return is_float(from) && compute_type(from) == compute_type(cast.dtype);
  }

  double own_cost(ExprId id) {
    const ExprNode& node = in_[id];
    if (node.kind == ExprKind::constant) return 0;
    if (node.kind == ExprKind::score) return kScore;
    double best = uniform(id) ? kUniform : kWrap;
    if (node.kind != ExprKind::op) return best;
    const auto arg = [&](size_t i) { return cost(node.args[i]); };
    switch (node.op) {
      case Op::mul: return std::min({best, arg(0), arg(1)});
      case Op::div: return std::min(best, in_[node.args[1]].kind == ExprKind::constant ? 0 : arg(0));
      case Op::neg: return std::min(best, arg(0));
      case Op::cast: return keeps_precision(node) ? std::min(best, arg(0)) : best;
      case Op::min:
      case Op::max: return std::min(best, arg(0) + arg(1));
      case Op::select: return std::min(best, arg(1) + arg(2));
      case Op::add:
      case Op::sub:  // a wrapped side contracts with the addition into one FMA
        return std::min({best, arg(0) + arg(1), std::min(arg(0), arg(1))});
      default: return best;
    }
  }

  static double largest(DType dtype) {
    return dtype == DType::f64 ? std::numeric_limits<double>::max() : std::numeric_limits<float>::max();
  }

  /// Finite minima are ordinary scores (semantics 5) and stay finite when scaled.
  ExprId scaled_constant(const ExprNode& node) {
    const double limit = largest(node.dtype), value = node.literal.real;
    const bool finite = std::abs(value) <= limit;
    return out_.constant(finite ? std::clamp(value * factor_, -limit, limit) : value, node.dtype);
  }

  /// Loaded values may be the type's minimum, standing for a mask.
  bool may_be_huge(ExprId id) const {
    const ExprNode& node = in_[id];
    if (node.kind == ExprKind::load) return is_float(node.dtype) && node.dtype != DType::f16;
    if (node.kind != ExprKind::op || node.op == Op::tanh || node.op == Op::sigmoid || node.op == Op::erf) return false;
    return std::any_of(node.args.begin(), node.args.end(), [&](ExprId arg) { return may_be_huge(arg); });
  }

  ExprId wrapped(ExprId id) {
    const DType dtype = in_[id].dtype;
    const ExprId product = out_.op(Op::mul, dtype, {id, out_.constant(factor_, dtype)});
    if (inside_product_ || !may_be_huge(id)) return product;
    // A finite minimum would overflow to -inf: max(x·f, min(x, lowest)) keeps it finite, and -inf and NaN as they are.
    const ExprId lowest = out_.constant(-largest(dtype), dtype);
    return out_.op(Op::max, dtype, {product, out_.op(Op::min, dtype, {id, lowest})});
  }

  /// id · factor in out_, which holds all of in_ under the same ids.
  ExprId scaled(ExprId id) {
    const ExprNode node = in_[id];
    if (node.kind == ExprKind::constant) return scaled_constant(node);
    if (node.kind != ExprKind::op || cost(id) >= kWrap) return wrapped(id);
    std::vector<ExprId> args = node.args;
    switch (node.op) {
      case Op::mul: {
        const size_t cheap = cost(args[1]) <= cost(args[0]) ? 1 : 0;
        const bool outer = std::exchange(inside_product_, true);
        args[cheap] = scaled(args[cheap]);
        inside_product_ = outer;
        break;
      }
      case Op::div:
        if (in_[args[1]].kind == ExprKind::constant)
          return out_.op(Op::mul, node.dtype,
                         {args[0], out_.constant(factor_ / in_[args[1]].literal.real, node.dtype)});
        args[0] = scaled(args[0]);
        break;
      case Op::neg: args[0] = scaled(args[0]); break;
      case Op::cast:
        if (!keeps_precision(node)) return wrapped(id);
        args[0] = scaled(args[0]);
        break;
      case Op::add:
      case Op::sub:
      case Op::min:
      case Op::max:
        if (uniform(id)) return wrapped(id);
        args = {scaled(args[0]), scaled(args[1])};
        break;
      case Op::select:
        if (uniform(id)) return wrapped(id);
        args = {args[0], scaled(args[1]), scaled(args[2])};
        break;
      default: return wrapped(id);
    }
    return out_.op(node.op, node.dtype, std::move(args));
  }

  const Expr& in_;
  const double factor_;
  std::vector<uint32_t> depends_;
  std::vector<int> uses_;
  std::vector<double> cost_;
  bool inside_product_ = false;
  Expr out_;
};

/// c when `node` is s · c or s / c with a constant that a Q element can take without leaving its range.
std::optional<double> scale_of_score(const Expr& expr, const ExprNode& node, ExprId score) {
  if (node.kind != ExprKind::op || (node.op != Op::mul && node.op != Op::div)) return std::nullopt;
  const bool first = node.args[0] == score;
  const ExprNode& other = expr[node.args[first ? 1 : 0]];
  if (other.kind != ExprKind::constant || (node.op == Op::div && !first)) return std::nullopt;
  const double c = node.op == Op::mul ? other.literal.real : 1 / other.literal.real;
  if (!(std::abs(c) >= 0x1p-60 && std::abs(c) <= 0x1p60)) return std::nullopt;
  return c;
}

}  // namespace

FoldedScale fold_softmax_scale(const Expr& expr, double factor) { return Folder(expr, factor).run(); }

LeadingScale leading_scale(const Expr& expr) {
  int32_t score = -1, user = -1;
  int users = 0;
  for (size_t i = 0; i < expr.nodes().size(); ++i) {
    const ExprNode& node = expr.nodes()[i];
    if (node.kind == ExprKind::score) score = static_cast<int32_t>(i);
    for (ExprId arg : node.args)
      if (raw(arg) == score && score >= 0) {
        ++users;
        user = static_cast<int32_t>(i);
      }
  }
  if (users != 1 || raw(expr.root()) == score) return {1, expr};
  const auto scale = scale_of_score(expr, expr[ExprId{user}], ExprId{score});
  if (!scale) return {1, expr};

  LeadingScale split{*scale, {}};
  std::vector<ExprId> map;
  for (size_t i = 0; i < expr.nodes().size(); ++i) {
    ExprNode node = expr.nodes()[i];
    for (ExprId& arg : node.args) arg = map[static_cast<size_t>(raw(arg))];
    map.push_back(static_cast<int32_t>(i) == user ? map[static_cast<size_t>(score)] : split.expr.add(std::move(node)));
  }
  split.expr.set_root(map[static_cast<size_t>(raw(expr.root()))]);
  split.expr = split.expr.pruned();
  return split;
}

}  // namespace tilewright
