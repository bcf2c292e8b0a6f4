#include "compiler/analyze_mask_bounds.h"

#include <algorithm>
#include <utility>

namespace tilewright {
namespace {

// Nodes that are solved for lie within ±kReach; limits on them are clamped to ±2·kReach, which loses nothing and keeps
// the arithmetic on limits exact.
constexpr int64_t kReach = int64_t{1} << 40;
// Uniform summands are trusted up to here.
constexpr int64_t kTrusted = int64_t{1} << 61;

}  // namespace

Hull BoundsAnalyzer::intersection(Hull a, Hull b) {
  const auto join = [&](std::optional<ExprId> x, std::optional<ExprId> y, Op op) {
    if (!x || !y) return x ? x : y;
    return std::optional(out_.op(op, {*x, *y}));
  };
  return {join(a.begin, b.begin, Op::max), join(a.end, b.end, Op::min)};
}

Hull BoundsAnalyzer::convex_union(Hull a, Hull b) {
  const auto join = [&](std::optional<ExprId> x, std::optional<ExprId> y, Op op) {
    return x && y ? std::optional(out_.op(op, {*x, *y})) : std::nullopt;
  };
  return {join(a.begin, b.begin, Op::min), join(a.end, b.end, Op::max)};
}

Hull BoundsAnalyzer::hull(ExprId id, bool wanted) {
  const ExprNode node = in_[id];
  if (!blocks_.depends_on(id, Axis::kv)) {
    const Truth t = blocks_.truth(id);
    const ExprId possible = wanted ? t.may : out_.op(Op::logical_not, {t.must});
    if (out_.is_constant(possible, 1)) return {};
    return {std::nullopt, out_.op(Op::select, {possible, out_.dim(kv_len_), out_.integer(0)})};
  }
  if (node.kind != ExprKind::op) return {};
  if (is_compare(node.op) && is_integer(in_[node.args[0]].dtype))
    return hull_of_compare(wanted ? node.op : negated_compare(node.op), node.args[0], node.args[1]);
  switch (node.op) {
    case Op::logical_not: return hull(node.args[0], !wanted);
    case Op::logical_and:
    case Op::logical_or: {
      const Hull a = hull(node.args[0], wanted), b = hull(node.args[1], wanted);
      return (node.op == Op::logical_and) == wanted ? intersection(a, b) : convex_union(a, b);
    }
    case Op::select: {
      const Hull taken = intersection(hull(node.args[0], true), hull(node.args[1], wanted));
      return convex_union(taken, intersection(hull(node.args[0], false), hull(node.args[2], wanted)));
    }
    default: return {};
  }
}

ExprId BoundsAnalyzer::clamped(ExprId value) {
  value = out_.op(Op::min, {value, out_.integer(2 * kReach)});
  return out_.op(Op::max, {value, out_.integer(-2 * kReach)});
}

Hull BoundsAnalyzer::hull_of_compare(Op op, ExprId a, ExprId b) {
  if (blocks_.depends_on(b, Axis::kv)) {
    if (blocks_.depends_on(a, Axis::kv)) return {};
    std::swap(a, b);
    op = swapped_compare(op);
  }
  if (op == Op::ne) return {};
  const auto other = blocks_.interval(b);
  if (!other) return {};
  // Clamping a limit loses nothing where the node cannot reach the clamp; elsewhere the limit must lie inside itself.
  ExprId ok = other->ok;
  if (!in_.range(a).within(-kReach, kReach)) {
    const ExprId low = out_.op(Op::ge, {other->lo, out_.integer(-2 * kReach)});
    const ExprId high = out_.op(Op::le, {other->hi, out_.integer(2 * kReach)});
    ok = out_.op(Op::logical_and, {ok, out_.op(Op::logical_and, {low, high})});
  }
  std::optional<Limit> least, most;
  if (op == Op::le || op == Op::lt || op == Op::eq) most = Limit{plus(clamped(other->hi), op == Op::lt ? -1 : 0), ok};
  if (op == Op::ge || op == Op::gt || op == Op::eq) least = Limit{plus(clamped(other->lo), op == Op::gt ? 1 : 0), ok};
  return solve(a, least, most);
}

Hull BoundsAnalyzer::solve(ExprId id, std::optional<Limit> least, std::optional<Limit> most) {
  const ExprNode node = in_[id];
  if (node.kind == ExprKind::index) {
    Hull hull;
    if (least) hull.begin = out_.op(Op::select, {least->ok, least->value, out_.integer(0)});
    if (most) hull.end = out_.op(Op::select, {most->ok, plus(most->value, 1), out_.dim(kv_len_)});
    return hull;
  }
  if (node.kind != ExprKind::op || !is_integer(node.dtype)) return {};
  const AffineForm form = in_.affine(id);
  if (form.terms.size() != 1 || form.terms[0].atom != id) return solve_affine(id, form, least, most);
  if (!in_.range(id).within(-kReach, kReach)) return {};

  const auto scaled = [&](const Limit& limit, int64_t factor, int64_t offset) {
    const ExprId product = out_.op(Op::mul, {limit.value, out_.integer(factor)});
    return Limit{clamped(plus(product, offset)), limit.ok};
  };
  switch (node.op) {
    case Op::div: {
      if (!in_.is_constant(node.args[1])) return {};
      const int64_t divisor = in_.constant(node.args[1]);
      if (divisor < 1 || divisor > kReach >> 20) return {};
      if (least) least = scaled(*least, divisor, 0);
      if (most) most = scaled(*most, divisor, divisor - 1);
      return in_.range(node.args[0]).within(-kReach, kReach) ? solve(node.args[0], least, most) : Hull{};
    }
    case Op::min:
    case Op::max: {
      const bool strict_least = node.op == Op::min;  // min >= L: both are; max <= H: both are
      Hull hull;
      for (ExprId arg : node.args)
        if (blocks_.depends_on(arg, Axis::kv))
          hull =
              intersection(hull, solve(arg, strict_least ? least : std::nullopt, strict_least ? std::nullopt : most));
      return hull;
    }
    case Op::abs:
      if (!most) return {};
      return solve(node.args[0], scaled(*most, -1, 0), most);
    case Op::cast: {
      const DType from = in_[node.args[0]].dtype;
      const IntRange range = in_.range(node.args[0]), all = full_range(node.dtype);
      if (!is_integer(from) || !range.within(all.lo, all.hi)) return {};
      return solve(node.args[0], least, most);
    }
    default: return {};
  }
}

Hull BoundsAnalyzer::solve_affine(ExprId id, const AffineForm& form, std::optional<Limit> least,
                                  std::optional<Limit> most) {
  // coefficient · atom + rest, with one atom that depends on kv
  AffineForm rest = form;
  rest.terms.clear();
  std::optional<AffineForm::Term> solved;
  for (const auto& term : form.terms) {
    if (!blocks_.depends_on(term.atom, Axis::kv)) {
      rest.terms.push_back(term);
    } else if (solved) {
      return {};
    } else {
      solved = term;
    }
  }
  const int64_t c = solved ? solved->coefficient : 0;
  if (c == 0 || c > (1 << 20) || c < -(1 << 20)) return {};
  IntRange atom = in_.range(solved->atom);
  if (!atom.within(-(kReach >> 8), kReach >> 8)) return {};
  const auto other = blocks_.interval(in_.emit(rest));
  if (!other) return {};

  // Where the sum may leave its dtype the solution is not one; trust it only where it does not.
  const DType dtype = in_[id].dtype;
  const IntRange all = full_range(dtype), lo_range = out_.range(other->lo), hi_range = out_.range(other->hi);
  ExprId ok = other->ok, rest_lo = other->lo, rest_hi = other->hi;
  const auto require = [&](Op op, ExprId value, int64_t bound) {
    ok = out_.op(Op::logical_and, {ok, out_.op(op, {value, out_.integer(bound)})});
  };
  if (dtype == DType::i64) {
    if (lo_range.lo < -kTrusted) require(Op::ge, rest_lo, -kTrusted);
    if (hi_range.hi > kTrusted) require(Op::le, rest_hi, kTrusted);
  } else {
    if (!lo_range.within(-kTrusted, kTrusted) || !hi_range.within(-kTrusted, kTrusted)) return {};
    // i32 positions: kv < kv_len bounds the product more closely than its type does.
    ExprId atom_lo = out_.integer(atom.lo), atom_hi = out_.integer(atom.hi);
    if (in_[solved->atom].kind == ExprKind::index) atom_hi = plus(out_.dim(kv_len_), -1);
    const ExprId factor = out_.integer(c);
    const ExprId product_lo = out_.op(Op::mul, {c > 0 ? atom_lo : atom_hi, factor});
    const ExprId product_hi = out_.op(Op::mul, {c > 0 ? atom_hi : atom_lo, factor});
    require(Op::ge, out_.op(Op::add, {rest_lo, product_lo}), all.lo);
    require(Op::le, out_.op(Op::add, {rest_hi, product_hi}), all.hi);
  }

  const ExprId size = out_.integer(c > 0 ? c : -c);
  const auto floor_of = [&](ExprId value) { return clamped(out_.op(Op::div, {value, size})); };
  const auto ceil_of = [&](ExprId value) { return floor_of(plus(value, (c > 0 ? c : -c) - 1)); };
  const auto limit = [&](const Limit& from, ExprId value) {
    return Limit{value, out_.op(Op::logical_and, {ok, from.ok})};
  };
  const auto minus = [&](ExprId x, ExprId y) { return out_.op(Op::sub, {x, y}); };
  std::optional<Limit> at_least, at_most;
  if (c > 0) {
    if (least) at_least = limit(*least, ceil_of(minus(least->value, rest_hi)));
    if (most) at_most = limit(*most, floor_of(minus(most->value, rest_lo)));
  } else {
    if (most) at_least = limit(*most, ceil_of(minus(rest_lo, most->value)));
    if (least) at_most = limit(*least, floor_of(minus(rest_hi, least->value)));
  }
  return solve(solved->atom, at_least, at_most);
}

}  // namespace tilewright
