// Affine forms of integer expressions. Addition and multiplication by constants wrap, and so form a ring: collecting
// terms is exact whatever the values are. Comparisons and divisions need the ranges.
#include <algorithm>

#include "compiler/simplify_builder.h"
#include "ir/result.h"

namespace tilewright {
namespace {

int64_t wrapping_mul(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
}
int64_t wrapping_add(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}

Dim named_part(const Dim& dim) {
  Dim named;
  for (const auto& [name, coefficient] : dim.terms()) named = named + Dim::named(name, coefficient);
  return named;
}

bool small_dims(const Dim& dim) {
  constexpr int64_t kSmall = 1 << 20;
  for (const auto& [name, coefficient] : dim.terms())
    if (coefficient > kSmall || coefficient < -kSmall) return false;
  return true;
}

/// Every number lies so far from the 64-bit limits that sums and differences of two such forms are exact.
bool is_small(const AffineForm& form) {
  constexpr int64_t kLimit = int64_t{1} << 61;
  const auto small = [](int64_t v) { return v > -kLimit && v < kLimit; };
  for (const auto& term : form.terms)
    if (!small(term.coefficient)) return false;
  return small(form.constant) && small_dims(form.dims);
}

}  // namespace

void AffineForm::add(const AffineForm& other, int64_t factor) {
  for (const Term& term : other.terms) {
    const int64_t scaled = wrap(wrapping_mul(term.coefficient, factor), dtype);
    auto at = std::lower_bound(terms.begin(), terms.end(), term.atom,
                               [](const Term& t, ExprId atom) { return raw(t.atom) < raw(atom); });
    if (at != terms.end() && at->atom == term.atom)
      at->coefficient = wrap(wrapping_add(at->coefficient, scaled), dtype);
    else
      at = terms.insert(at, {term.atom, scaled});
    if (at->coefficient == 0) terms.erase(at);
  }
  dims = dims + other.dims * factor;
  constant = wrap(wrapping_add(constant, wrapping_mul(other.constant, factor)), dtype);
}

void AffineForm::negate() {
  AffineForm minus;
  minus.dtype = dtype;
  minus.add(*this, -1);
  *this = std::move(minus);
}

AffineForm SimplifyingBuilder::affine(ExprId id) const {
  const ExprNode& node = expr_[id];
  AffineForm form;
  form.dtype = node.dtype;
  if (node.kind == ExprKind::constant) {
    form.constant = node.literal.integer;
    return form;
  }
  if (node.kind == ExprKind::dim && small_dims(node.dim)) {
    form.dims = named_part(node.dim);
    form.constant = node.dim.constant();
    return form;
  }
  if (node.kind == ExprKind::op) {
    const bool scaled = node.op == Op::mul && (is_constant(node.args[0]) || is_constant(node.args[1]));
    if (node.op == Op::add || node.op == Op::sub) {
      form.add(affine(node.args[0]), 1);
      form.add(affine(node.args[1]), node.op == Op::add ? 1 : -1);
      return form;
    }
    if (node.op == Op::neg || scaled) {
      const size_t value = scaled && !is_constant(node.args[1]) ? 1 : 0;
      const int64_t factor = scaled ? constant(node.args[1 - value]) : -1;
      const AffineForm inner = affine(node.args[value]);
      if (inner.dims.is_constant() || (small_dims(inner.dims) && factor > -(1 << 20) && factor < 1 << 20)) {
        form.add(inner, factor);
        return form;
      }
    }
  }
  form.terms.push_back({id, 1});
  return form;
}

int SimplifyingBuilder::cost(const AffineForm& form) const {
  int parts = 0, ops = 0, positive = 0;
  for (const auto& term : form.terms) {
    ++parts;
    positive += term.coefficient > 0;
    if (term.coefficient != 1 && term.coefficient != -1) ++ops;
  }
  if (!form.dims.is_constant() || form.constant != 0) {
    ++parts;
    ++positive;
  }
  return ops + std::max(parts - 1, 0) + (positive == 0);
}

int SimplifyingBuilder::affine_ops(ExprId id, bool only_kv) const {
  const ExprNode& node = expr_[id];
  if (node.kind != ExprKind::op || (only_kv && !(depends(id) & bit(Axis::kv)))) return 0;
  const bool scaled = node.op == Op::mul && (is_constant(node.args[0]) || is_constant(node.args[1]));
  if (node.op != Op::add && node.op != Op::sub && node.op != Op::neg && !scaled) return 0;
  int ops = 1;
  for (ExprId arg : node.args) ops += affine_ops(arg, only_kv);
  return ops;
}

ExprId SimplifyingBuilder::emit(const AffineForm& form) {
  ExprId sum{-1};
  const auto put = [&](ExprId value, int64_t coefficient) {
    const bool negative = coefficient < 0 && coefficient > full_range(form.dtype).lo;
    const int64_t size = negative ? -coefficient : coefficient;
    if (size != 1) value = raw_op(Op::mul, form.dtype, {value, integer(size, form.dtype)});
    if (raw(sum) < 0)
      sum = negative ? raw_op(Op::neg, form.dtype, {value}) : value;
    else
      sum = raw_op(negative ? Op::sub : Op::add, form.dtype, {sum, value});
  };
  const auto put_dims = [&] {
    if (!form.dims.is_constant()) return put(dim(form.dims + Dim(form.constant)), 1);
    const bool subtract = raw(sum) >= 0 && form.constant < 0 && form.constant > full_range(form.dtype).lo;
    if (subtract) return put(integer(-form.constant, form.dtype), -1);
    if (form.constant != 0) put(integer(form.constant, form.dtype), 1);
  };
  // What does not depend on kv comes first, so that templates can hoist it out of their rows.
  const auto put_terms = [&](bool kv, bool positive) {
    for (const auto& term : form.terms)
      if (static_cast<bool>(depends(term.atom) & bit(Axis::kv)) == kv && (term.coefficient > 0) == positive)
        put(term.atom, term.coefficient);
  };
  put_terms(false, true);
  put_dims();
  const bool kv_first = raw(sum) < 0;
  if (kv_first) put_terms(true, true);
  put_terms(false, false);
  if (!kv_first) put_terms(true, true);
  put_terms(true, false);
  return raw(sum) < 0 ? integer(0, form.dtype) : sum;
}

IntRange SimplifyingBuilder::range(const AffineForm& form) const {
  using Wide = __int128;
  const IntRange dims = range_of_dim(form.dims);
  if (dims == IntRange{}) return {};
  Wide lo = static_cast<Wide>(dims.lo) + form.constant, hi = static_cast<Wide>(dims.hi) + form.constant;
  for (const auto& term : form.terms) {
    const IntRange atom = range(term.atom);
    const Wide a = static_cast<Wide>(atom.lo) * term.coefficient, b = static_cast<Wide>(atom.hi) * term.coefficient;
    lo += std::min(a, b);
    hi += std::max(a, b);
  }
  if (lo < INT64_MIN || hi > INT64_MAX) return {};
  return {static_cast<int64_t>(lo), static_cast<int64_t>(hi)};
}

ExprId SimplifyingBuilder::simplify_affine(Op op, DType dtype, const std::vector<ExprId>& args) {
  AffineForm form;
  form.dtype = dtype;
  if (op == Op::mul) {
    const bool second = is_constant(args[1]);
    form.add(affine(args[second ? 0 : 1]), constant(args[second ? 1 : 0]));
  } else {
    form.add(affine(args[0]), op == Op::neg ? -1 : 1);
    if (op != Op::neg) form.add(affine(args[1]), op == Op::add ? 1 : -1);
  }
  int ops = 1;
  for (ExprId arg : args) ops += affine_ops(arg, false);
  if (cost(form) < ops) return emit(form);
  return raw_op(op, dtype, args);
}

ExprId SimplifyingBuilder::simplify_div_mod(Op op, DType dtype, ExprId value, int64_t divisor) {
  const bool div = op == Op::div;
  if (divisor == 0) return integer(0, dtype);
  if (divisor == 1) return div ? value : integer(0, dtype);
  if (divisor > 1) {
    const IntRange all = range(value);
    if (all.within(0, divisor - 1)) return div ? integer(0, dtype) : value;
    // Terms that divide evenly leave: (a·c + r) / c = a + r / c, (a·c + r) mod c = r mod c, when nothing wraps.
    const AffineForm form = affine(value);
    const IntRange limits = full_range(dtype), true_range = range(form);
    const bool exact = !(true_range == IntRange{}) && true_range.within(limits.lo, limits.hi);
    AffineForm even, rest;
    even.dtype = rest.dtype = dtype;
    for (const auto& term : form.terms) (term.coefficient % divisor == 0 ? even : rest).terms.push_back(term);
    bool dims_even = true;
    for (const auto& [name, coefficient] : form.dims.terms()) dims_even &= coefficient % divisor == 0;
    (dims_even ? even : rest).dims = form.dims;
    const int64_t left = *fold_integer(Op::mod, DType::i64, DType::i64, {form.constant, divisor});
    rest.constant = left;
    even.constant = form.constant - left;
    const bool has_even = !even.terms.empty() || !even.dims.is_constant() || even.constant != 0;
    if (exact && has_even && is_small(form)) {
      const ExprId remainder = emit(rest);
      if (!div) return op_of_rest(op, dtype, remainder, divisor);
      for (auto& term : even.terms) term.coefficient /= divisor;
      Dim scaled;
      for (const auto& [name, coefficient] : even.dims.terms())
        scaled = scaled + Dim::named(name, coefficient / divisor);
      even.dims = scaled;
      even.constant /= divisor;
      return this->op(Op::add, dtype, {emit(even), op_of_rest(op, dtype, remainder, divisor)});
    }
    const ExprNode& inner = expr_[value];
    if (div && inner.kind == ExprKind::op && inner.op == Op::div && is_constant(inner.args[1])) {
      int64_t both = 0;
      const int64_t first = constant(inner.args[1]);
      if (first > 0 && !__builtin_mul_overflow(first, divisor, &both) && both <= limits.hi)
        return simplify_div_mod(Op::div, dtype, inner.args[0], both);
    }
  }
  return raw_op(op, dtype, {value, integer(divisor, dtype)});
}

ExprId SimplifyingBuilder::op_of_rest(Op op, DType dtype, ExprId rest, int64_t divisor) {
  if (range(rest).within(0, divisor - 1)) return op == Op::div ? integer(0, dtype) : rest;
  return raw_op(op, dtype, {rest, integer(divisor, dtype)});
}

ExprId SimplifyingBuilder::simplify_compare(Op op, const std::vector<ExprId>& args) {
  const DType dtype = expr_[args[0]].dtype;
  const Op original = op;
  const IntRange known = range_of_op(op, DType::boolean, dtype, {range(args[0]), range(args[1])});
  if (known.is_constant()) return boolean(known.lo != 0);
  if (args[0] == args[1]) return boolean(op == Op::eq || op == Op::le || op == Op::ge);
  if (dtype == DType::boolean) {
    if (is_constant(args[0]) && (op == Op::eq || op == Op::ne)) return simplify_compare(op, {args[1], args[0]});
    if (is_constant(args[1]) && (op == Op::eq || op == Op::ne))
      return (constant(args[1]) != 0) == (op == Op::eq) ? args[0] : this->op(Op::logical_not, {args[0]});
    return raw_op(op, DType::boolean, args);
  }

  const IntRange limits = full_range(dtype);
  const auto fits = [&](const AffineForm& form) {
    const IntRange r = range(form);
    bool ok = !(r == IntRange{}) && r.within(limits.lo, limits.hi) && is_small(form);
    for (const auto& term : form.terms) ok &= term.coefficient >= limits.lo && term.coefficient <= limits.hi;
    return ok && form.constant >= limits.lo && form.constant <= limits.hi;
  };
  AffineForm difference = affine(args[0]);
  const AffineForm b = affine(args[1]);
  if (!fits(difference) || !fits(b)) return raw_op(op, DType::boolean, args);
  difference.dtype = DType::i64;
  difference.add(b, -1);
  if (difference.is_constant())
    return boolean(*fold_integer(op, DType::boolean, DType::i64, {difference.constant, 0}) != 0);

  // The kv terms go left and the rest, which a template hoists, right; without kv, positive and negative terms part.
  bool any_kv = false, any_other = !difference.dims.is_constant() || difference.constant != 0;
  for (const auto& term : difference.terms) (depends(term.atom) & bit(Axis::kv) ? any_kv : any_other) = true;
  const bool by_kv = any_kv && any_other;
  if (difference.terms.empty()) return raw_op(op, DType::boolean, args);
  size_t negative = 0, leading = 0;
  for (const auto& term : difference.terms) {
    const bool leads = !by_kv || (depends(term.atom) & bit(Axis::kv)) != 0;
    leading += leads;
    negative += leads && term.coefficient < 0;
  }
  if (negative == leading) {
    difference.negate();
    op = swapped_compare(op);
  }
  AffineForm left, right;
  for (const auto& term : difference.terms) {
    const bool stays = by_kv ? (depends(term.atom) & bit(Axis::kv)) != 0 : term.coefficient > 0;
    (stays ? left : right).terms.push_back(term);
  }
  right.dims = difference.dims;
  right.constant = difference.constant;
  right.negate();
  const int kv_before = affine_ops(args[0], true) + affine_ops(args[1], true);
  const int before = affine_ops(args[0], false) + affine_ops(args[1], false);
  const int after = cost(left) + cost(right);
  const int kv_after = by_kv ? cost(left) : any_kv ? after : 0;
  const bool better = kv_after < kv_before || (kv_after == kv_before && after < before);
  if (!better || !fits(left) || !fits(right)) return raw_op(original, DType::boolean, args);
  left.dtype = right.dtype = dtype;
  return raw_op(op, DType::boolean, {emit(left), emit(right)});
}

}  // namespace tilewright
