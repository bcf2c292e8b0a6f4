// Rules of pointwise ops and of load.
#include <cmath>
#include <limits>
#include <numbers>

#include "compiler/gradient/differentiate.h"

namespace tilewright::grad {

void Differentiator::pointwise(ValueId y, ValueId dy) {
  const Node node = joint_[y];
  const ValueId a = node.operands[0], b = Graph::operand(node, 1);
  JointGraph& j = joint_;
  switch (node.op) {
    case Op::cast: return give(a, [&] { return dy; });
    case Op::add: give(a, [&] { return unmasked(dy, b); }); return give(b, [&] { return unmasked(dy, a); });
    case Op::sub: give(a, [&] { return dy; }); return give(b, [&] { return j.neg(dy); });
    case Op::mul: give(a, [&] { return j.mul(dy, value(b)); }); return give(b, [&] { return j.mul(dy, value(a)); });
    case Op::div:
      give(a, [&] { return j.emit(Op::div, {dy, value(b)}); });
      return give(b, [&] { return j.neg(j.mul(dy, j.emit(Op::div, {value(y), value(b)}))); });
    case Op::mod:
      give(a, [&] { return dy; });
      return give(b, [&] { return j.neg(j.mul(dy, j.emit(Op::floor, {j.emit(Op::div, {value(a), value(b)})}))); });
    case Op::select: {
      const ValueId zero = j.constant(0, j.type(dy).dtype);
      give(b, [&] { return j.select(a, dy, zero); });
      return give(node.operands[2], [&] { return j.select(a, zero, dy); });
    }
    case Op::min:
    case Op::max: return extremum(y, dy);
    default: return function(y, dy);
  }
}

/// Where an additive mask lets pass, in its shape; kNoValue for any other value.
ValueId Differentiator::kept_by(ValueId mask) {
  constexpr double kHidden = -std::numeric_limits<double>::infinity();
  const Node node = joint_[mask];
  if (node.op == Op::select) {
    const ValueId a = node.operands[1], b = node.operands[2];
    if (joint_.is_literal(a, 0) && joint_.is_literal(b, kHidden)) return node.operands[0];
    if (joint_.is_literal(a, kHidden) && joint_.is_literal(b, 0))
      return joint_.emit(Op::logical_not, {node.operands[0]});
  } else if (node.op == Op::add) {
    const ValueId a = kept_by(node.operands[0]), b = a == kNoValue ? a : kept_by(node.operands[1]);
    if (b != kNoValue) return joint_.emit(Op::logical_and, {a, b});
  } else if (is_view_or_cast(joint_.graph(), node)) {
    const ValueId inner = kept_by(node.operands[0]);
    if (inner == kNoValue || node.op == Op::cast) return inner;
    return joint_.emit(node.op, {inner}, node.attributes, {DType::boolean, node.type.shape});
  }
  return kNoValue;
}

/// add(s, select(c, 0, -inf)) is select(c, s, -inf) (semantics 4): what comes from above, be it NaN, stops at the mask.
ValueId Differentiator::unmasked(ValueId dy, ValueId mask) {
  const ValueId kept = kept_by(mask);
  return kept == kNoValue ? dy : joint_.select(kept, dy, joint_.constant(0, joint_.type(dy).dtype));
}

/// A tie belongs to the first operand, but never to a parameter of max(x, constant): relu'(0) = 0 on either side.
void Differentiator::extremum(ValueId y, ValueId dy) {
  const Node node = joint_[y];
  const ValueId a = node.operands[0], b = node.operands[1];
  const Op wins = node.op == Op::max ? (active(b) ? Op::ge : Op::gt) : (active(b) ? Op::le : Op::lt);
  const ValueId zero = joint_.constant(0, joint_.type(dy).dtype);
  const auto first = [&] { return joint_.emit(wins, {again(a), again(b)}); };
  give(a, [&] { return joint_.select(first(), dy, zero); });
  if (active(a)) return give(b, [&] { return joint_.select(first(), zero, dy); });
  give(b, [&] {
    return joint_.select(joint_.emit(node.op == Op::max ? Op::gt : Op::lt, {again(b), again(a)}), dy, zero);
  });
}

void Differentiator::function(ValueId y, ValueId dy) {
  const Op op = joint_[y].op;
  const ValueId x = joint_[y].operands[0];
  JointGraph& j = joint_;
  const DType dtype = j.type(dy).dtype;
  give(x, [&]() -> ValueId {
    const auto real = [&](double constant) { return j.constant(constant, dtype); };
    switch (op) {
      case Op::neg: return j.neg(dy);
      case Op::exp: return j.mul(dy, value(y));
      case Op::exp2: return j.scale(j.mul(dy, value(y)), std::numbers::ln2);
      case Op::log: return j.emit(Op::div, {dy, value(x)});
      case Op::tanh: return j.mul(dy, j.sub(real(1), j.mul(value(y), value(y))));
      case Op::sigmoid: return j.mul(dy, j.mul(value(y), j.sub(real(1), value(y))));
      case Op::erf: {
        const ValueId bell = j.emit(Op::exp, {j.neg(j.mul(value(x), value(x)))});
        return j.mul(dy, j.scale(bell, 2 * std::numbers::inv_sqrtpi));
      }
      case Op::sqrt: return j.emit(Op::div, {j.scale(dy, 0.5), value(y)});
      case Op::rsqrt: {
        const ValueId cube = j.mul(j.mul(value(y), value(y)), value(y));
        return j.mul(dy, j.scale(cube, -0.5));
      }
      case Op::abs: {
        const ValueId zero = real(0);
        const ValueId below = j.select(j.emit(Op::lt, {value(x), zero}), j.neg(dy), zero);
        return j.select(j.emit(Op::gt, {value(x), zero}), dy, below);
      }
      default: break;
    }
    TW_CHECK(!"an active pointwise op has a rule");
  });
}

void Differentiator::load(ValueId y, ValueId dy) {
  const Node node = joint_[y];
  const ValueId table = node.operands[0];
  give(table, [&] {
    std::vector<ValueId> operands = node.operands;
    operands[0] = dy;
    return joint_.emit(Op::scatter_add, std::move(operands), {}, {joint_.type(dy).dtype, joint_.shape(table)});
  });
}

void Differentiator::scatter_add(ValueId y, ValueId dy) {
  const Node node = joint_[y];
  const ValueId updates = node.operands[0];
  give(updates, [&] {
    std::vector<ValueId> operands = node.operands;
    operands[0] = dy;
    return joint_.broadcast(joint_.emit(Op::load, std::move(operands)), joint_.shape(updates));
  });
}

}  // namespace tilewright::grad
