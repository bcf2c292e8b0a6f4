#include "compiler/fuse/score_reader.h"

#include <algorithm>
#include <cmath>

namespace tilewright::fusion {
namespace {

bool is_literal(const Expr& pool, ExprId id, bool value) {
  const ExprNode& node = pool[id];
  return node.kind == ExprKind::constant && node.dtype == DType::boolean && (node.literal.integer != 0) == value;
}

void collect_conjuncts(const Expr& pool, ExprId id, std::vector<ExprId>& out) {
  const ExprNode& node = pool[id];
  if (node.kind == ExprKind::op && node.op == Op::logical_and && node.dtype == DType::boolean) {
    for (ExprId arg : node.args) collect_conjuncts(pool, arg, out);
  } else if (!is_literal(pool, id, true)) {
    out.push_back(id);
  }
}

std::vector<ExprId> conjuncts_of(const Expr& pool, const std::optional<ExprId>& keep) {
  std::vector<ExprId> out;
  if (keep) collect_conjuncts(pool, *keep, out);
  return out;
}

bool contains(const std::vector<ExprId>& all, ExprId id) { return std::find(all.begin(), all.end(), id) != all.end(); }

}  // namespace

ExprId ScoreReader::both(ExprId a, ExprId b) {
  if (is_literal(t_.pool, a, true) || is_literal(t_.pool, b, false) || a == b) return b;
  if (is_literal(t_.pool, b, true) || is_literal(t_.pool, a, false)) return a;
  // A mask that two operands share is one.
  std::vector<ExprId> mine, others;
  collect_conjuncts(t_.pool, a, mine);
  collect_conjuncts(t_.pool, b, others);
  for (ExprId other : others)
    if (!contains(mine, other)) a = t_.pool.op(Op::logical_and, DType::boolean, {a, other});
  return a;
}

ScoreReader::Keep ScoreReader::both(const Keep& a, const Keep& b) {
  if (a && b) return both(*a, *b);
  return a ? a : b;
}

ExprId ScoreReader::either(ExprId a, ExprId b) {
  if (is_literal(t_.pool, a, false) || is_literal(t_.pool, b, true) || a == b) return b;
  if (is_literal(t_.pool, b, false) || is_literal(t_.pool, a, true)) return a;
  return t_.pool.op(Op::logical_or, DType::boolean, {a, b});
}

ExprId ScoreReader::negated(ExprId a) {
  if (is_literal(t_.pool, a, true)) return boolean(false);
  if (is_literal(t_.pool, a, false)) return boolean(true);
  const ExprNode& node = t_.pool[a];
  if (node.kind == ExprKind::op && node.op == Op::logical_not) return node.args[0];
  return t_.pool.op(Op::logical_not, DType::boolean, {a});
}

ScoreReader::Keep ScoreReader::choose(ExprId condition, const Keep& a, const Keep& b) {
  if (!a && !b) return std::nullopt;
  if (a == b) return a;
  const ExprId taken = a ? both(condition, *a) : condition;
  const ExprId other = b ? both(negated(condition), *b) : negated(condition);
  return either(taken, other);
}

bool ScoreReader::is_fill(ValueId id, Fill fill) const {
  if (!is_float(graph_.type(id).dtype)) return false;
  const Scalar* scalar = t_.literal(id);
  if (!scalar) return false;
  return fill == Fill::zero ? scalar->real == 0 : std::isinf(scalar->real) && scalar->real < 0;
}

MaskedValue ScoreReader::operand(const Node& node, size_t i, const Indices& at, Fill fill) {
  return read(node.operands[i], t_.operand_indices(node.operands[i], at), fill);
}

ScoreReader::Keep ScoreReader::additive_mask(ValueId id, const Indices& at) {
  const Node& node = graph_[id];
  if (!is_float(node.type.dtype)) return std::nullopt;
  if (is_fill(id, Fill::zero)) return boolean(true);
  if (is_fill(id, Fill::minus_infinity)) return boolean(false);
  if (t_.is_open_view(id)) return additive_mask(node.operands[0], view_operand_indices(t_.math, graph_, node, at));
  const auto part = [&](size_t i) { return additive_mask(node.operands[i], t_.operand_indices(node.operands[i], at)); };
  if (t_.is_open_cast(id)) return part(0);
  if (node.op == Op::select) {
    const Keep a = part(1), b = a ? part(2) : std::nullopt;
    if (!a || !b) return std::nullopt;
    return choose(t_.read_operand(node, 0, at), a, b);
  }
  if (node.op != Op::add && node.op != Op::min && node.op != Op::max) return std::nullopt;
  const Keep a = part(0), b = a ? part(1) : std::nullopt;
  if (!a || !b) return std::nullopt;
  return node.op == Op::max ? either(*a, *b) : both(*a, *b);
}

ScoreReader::Keep ScoreReader::indicator(ValueId id, const Indices& at) {
  const Node& node = graph_[id];
  if (t_.is_open_view(id)) return indicator(node.operands[0], view_operand_indices(t_.math, graph_, node, at));
  if (node.op != Op::cast) return std::nullopt;
  const ValueId from = node.operands[0];
  if (graph_.type(from).dtype != DType::boolean) return indicator(from, at);
  const ExprId condition = t_.read(from, at);
  return depends_on_score(condition) ? std::nullopt : Keep(condition);
}

MaskedValue ScoreReader::read_add(const Node& node, const Indices& at) {
  for (size_t i : {1u, 0u}) {
    const ValueId other = node.operands[i];
    const Keep keep = additive_mask(other, t_.operand_indices(other, at));
    if (!keep || depends_on_score(*keep)) continue;
    MaskedValue rest = operand(node, 1 - i, at, Fill::minus_infinity);
    return {rest.value, both(rest.keep, keep)};
  }
  const MaskedValue a = operand(node, 0, at, Fill::minus_infinity), b = operand(node, 1, at, Fill::minus_infinity);
  return {t_.pool.op(Op::add, compute_type(node.type.dtype), {a.value, b.value}), both(a.keep, b.keep)};
}

MaskedValue ScoreReader::read_select(const Node& node, const Indices& at, Fill fill) {
  const ExprId condition = t_.read_operand(node, 0, at);
  const bool filled[2] = {is_fill(node.operands[1], fill), is_fill(node.operands[2], fill)};
  const bool movable = !depends_on_score(condition);
  for (size_t i : {0u, 1u}) {
    if (!filled[1 - i] || !movable) continue;
    const MaskedValue kept = operand(node, 1 + i, at, fill);
    return {kept.value, both(kept.keep, Keep(i == 0 ? condition : negated(condition)))};
  }
  const MaskedValue a = operand(node, 1, at, fill), b = operand(node, 2, at, fill);
  const ExprId chosen = t_.pool.op(Op::select, compute_type(node.type.dtype), {condition, a.value, b.value});
  if (movable) return {chosen, choose(condition, a.keep, b.keep)};
  // What one arm masks is masked for good when the other arm is nothing but fill.
  if (filled[1]) return {chosen, a.keep};
  if (filled[0]) return {chosen, b.keep};
  return {t_.pool.op(Op::select, compute_type(node.type.dtype),
                     {condition, t_.read_operand(node, 1, at), t_.read_operand(node, 2, at)}),
          std::nullopt};
}

/// mul and div: a constant factor keeps the fill (-inf only when it is positive), an indicator is a mask of its own.
MaskedValue ScoreReader::read_scaled(const Node& node, const Indices& at, Fill fill) {
  const DType dtype = compute_type(node.type.dtype);
  for (size_t i : {1u, 0u}) {
    if (node.op == Op::div && i == 0) break;
    const ValueId other = node.operands[i];
    if (const Scalar* factor = t_.literal(other)) {
      const double c = factor->real;
      if (!std::isfinite(c) || c == 0 || (fill == Fill::minus_infinity && c < 0)) break;
      const MaskedValue rest = operand(node, 1 - i, at, fill);
      std::vector<ExprId> args{rest.value, t_.read_operand(node, i, at)};
      if (i == 0) std::swap(args[0], args[1]);
      return {t_.pool.op(node.op, dtype, std::move(args)), rest.keep};
    }
    if (fill != Fill::zero || node.op != Op::mul) continue;
    const Keep keep = indicator(other, t_.operand_indices(other, at));
    if (!keep) continue;
    const MaskedValue rest = operand(node, 1 - i, at, fill);
    return {rest.value, both(rest.keep, keep)};
  }
  if (fill == Fill::minus_infinity) {
    std::vector<ExprId> args{t_.read_operand(node, 0, at), t_.read_operand(node, 1, at)};
    return {t_.pool.op(node.op, dtype, std::move(args)), std::nullopt};
  }
  // 0 · x and 0 / x are hidden whatever x is.
  const MaskedValue a = operand(node, 0, at, fill);
  const MaskedValue b =
      node.op == Op::mul ? operand(node, 1, at, fill) : MaskedValue{t_.read_operand(node, 1, at), std::nullopt};
  return {t_.pool.op(node.op, dtype, {a.value, b.value}), both(a.keep, b.keep)};
}

ScoreReader::Keep ScoreReader::common_zeros(MaskedValue& a, MaskedValue& b) {
  const std::vector<ExprId> of_a = conjuncts_of(t_.pool, a.keep), of_b = conjuncts_of(t_.pool, b.keep);
  Keep common;
  for (ExprId id : of_a)
    if (contains(of_b, id)) common = both(common, Keep(id));
  const auto keep_rest = [&](MaskedValue& value, const std::vector<ExprId>& own, const std::vector<ExprId>& other) {
    const DType dtype = t_.pool[value.value].dtype;
    for (ExprId id : own)
      if (!contains(other, id))
        value.value = t_.pool.op(Op::select, dtype, {id, value.value, t_.pool.constant(0, dtype)});
  };
  keep_rest(a, of_a, of_b);
  keep_rest(b, of_b, of_a);
  return common;
}

/// add and sub: hidden where both operands are.
MaskedValue ScoreReader::read_sum_of_zeros(const Node& node, const Indices& at) {
  MaskedValue a = operand(node, 0, at, Fill::zero), b = operand(node, 1, at, Fill::zero);
  const Keep keep = common_zeros(a, b);
  return {t_.pool.op(node.op, compute_type(node.type.dtype), {a.value, b.value}), keep};
}

MaskedValue ScoreReader::read(ValueId id, const Indices& at, Fill fill) {
  std::tuple<int32_t, Fill, std::vector<int32_t>> key{raw(id), fill, {}};
  for (ExprId index : at) std::get<2>(key).push_back(raw(index));
  if (const auto found = memo_.find(key); found != memo_.end()) return found->second;
  return memo_.emplace(std::move(key), read_anew(id, at, fill)).first->second;
}

MaskedValue ScoreReader::read_anew(ValueId id, const Indices& at, Fill fill) {
  const Node& node = graph_[id];
  const DType dtype = compute_type(node.type.dtype);
  const auto plain = [&] { return MaskedValue{t_.read(id, at), std::nullopt}; };
  if (t_.is_stored(id)) return plain();
  if (t_.is_open_view(id)) return read(node.operands[0], view_operand_indices(t_.math, graph_, node, at), fill);
  if (t_.is_open_cast(id)) {
    const MaskedValue inner = operand(node, 0, at, fill);
    return {t_.cast(inner.value, node.type.dtype), inner.keep};
  }
  switch (node.op) {
    case Op::select: return read_select(node, at, fill);
    case Op::mul:
    case Op::div: return read_scaled(node, at, fill);
    case Op::add: return fill == Fill::minus_infinity ? read_add(node, at) : read_sum_of_zeros(node, at);
    case Op::neg: {
      if (fill != Fill::zero) return plain();
      const MaskedValue a = operand(node, 0, at, fill);
      return {t_.pool.op(Op::neg, dtype, {a.value}), a.keep};
    }
    case Op::sub: {
      if (fill == Fill::zero) return read_sum_of_zeros(node, at);
      const MaskedValue a = operand(node, 0, at, fill);
      return {t_.pool.op(Op::sub, dtype, {a.value, t_.read_operand(node, 1, at)}), a.keep};
    }
    // f(-inf) = 0
    case Op::sigmoid:
    case Op::exp:
    case Op::exp2: {
      if (fill != Fill::zero) return plain();
      const MaskedValue a = operand(node, 0, at, Fill::minus_infinity);
      return {t_.pool.op(node.op, dtype, {a.value}), a.keep};
    }
    case Op::max: {
      if (fill != Fill::zero) return plain();
      for (size_t i : {1u, 0u}) {
        if (!is_fill(node.operands[i], Fill::zero)) continue;
        const MaskedValue a = operand(node, 1 - i, at, Fill::minus_infinity);
        return {t_.pool.op(Op::max, dtype, {a.value, t_.read_operand(node, i, at)}), a.keep};
      }
      return plain();
    }
    default: return plain();
  }
}

}  // namespace tilewright::fusion
