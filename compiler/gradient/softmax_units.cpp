#include "compiler/gradient/softmax_units.h"

#include <algorithm>

namespace tilewright::grad {
namespace {

/// True when `user`, which reads x, is x times something that is free of x, element by element, rows kept as they are.
bool is_linear_step(const JointGraph& joint, const Node& user, ValueId x) {
  const Shape& shape = joint.shape(x);
  switch (user.op) {
    case Op::cast: return is_float(user.type.dtype);
    case Op::mul: return user.type.shape == shape;
    case Op::div: return user.type.shape == shape && user.operands[0] == x;
    case Op::neg: return true;
    case Op::select: {
      const ValueId other = user.operands[1] == x ? user.operands[2] : user.operands[1];
      return user.type.shape == shape && joint.is_literal(other, 0);
    }
    case Op::reshape: return !user.type.shape.empty() && user.type.shape.back() == shape.back();
    default: return false;
  }
}

/// The one product that consumes the weights, or kNoValue.
ValueId find_product(const JointGraph& joint, ValueId softmax) {
  const Shape& scores = joint.shape(softmax);
  if (joint[softmax].attributes.axis + 1 != static_cast<int64_t>(scores.size())) return kNoValue;
  for (ValueId x = softmax;;) {
    if (joint.is_result(x) || joint.users(x).size() != 1) return kNoValue;
    const ValueId user = joint.users(x)[0];
    const Node& node = joint[user];
    if (info(node.op).group == OpGroup::contract) {
      // V must not repeat a row of p: each row of p is one row of O.
      const Shape &p = joint.shape(x), &o = node.type.shape;
      const bool same_rows = p.size() == o.size() && std::equal(p.begin(), p.end() - 1, o.begin());
      return node.operands[0] == x && same_rows ? user : kNoValue;
    }
    if (!is_linear_step(joint, node, x)) return kNoValue;
    x = user;
  }
}

}  // namespace

std::vector<SoftmaxUnit> find_softmax_units(const JointGraph& joint) {
  std::vector<SoftmaxUnit> units;
  for (size_t i = 0; i < joint.forward_size(); ++i) {
    const ValueId id{static_cast<int32_t>(i)};
    const Node& node = joint[id];
    if (!joint.live(id) || (node.op != Op::softmax && node.op != Op::logsumexp)) continue;
    const ValueId sink = Graph::operand(node, 1);
    auto unit = std::find_if(units.begin(), units.end(), [&](const SoftmaxUnit& u) {
      return u.scores == node.operands[0] && u.axis == node.attributes.axis && u.sink == sink;
    });
    if (unit == units.end()) {
      units.push_back({node.operands[0], sink, node.attributes.axis});
      unit = units.end() - 1;
      unit->first = id;
    }
    if (node.op == Op::logsumexp) {
      unit->lses.push_back(id);
    } else {
      unit->softmax = id;
      unit->product = find_product(joint, id);
    }
  }
  return units;
}

}  // namespace tilewright::grad
