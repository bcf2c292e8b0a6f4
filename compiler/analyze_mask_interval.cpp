#include "compiler/analyze_mask_interval.h"

#include <algorithm>
#include <cmath>

namespace tilewright {
namespace {

using Wide = __int128;

/// Block extents that the cost of a load box is judged by, and the most elements one test may read.
constexpr double kNominalBlock = 128;
constexpr double kMostLoads = 2048;

bool fits(Wide lo, Wide hi, DType dtype) {
  const IntRange all = full_range(dtype);
  return lo >= all.lo && hi <= all.hi;
}

}  // namespace

ExprId BlockAnalyzer::copied(ExprId id) {
  const auto found = copies_.find(id);
  if (found != copies_.end()) return found->second;
  ExprNode node = in_[id];
  for (ExprId& arg : node.args) arg = copied(arg);
  return copies_[id] = out_.add(std::move(node));
}

ExprId BlockAnalyzer::in_dtype(ExprId value, DType dtype) { return out_.op(Op::cast, dtype, {value}); }

/// For values computed exactly in i64 but declared narrower: they wrap unless they fit.
Interval BlockAnalyzer::guarded_to(Interval v, DType dtype) {
  const IntRange all = full_range(dtype);
  v.ok = both(v.ok, out_.op(Op::ge, {v.lo, out_.integer(all.lo)}));
  v.ok = both(v.ok, out_.op(Op::le, {v.hi, out_.integer(all.hi)}));
  return v;
}

Truth BlockAnalyzer::truth(ExprId id) {
  const auto found = truths_.find(id);
  if (found != truths_.end()) return found->second;
  const Truth t = compute_truth(id);
  truths_.emplace(id, t);
  return t;
}

Truth BlockAnalyzer::negated(Truth t) {
  return {out_.op(Op::logical_not, {t.may}), out_.op(Op::logical_not, {t.must})};
}

Truth BlockAnalyzer::same(Truth a, Truth b) {
  const Truth na = negated(a), nb = negated(b);
  const ExprId must = out_.op(Op::logical_or, {both(a.must, b.must), both(na.must, nb.must)});
  const ExprId differ = out_.op(Op::logical_or, {both(a.must, nb.must), both(na.must, b.must)});
  return {must, out_.op(Op::logical_not, {differ})};
}

Truth BlockAnalyzer::compute_truth(ExprId id) {
  const Truth undecided{out_.boolean(false), out_.boolean(true)};
  if (uniform(id)) {
    const ExprId value = copied(id);
    return {value, value};
  }
  const ExprNode node = in_[id];
  if (node.kind == ExprKind::load) {
    const auto v = interval(id);
    if (!v) return undecided;
    const ExprId zero = out_.integer(0);
    return {both(v->ok, out_.op(Op::ne, {v->lo, zero})),
            out_.op(Op::logical_or, {out_.op(Op::logical_not, {v->ok}), out_.op(Op::ne, {v->hi, zero})})};
  }
  if (node.kind != ExprKind::op) return undecided;
  const auto arg = [&](size_t i) { return truth(node.args[i]); };
  const bool of_bools = in_[node.args[0]].dtype == DType::boolean;
  if (is_compare(node.op)) {
    if (is_float(in_[node.args[0]].dtype)) return undecided;
    if (!of_bools) return compare(node.op, node.args[0], node.args[1]);
    if (node.op == Op::eq) return same(arg(0), arg(1));
    if (node.op == Op::ne) return negated(same(arg(0), arg(1)));
    return undecided;
  }
  switch (node.op) {
    case Op::logical_not: return negated(arg(0));
    case Op::logical_and: return {both(arg(0).must, arg(1).must), both(arg(0).may, arg(1).may)};
    case Op::logical_or:
      return {out_.op(Op::logical_or, {arg(0).must, arg(1).must}), out_.op(Op::logical_or, {arg(0).may, arg(1).may})};
    case Op::logical_xor: return negated(same(arg(0), arg(1)));
    case Op::select: {
      const Truth c = arg(0), nc = negated(c), a = arg(1), b = arg(2);
      const ExprId must = out_.op(Op::logical_or, {both(c.must, a.must), both(nc.must, b.must)});
      return {out_.op(Op::logical_or, {must, both(a.must, b.must)}),
              out_.op(Op::logical_or, {both(c.may, a.may), both(nc.may, b.may)})};
    }
    case Op::cast:
      if (is_integer(in_[node.args[0]].dtype))
        return compare(Op::ne, node.args[0], in_.integer(0, in_[node.args[0]].dtype));
      return undecided;
    default: return undecided;
  }
}

Truth BlockAnalyzer::compare(Op op, ExprId a, ExprId b) {
  switch (op) {
    case Op::ne: return negated(compare(Op::eq, a, b));
    case Op::gt: return compare(Op::lt, b, a);
    case Op::ge: return compare(Op::le, b, a);
    default: break;
  }
  const auto x = interval(a), y = interval(b);
  if (!x || !y) return {out_.boolean(false), out_.boolean(true)};
  const ExprId ok = both(x->ok, y->ok);
  ExprId must, may;
  if (op == Op::eq) {
    must = both(out_.op(Op::ge, {x->lo, y->hi}), out_.op(Op::le, {x->hi, y->lo}));
    may = both(out_.op(Op::le, {x->lo, y->hi}), out_.op(Op::le, {y->lo, x->hi}));
  } else {
    must = out_.op(op, {x->hi, y->lo});
    may = out_.op(op, {x->lo, y->hi});
  }
  return {both(ok, must), out_.op(Op::logical_or, {out_.op(Op::logical_not, {ok}), may})};
}

std::optional<Interval> BlockAnalyzer::interval(ExprId id) {
  const auto found = intervals_.find(id);
  if (found != intervals_.end()) return found->second;
  const auto v = compute_interval(id);
  intervals_.emplace(id, v);
  return v;
}

std::optional<Interval> BlockAnalyzer::compute_interval(ExprId id) {
  const ExprNode node = in_[id];
  if (!is_integer_or_bool(node.dtype)) return std::nullopt;
  const ExprId yes = out_.boolean(true);
  if (uniform(id)) {
    const ExprId value = in_dtype(copied(id), DType::i64);
    return Interval{value, value, yes};
  }
  if (node.kind == ExprKind::index) {
    const bool is_q = node.axis == Axis::q;
    return Interval{out_.index(is_q ? Axis::q_lo : Axis::kv_lo), out_.index(is_q ? Axis::q_hi : Axis::kv_hi), yes};
  }
  if (node.kind == ExprKind::load) return load(id);
  if (node.kind != ExprKind::op) return std::nullopt;
  if (node.dtype == DType::boolean) {
    const Truth t = truth(id);
    return Interval{in_dtype(t.must, DType::i64), in_dtype(t.may, DType::i64), yes};
  }

  const AffineForm form = in_.affine(id);
  const bool opaque = form.terms.size() == 1 && form.terms[0].atom == id;
  if (!opaque) return affine(id, form);
  switch (node.op) {
    case Op::div:
    case Op::mod: return div_mod(node);
    case Op::mul: return product(node);
    case Op::select: return select(node);
    case Op::cast: return cast(node);
    case Op::min:
    case Op::max: {
      const auto a = interval(node.args[0]), b = interval(node.args[1]);
      if (!a || !b) return std::nullopt;
      return Interval{out_.op(node.op, {a->lo, b->lo}), out_.op(node.op, {a->hi, b->hi}), both(a->ok, b->ok)};
    }
    case Op::abs: {
      const auto a = interval(node.args[0]);
      if (!a || out_.range(a->lo).lo <= full_range(node.dtype).lo || out_.range(a->hi).lo <= full_range(node.dtype).lo)
        return std::nullopt;
      const ExprId minus_lo = out_.op(Op::neg, {a->lo}), minus_hi = out_.op(Op::neg, {a->hi});
      const ExprId least = out_.op(Op::max, {out_.op(Op::max, {a->lo, minus_hi}), out_.integer(0)});
      return Interval{least, out_.op(Op::max, {minus_lo, a->hi}), a->ok};
    }
    default: return std::nullopt;
  }
}

std::optional<Interval> BlockAnalyzer::affine(ExprId id, const AffineForm& form) {
  // value = fixed + varying, where `fixed` is one number for the whole block, whatever it is.
  AffineForm fixed, lo, hi;
  Wide varying_lo = 0, varying_hi = 0, all_lo = 0, all_hi = 0;
  ExprId ok = out_.boolean(true);
  fixed.dims = form.dims;
  fixed.constant = form.constant;
  const IntRange dims = range_of_dim(form.dims);
  all_lo = static_cast<Wide>(dims.lo) + form.constant;
  all_hi = static_cast<Wide>(dims.hi) + form.constant;
  lo = hi = fixed;
  for (const auto& term : form.terms) {
    const auto v = interval(term.atom);
    if (!v) return std::nullopt;
    ok = both(ok, v->ok);
    const bool up = term.coefficient > 0;
    const ExprId least = up ? v->lo : v->hi, most = up ? v->hi : v->lo;
    const auto scaled = [&](int64_t bound) { return static_cast<Wide>(bound) * term.coefficient; };
    const IntRange least_range = out_.range(least), most_range = out_.range(most);
    const Wide from = std::min(scaled(least_range.lo), scaled(least_range.hi));
    const Wide to = std::max(scaled(most_range.lo), scaled(most_range.hi));
    all_lo += from;
    all_hi += to;
    if (!uniform(term.atom)) {
      varying_lo += from;
      varying_hi += to;
    }
    lo.add(out_.affine(least), term.coefficient);
    hi.add(out_.affine(most), term.coefficient);
  }
  Interval v{out_.emit(lo), out_.emit(hi), ok};
  const DType dtype = in_[id].dtype;
  if (fits(all_lo, all_hi, dtype)) return v;
  if (dtype != DType::i64) {
    if (!fits(all_lo, all_hi, DType::i64)) return std::nullopt;
    return guarded_to(v, dtype);
  }
  // The fixed part may be anything and wrap; the block is narrower than the numbers are, so it lies on one side of
  // the wrap exactly when the ends are in order.
  constexpr Wide kHalf = Wide{1} << 62;
  if (varying_lo <= -kHalf || varying_hi >= kHalf) return std::nullopt;
  v.ok = both(v.ok, out_.op(Op::le, {v.lo, v.hi}));
  return v;
}

std::optional<Interval> BlockAnalyzer::div_mod(const ExprNode& node) {
  const auto a = interval(node.args[0]);
  if (!a || !uniform(node.args[1]) || in_.range(node.args[1]).lo < 0) return std::nullopt;
  const ExprId divisor = in_dtype(copied(node.args[1]), DType::i64);
  const ExprId lo = out_.op(Op::div, {a->lo, divisor}), hi = out_.op(Op::div, {a->hi, divisor});
  if (node.op == Op::div) return Interval{lo, hi, a->ok};
  const ExprId one_period = out_.op(Op::eq, {lo, hi});
  const ExprId zero = out_.integer(0);
  const ExprId last = out_.op(Op::max, {out_.op(Op::sub, {divisor, out_.integer(1)}), zero});
  return Interval{out_.op(Op::select, {one_period, out_.op(Op::mod, {a->lo, divisor}), zero}),
                  out_.op(Op::select, {one_period, out_.op(Op::mod, {a->hi, divisor}), last}), a->ok};
}

std::optional<Interval> BlockAnalyzer::product(const ExprNode& node) {
  ExprId x = node.args[0], y = node.args[1];
  if (uniform(x)) std::swap(x, y);
  const auto a = interval(x), b = interval(y);
  if (!a || !b) return std::nullopt;
  Wide lo = 0, hi = 0;
  for (ExprId p : {a->lo, a->hi})
    for (ExprId q : {b->lo, b->hi})
      for (int64_t u : {out_.range(p).lo, out_.range(p).hi})
        for (int64_t v : {out_.range(q).lo, out_.range(q).hi}) {
          lo = std::min(lo, static_cast<Wide>(u) * v);
          hi = std::max(hi, static_cast<Wide>(u) * v);
        }
  if (!fits(lo, hi, node.dtype)) return std::nullopt;
  const ExprId first = out_.op(Op::mul, {a->lo, b->lo}), last = out_.op(Op::mul, {a->hi, b->hi});
  const ExprId ok = both(a->ok, b->ok);
  if (out_.range(b->lo).lo >= 0 && (uniform(y) || out_.range(a->lo).lo >= 0)) return Interval{first, last, ok};
  if (!uniform(y)) return std::nullopt;
  return Interval{out_.op(Op::min, {first, last}), out_.op(Op::max, {first, last}), ok};
}

std::optional<Interval> BlockAnalyzer::select(const ExprNode& node) {
  const auto a = interval(node.args[1]), b = interval(node.args[2]);
  if (!a || !b) return std::nullopt;
  const Truth c = truth(node.args[0]);
  const auto choose = [&](ExprId x, ExprId y, Op hull) {
    const ExprId mixed = out_.op(Op::select, {c.may, out_.op(hull, {x, y}), y});
    return out_.op(Op::select, {c.must, x, mixed});
  };
  return Interval{choose(a->lo, b->lo, Op::min), choose(a->hi, b->hi, Op::max), both(a->ok, b->ok)};
}

std::optional<Interval> BlockAnalyzer::cast(const ExprNode& node) {
  if (is_float(in_[node.args[0]].dtype)) return std::nullopt;
  const auto v = interval(node.args[0]);
  if (!v) return std::nullopt;
  if (fits(out_.range(v->lo).lo, out_.range(v->hi).hi, node.dtype)) return v;
  return guarded_to(*v, node.dtype);
}

/// How many values an index takes in a nominal block, nullopt when that is not known.
std::optional<double> BlockAnalyzer::index_width(ExprId id) const {
  if (uniform(id)) return 1;
  const ExprNode& node = in_[id];
  if (node.kind == ExprKind::index) return kNominalBlock;
  if (node.kind != ExprKind::op || !is_integer(node.dtype)) return std::nullopt;
  const AffineForm form = in_.affine(id);
  if (form.terms.size() != 1 || form.terms[0].atom != id) {
    double width = 1;
    for (const auto& term : form.terms) {
      const auto w = index_width(term.atom);
      if (!w) return std::nullopt;
      width += std::abs(static_cast<double>(term.coefficient)) * (*w - 1);
    }
    return width;
  }
  const auto first = index_width(node.args[0]);
  if (!first) return std::nullopt;
  const double divisor =
      node.args.size() > 1 && in_.is_constant(node.args[1]) ? static_cast<double>(in_.constant(node.args[1])) : 0;
  switch (node.op) {
    case Op::div: return divisor > 0 ? std::optional((*first - 1) / divisor + 1) : std::nullopt;
    case Op::mod: return divisor > 0 ? std::optional(divisor) : std::nullopt;
    case Op::min:
    case Op::max: {
      const auto second = index_width(node.args[1]);
      return second ? std::optional(std::max(*first, *second)) : std::nullopt;
    }
    case Op::cast: return is_integer(in_[node.args[0]].dtype) ? first : std::nullopt;
    case Op::abs: return first;
    default: return std::nullopt;
  }
}

std::optional<Interval> BlockAnalyzer::load(ExprId id) {
  const ExprNode node = in_[id];
  double box = 1;
  for (ExprId arg : node.args) {
    const auto width = index_width(arg);
    if (!width) return std::nullopt;
    box *= *width;
  }
  if (box > kMostLoads) return std::nullopt;
  std::vector<ExprId> least, most;
  ExprId ok = out_.boolean(true);
  for (ExprId arg : node.args) {
    const auto v = interval(arg);
    if (!v) return std::nullopt;
    const ExprId zero = out_.integer(0);
    least.push_back(out_.op(Op::select, {v->ok, v->lo, zero}));
    most.push_back(out_.op(Op::select, {v->ok, v->hi, zero}));
    ok = both(ok, v->ok);
  }
  const auto extreme = [&](ExprKind kind) {
    ExprNode bound;
    bound.kind = kind;
    bound.dtype = node.dtype;
    bound.tensor = node.tensor;
    bound.args = least;
    bound.args.insert(bound.args.end(), most.begin(), most.end());
    return in_dtype(out_.add(std::move(bound)), DType::i64);
  };
  return Interval{extreme(ExprKind::load_min), extreme(ExprKind::load_max), ok};
}

}  // namespace tilewright
