// Rules of pointwise ops and of load.
#include <cmath>
#include <numbers>

#include "compiler/gradient/differentiate.h"

namespace tilewright::grad {

void Differentiator::pointwise(ValueId y, ValueId dy) {
  const Node node = joint_[y];
  const ValueId a = node.operands[0], b = Graph::operand(node, 1);
  JointGraph& j = joint_;
  switch (node.op) {
    case Op::cast:
    case Op::add: give(a, [&] { return dy; }); return give(b, [&] { return dy; });
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
