#include "compiler/simplify_builder.h"

#include <algorithm>

#include "ir/result.h"

namespace tilewright {
namespace {

bool is_associative_logic(Op op) { return op == Op::logical_and || op == Op::logical_or || op == Op::logical_xor; }

}  // namespace

SimplifyingBuilder::Facts SimplifyingBuilder::facts_of(const ExprNode& node) const {
  Facts facts{full_range(node.dtype), 0};
  for (ExprId arg : node.args) facts.depends |= depends(arg);
  switch (node.kind) {
    case ExprKind::constant:
      if (is_integer_or_bool(node.dtype)) facts.range = {node.literal.integer, node.literal.integer};
      break;
    case ExprKind::index: {
      const auto known = std::find_if(extents_.known.begin(), extents_.known.end(),
                                      [&](const auto& entry) { return entry.first == node.axis; });
      const IntRange range = range_of_axis(node.axis, known == extents_.known.end() ? nullptr : &known->second);
      if (facts.range.lo <= range.lo && facts.range.hi >= range.hi) facts.range = range;
      facts.depends = bit(node.axis);
      break;
    }
    case ExprKind::dim: facts.range = range_of_dim(node.dim); break;
    case ExprKind::score: facts.depends = kDependsOnScore | (node.product == 0 ? 0 : kDependsOnT); break;
    case ExprKind::op: {
      std::vector<IntRange> ranges;
      for (ExprId arg : node.args) ranges.push_back(range(arg));
      const DType operand = node.op == Op::select ? node.dtype : expr_[node.args[0]].dtype;
      facts.range = range_of_op(node.op, node.dtype, operand, ranges);
      break;
    }
    default: break;
  }
  return facts;
}

ExprId SimplifyingBuilder::raw_add(ExprNode node) {
  const Facts facts = facts_of(node);
  const ExprId id = expr_.add(std::move(node));
  if (slot(id) == facts_.size()) facts_.push_back(facts);
  return id;
}

ExprId SimplifyingBuilder::raw_op(Op op, DType dtype, std::vector<ExprId> args) {
  ExprNode node;
  node.kind = ExprKind::op;
  node.op = op;
  node.dtype = dtype;
  node.args = std::move(args);
  return raw_add(std::move(node));
}

ExprId SimplifyingBuilder::integer(int64_t value, DType dtype) {
  ExprNode node;
  node.dtype = dtype;
  node.literal.integer = value;
  return raw_add(std::move(node));
}

ExprId SimplifyingBuilder::index(Axis axis) {
  ExprNode node;
  node.kind = ExprKind::index;
  node.dtype = DType::i64;
  node.axis = axis;
  return raw_add(std::move(node));
}

ExprId SimplifyingBuilder::dim(const Dim& value) {
  if (value.is_constant()) return integer(value.constant());
  ExprNode node;
  node.kind = ExprKind::dim;
  node.dtype = DType::i64;
  node.dim = value;
  return raw_add(std::move(node));
}

ExprId SimplifyingBuilder::add(ExprNode node) {
  if (node.kind == ExprKind::op) return op(node.op, node.dtype, std::move(node.args));
  if (node.kind == ExprKind::dim) return dim(node.dim);
  const ExprId id = raw_add(std::move(node));
  if (is_integer_or_bool(expr_[id].dtype) && range(id).is_constant() && expr_[id].kind == ExprKind::index)
    return integer(range(id).lo, expr_[id].dtype);
  return id;
}

ExprId SimplifyingBuilder::import(const Expr& other, ExprId root) {
  std::vector<bool> needed(other.nodes().size(), false);
  needed[slot(root)] = true;
  for (size_t i = other.nodes().size(); i-- > 0;)
    if (needed[i])
      for (ExprId arg : other.nodes()[i].args) needed[slot(arg)] = true;
  std::vector<ExprId> map(other.nodes().size(), ExprId{-1});
  for (size_t i = 0; i < other.nodes().size(); ++i) {
    if (!needed[i]) continue;
    ExprNode node = other.nodes()[i];
    for (ExprId& arg : node.args) arg = map[slot(arg)];
    map[i] = add(std::move(node));
  }
  return map[slot(root)];
}

Expr SimplifyingBuilder::take(ExprId root) {
  expr_.set_root(root);
  return expr_.pruned();
}

ExprId SimplifyingBuilder::op(Op op, std::vector<ExprId> args) {
  const DType dtype = is_compare(op) ? DType::boolean : expr_[args[op == Op::select ? 1 : 0]].dtype;
  return this->op(op, dtype, std::move(args));
}

ExprId SimplifyingBuilder::op(Op op, DType dtype, std::vector<ExprId> args) {
  const DType operand = expr_[args[0]].dtype;
  if (op == Op::select) return simplify_select(dtype, args);
  if (op == Op::cast) return simplify_cast(dtype, args[0]);

  const bool constants = std::all_of(args.begin(), args.end(), [&](ExprId arg) { return is_constant(arg); });
  if (constants && is_integer_or_bool(operand)) {
    std::vector<int64_t> values;
    for (ExprId arg : args) values.push_back(constant(arg));
    if (const auto folded = fold_integer(op, dtype, operand, values)) return integer(*folded, dtype);
  }
  if (constants && is_float(operand) && is_float(dtype)) {
    std::vector<double> values;
    for (ExprId arg : args) values.push_back(expr_[arg].literal.real);
    if (const auto folded = fold_float(op, values)) {
      ExprNode node;
      node.dtype = dtype;
      node.literal.real = *folded;
      return raw_add(std::move(node));
    }
  }
  if (is_float(operand)) return simplify_float(op, dtype, args);
  if (is_compare(op)) return simplify_compare(op, args);
  if (dtype == DType::boolean) return simplify_logic(op, args);
  return simplify_integer(op, dtype, args);
}

bool SimplifyingBuilder::float_constant(ExprId id, double value) const {
  return is_constant(id) && is_float(expr_[id].dtype) && expr_[id].literal.real == value;
}

ExprId SimplifyingBuilder::simplify_float(Op op, DType dtype, const std::vector<ExprId>& args) {
  switch (op) {
    case Op::add:
      if (float_constant(args[1], 0)) return args[0];
      if (float_constant(args[0], 0)) return args[1];
      break;
    case Op::sub:
      if (float_constant(args[1], 0)) return args[0];
      break;
    case Op::mul:
      if (float_constant(args[1], 1)) return args[0];
      if (float_constant(args[0], 1)) return args[1];
      break;
    case Op::div:
      if (float_constant(args[1], 1)) return args[0];
      break;
    case Op::neg:
      if (is_op(expr_[args[0]], Op::neg)) return expr_[args[0]].args[0];
      break;
    case Op::min:
    case Op::max:
      if (args[0] == args[1]) return args[0];
      break;
    default: break;
  }
  return raw_op(op, dtype, args);
}

ExprId SimplifyingBuilder::simplify_integer(Op op, DType dtype, const std::vector<ExprId>& args) {
  const IntRange a = range(args[0]), b = args.size() > 1 ? range(args[1]) : IntRange{};
  const int64_t bits = size_of(dtype) * 8;
  switch (op) {
    case Op::add:
    case Op::sub:
    case Op::neg: return simplify_affine(op, dtype, args);
    case Op::mul:
      if (is_constant(args[0]) || is_constant(args[1])) return simplify_affine(op, dtype, args);
      break;
    case Op::shl:
      if (is_constant(args[1]) && b.within(0, bits - 2))
        return this->op(Op::mul, dtype, {args[0], integer(int64_t{1} << b.lo, dtype)});
      break;
    case Op::shr:
      if (is_constant(args[1]) && b.within(0, bits - 2))
        return simplify_div_mod(Op::div, dtype, args[0], int64_t{1} << b.lo);
      break;
    case Op::div:
    case Op::mod:
      if (is_constant(args[1])) return simplify_div_mod(op, dtype, args[0], constant(args[1]));
      break;
    case Op::min:
    case Op::max: {
      if (args[0] == args[1]) return args[0];
      if (a.hi <= b.lo) return args[op == Op::min ? 0 : 1];
      if (b.hi <= a.lo) return args[op == Op::min ? 1 : 0];
      break;
    }
    case Op::abs:
      if (a.lo >= 0) return args[0];
      if (a.hi <= 0) return this->op(Op::neg, dtype, {args[0]});
      break;
    case Op::logical_and: {
      if (is_constant(args[0])) return simplify_integer(op, dtype, {args[1], args[0]});
      const int64_t mask = is_constant(args[1]) ? b.lo : -1;
      if (mask == 0) return integer(0, dtype);
      if (mask > 0 && mask < (int64_t{1} << (bits - 2)) && (mask & (mask + 1)) == 0)
        return simplify_div_mod(Op::mod, dtype, args[0], mask + 1);
      break;
    }
    case Op::logical_not:
      if (is_op(expr_[args[0]], Op::logical_not)) return expr_[args[0]].args[0];
      break;
    default: break;
  }
  return raw_op(op, dtype, args);
}

ExprId SimplifyingBuilder::simplify_logic(Op op, const std::vector<ExprId>& args) {
  if (op == Op::logical_not) {
    const ExprNode node = expr_[args[0]];
    if (is_op(node, Op::logical_not)) return node.args[0];
    if (node.kind == ExprKind::op && is_compare(node.op)) {
      const bool exact = !is_float(expr_[node.args[0]].dtype) || node.op == Op::eq || node.op == Op::ne;
      if (exact) return raw_op(negated_compare(node.op), DType::boolean, node.args);
    }
    return raw_op(op, DType::boolean, args);
  }
  if (!is_associative_logic(op)) return raw_op(op, DType::boolean, args);
  const ExprId a = args[0], b = args[1];
  if (is_constant(a)) return simplify_logic(op, {b, a});
  if (is_constant(b)) {
    const bool value = constant(b) != 0;
    if (op == Op::logical_and) return value ? a : b;
    if (op == Op::logical_or) return value ? b : a;
    return value ? this->op(Op::logical_not, {a}) : a;
  }
  if (a == b) return op == Op::logical_xor ? boolean(false) : a;
  const auto opposite = [&](ExprId x, ExprId y) { return is_op(expr_[x], Op::logical_not) && expr_[x].args[0] == y; };
  if (opposite(a, b) || opposite(b, a)) return boolean(op != Op::logical_and);
  // x & (x & y) = x & y
  for (int side = 0; side < 2 && op != Op::logical_xor; ++side) {
    const ExprId outer = side ? b : a, inner = side ? a : b;
    const ExprNode& node = expr_[inner];
    if (is_op(node, op) && (node.args[0] == outer || node.args[1] == outer)) return inner;
  }
  return raw_op(op, DType::boolean, args);
}

ExprId SimplifyingBuilder::simplify_select(DType dtype, const std::vector<ExprId>& args) {
  const ExprId c = args[0], a = args[1], b = args[2];
  if (is_constant(c)) return constant(c) ? a : b;
  if (a == b) return a;
  if (is_op(expr_[c], Op::logical_not)) return simplify_select(dtype, {expr_[c].args[0], b, a});
  if (dtype == DType::boolean) {
    if (is_constant(a)) {
      return constant(a) ? op(Op::logical_or, {c, b}) : op(Op::logical_and, {op(Op::logical_not, {c}), b});
    }
    if (is_constant(b))
      return constant(b) ? op(Op::logical_or, {op(Op::logical_not, {c}), a}) : op(Op::logical_and, {c, a});
  }
  return raw_op(Op::select, dtype, args);
}

ExprId SimplifyingBuilder::simplify_cast(DType dtype, ExprId value) {
  const ExprNode node = expr_[value];
  if (node.dtype == dtype) return value;
  if (node.kind == ExprKind::constant) {
    ExprNode folded;
    folded.dtype = dtype;
    if (is_integer_or_bool(node.dtype) && is_integer_or_bool(dtype))
      return integer(wrap(node.literal.integer, dtype), dtype);
    if (is_integer_or_bool(node.dtype)) {
      folded.literal.real = static_cast<double>(node.literal.integer);
      return raw_add(std::move(folded));
    }
    if (is_float(dtype) && (dtype == DType::f64 || compute_type(dtype) == compute_type(node.dtype))) {
      folded.literal.real = node.literal.real;
      return raw_add(std::move(folded));
    }
  }
  if (is_op(node, Op::cast)) {
    const ExprId inner = node.args[0];
    const DType from = expr_[inner].dtype;
    // Through a type that holds every value of the first one, the detour changes nothing.
    const bool f32_class = is_float(from) && is_float(node.dtype) && is_float(dtype) &&
                           (compute_type(node.dtype) == compute_type(from) || node.dtype == DType::f64);
    const bool integers =
        is_integer_or_bool(from) && is_integer(node.dtype) && is_integer(dtype) && size_of(node.dtype) >= size_of(from);
    if (f32_class || integers) return simplify_cast(dtype, inner);
  }
  return raw_op(Op::cast, dtype, {value});
}

Expr simplify(const Expr& expr, const AxisExtents& extents) {
  if (expr.empty()) return expr;
  SimplifyingBuilder builder(extents);
  const ExprId root = builder.import(expr, expr.root());
  return builder.take(root);
}

}  // namespace tilewright
