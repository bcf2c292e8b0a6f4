#include "codegen/cpu/expr_emitter_facts.h"

#include <algorithm>

#include "codegen/pointwise.h"

namespace tilewright::cpu {
namespace {

using Wide = __int128;

struct WideRange {
  Wide low, high;
};

WideRange declared(DType dtype) {
  switch (dtype) {
    case DType::boolean: return {0, 1};
    case DType::i8: return {INT8_MIN, INT8_MAX};
    case DType::i32: return {INT32_MIN, INT32_MAX};
    default: return {INT64_MIN, INT64_MAX};
  }
}

Wide floor_div(Wide a, Wide b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }
Wide magnitude(WideRange r) { return std::max(r.low < 0 ? -r.low : r.low, r.high < 0 ? -r.high : r.high); }
WideRange hull(WideRange a, WideRange b) { return {std::min(a.low, b.low), std::max(a.high, b.high)}; }

WideRange product(WideRange a, WideRange b) {
  // Factors beyond 2^62 do not multiply within 127 bits in all cases; such a product wraps anyway.
  const Wide corners[] = {a.low * b.low, a.low * b.high, a.high * b.low, a.high * b.high};
  return {*std::min_element(std::begin(corners), std::end(corners)),
          *std::max_element(std::begin(corners), std::end(corners))};
}

WideRange quotient(WideRange a, WideRange b) {
  if (b.low > 0) return {floor_div(a.low, a.low < 0 ? b.low : b.high), floor_div(a.high, a.high < 0 ? b.high : b.low)};
  return {-magnitude(a), magnitude(a)};
}

WideRange remainder(WideRange a, WideRange b) {
  if (b.low > 0 && a.low >= 0 && a.high < b.low) return a;
  if (b.low >= 0) return {0, std::max<Wide>(b.high - 1, 0)};
  const Wide bound = magnitude(b);
  return {-bound, bound};
}

/// 2^k - 1 >= x.
Wide all_ones(Wide x) {
  Wide ones = 0;
  while (ones < x) ones = ones * 2 + 1;
  return ones;
}

class Analyzer {
 public:
  Analyzer(const Expr& expr, int64_t lanes, Axis vary)
      : expr_(expr), depends_(dependencies(expr)), lanes_(lanes), vary_(vary) {}

  std::vector<NodeFacts> run() {
    for (size_t i = 0; i < expr_.nodes().size(); ++i) {
      const ExprNode& node = expr_.nodes()[i];
      NodeFacts facts;
      if (!is_float(node.dtype)) set_range(node, facts);
      facts_.push_back(facts);
      if (lanes_ > 1 && (depends_[i] & (bit(vary_) | kDependsOnScore))) set_form(node, facts_.back());
    }
    return std::move(facts_);
  }

 private:
  const NodeFacts& arg(const ExprNode& node, size_t i) const { return facts_[static_cast<size_t>(raw(node.args[i]))]; }
  const ExprNode& arg_node(const ExprNode& node, size_t i) const { return expr_[node.args[i]]; }
  WideRange range(const ExprNode& node, size_t i) const { return {arg(node, i).range.low, arg(node, i).range.high}; }

  void set_range(const ExprNode& node, NodeFacts& facts) const {
    const WideRange limits = declared(node.dtype);
    WideRange raw_range = unwrapped(node, limits);
    if (raw_range.low < limits.low || raw_range.high > limits.high) {
      facts.wraps = true;
      raw_range = limits;
    }
    facts.range = {static_cast<int64_t>(raw_range.low), static_cast<int64_t>(raw_range.high)};
  }

  WideRange unwrapped(const ExprNode& node, WideRange limits) const {
    switch (node.kind) {
      case ExprKind::constant: return {node.literal.integer, node.literal.integer};
      case ExprKind::index: return {0, kMaxExtent - 1};
      case ExprKind::dim: {
        WideRange sum{node.dim.constant(), node.dim.constant()};
        for (const auto& [name, coefficient] : node.dim.terms()) {
          const WideRange term = product({coefficient, coefficient}, {0, kMaxExtent});
          sum = {sum.low + term.low, sum.high + term.high};
        }
        return sum;
      }
      case ExprKind::op: return unwrapped_op(node, limits);
      default: return limits;
    }
  }

  WideRange unwrapped_op(const ExprNode& node, WideRange limits) const {
    if (is_comparison(node.op) || node.dtype == DType::boolean) return limits;
    if (node.op == Op::select) return hull(range(node, 1), range(node, 2));
    if (is_float(arg_node(node, 0).dtype)) return limits;
    const WideRange a = range(node, 0);
    const WideRange b = node.args.size() > 1 ? range(node, 1) : a;
    const bool not_negative = a.low >= 0 && b.low >= 0;
    switch (node.op) {
      case Op::cast: return a;
      case Op::add: return {a.low + b.low, a.high + b.high};
      case Op::sub: return {a.low - b.high, a.high - b.low};
      case Op::mul: return product(a, b);
      case Op::neg: return {-a.high, -a.low};
      case Op::abs: return {a.low > 0 ? a.low : 0, magnitude(a)};
      case Op::div: return quotient(a, b);
      case Op::mod: return remainder(a, b);
      case Op::min: return {std::min(a.low, b.low), std::min(a.high, b.high)};
      case Op::max: return {std::max(a.low, b.low), std::max(a.high, b.high)};
      case Op::shl:
        if (b.low == b.high && b.low >= 0 && b.low < 32) return product(a, {Wide{1} << b.low, Wide{1} << b.low});
        return {limits.low - 1, limits.high};
      case Op::shr: return hull(a, {std::min<Wide>(a.high, 0), std::max<Wide>(a.low, 0)});
      case Op::logical_and:
        if (not_negative) return {0, std::min(a.high, b.high)};
        if (a.low >= 0 || b.low >= 0) return {0, a.low >= 0 ? a.high : b.high};
        break;
      case Op::logical_or:
      case Op::logical_xor:
        if (not_negative) return {0, all_ones(std::max(a.high, b.high))};
        break;
      case Op::logical_not: return {-a.high - 1, -a.low - 1};
      case Op::random_bits: return {0, UINT32_MAX};
      default: break;
    }
    const WideRange narrow = declared(DType::i32);
    const WideRange both = hull(a, b);
    return both.low >= narrow.low && both.high <= narrow.high
               ? WideRange{std::max(narrow.low, limits.low), std::min(narrow.high, limits.high)}
               : limits;
  }

  /// Factor of the position in an integer node that may stay affine; 0 for uniform ones.
  static bool linear(const NodeFacts& facts) {
    return facts.form == LaneForm::uniform || facts.form == LaneForm::affine;
  }

  void set_form(const ExprNode& node, NodeFacts& facts) const {
    facts.form = LaneForm::vector;
    if (node.kind == ExprKind::load) {
      bool all = true;
      int affine = 0, unit = 0;
      for (size_t i = 0; i < node.args.size(); ++i) {
        all = all && linear(arg(node, i));
        affine += arg(node, i).form == LaneForm::affine;
        unit += arg(node, i).factor == 1;
      }
      if (all && (node.in_bounds || (affine == 1 && unit == 1))) facts.form = LaneForm::strided;
      return;
    }
    if (is_threshold(node)) {
      facts.form = LaneForm::threshold;
      return;
    }
    if (node.dtype != DType::i64 && node.dtype != DType::i32) return;
    constexpr int64_t kMaxBase = int64_t{1} << 61, kMaxFactor = 1 << 12;
    if (facts.wraps || facts.range.low < -kMaxBase || facts.range.high > kMaxBase) return;
    int64_t factor = 0;
    if (!find_factor(node, factor) || std::abs(factor) > kMaxFactor) return;
    facts.form = LaneForm::affine;
    facts.factor = factor;
  }

  bool find_factor(const ExprNode& node, int64_t& factor) const {
    if (node.kind == ExprKind::index) {
      factor = 1;
      return true;
    }
    if (node.kind != ExprKind::op) return false;
    for (size_t i = 0; i < node.args.size(); ++i)
      if (!is_integer(arg_node(node, i).dtype) || !linear(arg(node, i))) return false;
    const int64_t a = arg(node, 0).factor, b = node.args.size() > 1 ? arg(node, 1).factor : 0;
    switch (node.op) {
      case Op::cast: factor = a; return true;
      case Op::neg: factor = -a; return true;
      case Op::add: factor = a + b; return true;
      case Op::sub: factor = a - b; return true;
      case Op::mul: {
        const int constant = arg_node(node, 0).kind == ExprKind::constant   ? 0
                             : arg_node(node, 1).kind == ExprKind::constant ? 1
                                                                            : -1;
        if (constant < 0) return false;
        const int64_t by = arg_node(node, static_cast<size_t>(constant)).literal.integer;
        if (std::abs(by) > 1 << 20) return false;
        factor = by * (constant == 0 ? b : a);
        return true;
      }
      default: return false;
    }
  }

  /// rest ± position compared with a uniform value.
  bool is_threshold(const ExprNode& node) const {
    if (node.kind != ExprKind::op || !is_comparison(node.op) || !is_integer(arg_node(node, 0).dtype)) return false;
    const NodeFacts &a = arg(node, 0), &b = arg(node, 1);
    if (a.form == LaneForm::affine && b.form == LaneForm::uniform) return std::abs(a.factor) == 1;
    return b.form == LaneForm::affine && a.form == LaneForm::uniform && std::abs(b.factor) == 1;
  }

  const Expr& expr_;
  std::vector<uint32_t> depends_;
  int64_t lanes_;
  Axis vary_;
  std::vector<NodeFacts> facts_;
};

}  // namespace

std::vector<NodeFacts> analyze_nodes(const Expr& expr, int64_t lanes, Axis vary) {
  return Analyzer(expr, lanes, vary).run();
}

}  // namespace tilewright::cpu
