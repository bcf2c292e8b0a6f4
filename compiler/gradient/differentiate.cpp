#include "compiler/gradient/differentiate.h"

#include <algorithm>

namespace tilewright::grad {
namespace {

/// Float results that are constant wherever they are differentiable.
bool is_piecewise_constant(Op op) { return op == Op::floor; }

}  // namespace

Differentiator::Differentiator(JointGraph& joint, const ScoreProducts& scores, const std::vector<ValueId>& wanted)
    : joint_(joint), scores_(scores), units_(find_softmax_units(joint)) {
  find_active(wanted);
  on_weights_.assign(joint.forward_size(), false);
  for (const SoftmaxUnit& unit : units_)
    if (unit.product != kNoValue) on_weights_[at(unit.softmax)] = true;
  for (size_t i = 0; i < joint.forward_size(); ++i) {
    const Node& node = joint[ValueId{static_cast<int32_t>(i)}];
    if (!is_transparent(node)) continue;
    for (ValueId operand : node.operands)
      if (operand != kNoValue && on_weights_[at(operand)]) on_weights_[i] = true;
  }
}

void Differentiator::find_active(const std::vector<ValueId>& wanted) {
  active_.assign(joint_.forward_size(), false);
  for (ValueId id : wanted) active_[at(id)] = true;
  for (size_t i = 0; i < active_.size(); ++i) {
    const ValueId id{static_cast<int32_t>(i)};
    const Node& node = joint_[id];
    if (!joint_.live(id) || !is_float(node.type.dtype) || is_piecewise_constant(node.op)) continue;
    for (ValueId operand : node.operands)
      if (operand != kNoValue && active_[at(operand)]) active_[i] = true;
  }
}

void Differentiator::seed(ValueId result, ValueId gradient) {
  give(result, [&] { return gradient; });
}

Result<Done> Differentiator::run() {
  for (size_t i = joint_.forward_size(); i-- > 0;) {
    const ValueId y{static_cast<int32_t>(i)};
    const JointGraph::Name name(joint_, "d_" + joint_.stem(y));
    if (SoftmaxUnit* unit = unit_of(y)) {
      if (unit->first == y) softmax(*unit);
      continue;
    }
    if (!active(y) || joint_[y].op == Op::param) continue;
    const ValueId dy = total(y);
    if (dy == kNoValue) continue;
    if (auto done = apply_rule(y, dy); !done) return done;
  }
  return Done{};
}

Result<Done> Differentiator::apply_rule(ValueId y, ValueId dy) {
  const Node& node = joint_[y];
  const auto done = [](auto&&...) { return Done{}; };
  switch (node.op) {
    case Op::load: return done((load(y, dy), 0));
    case Op::scatter_add: return done((scatter_add(y, dy), 0));
    case Op::reduce_sum:
    case Op::reduce_mean:
    case Op::reduce_max:
    case Op::reduce_min: return done((reduction(y, dy), 0));
    case Op::matmul:
    case Op::matmul_nt: return done((product(y, dy), 0));
    default: break;
  }
  switch (info(node.op).group) {
    case OpGroup::pointwise: return done((pointwise(y, dy), 0));
    case OpGroup::view:
      if (node.op == Op::update) break;  // in place: what backward would read again is gone
      return view(y, dy);
    default: break;
  }
  Diagnostic d =
      unsupported("{} has no gradient, but a wanted parameter reaches a result through it", info(node.op).name);
  d.value = node.name;
  d.line = node.line;
  return d;
}

ValueId Differentiator::total(ValueId x) {
  auto found = parts_.find(x);
  if (found == parts_.end() || found->second.empty()) return kNoValue;
  std::vector<Part>& parts = found->second;
  const JointGraph::Name name(joint_, "d_" + joint_.stem(x));
  std::vector<Part> slices;
  for (const Part& part : parts)
    if (part.axis) slices.push_back(part);
  ValueId sum = kNoValue;
  const auto add = [&](ValueId value) { sum = sum == kNoValue ? value : joint_.add(sum, value); };
  for (const Part& part : parts)
    if (!part.axis) add(part.value);
  while (!slices.empty()) {
    std::vector<Part> same;
    for (const Part& slice : slices)
      if (slice.axis == slices[0].axis) same.push_back(slice);
    std::erase_if(slices, [axis = slices[0].axis](const Part& slice) { return slice.axis == axis; });
    add(join_slices(x, std::move(same)));
  }
  parts = {{sum, std::nullopt, {}, {}}};
  return sum;
}

/// Slices that lie one behind the other become one concat; each of the others is padded with zeros by itself.
ValueId Differentiator::join_slices(ValueId x, std::vector<Part> slices) {
  const int64_t axis = *slices[0].axis;
  const Shape shape = joint_.shape(x);
  const Dim& length = shape[static_cast<size_t>(axis)];
  const DType dtype = compute_type(joint_.type(x).dtype);
  const auto zeros = [&](const Dim& size) {
    Shape padding = shape;
    padding[static_cast<size_t>(axis)] = size;
    return joint_.zeros({dtype, padding});
  };
  ValueId sum = kNoValue;
  while (!slices.empty()) {
    std::vector<ValueId> row;
    Dim end = 0;
    for (;;) {
      // The nearest slice that surely begins here or further on; at the start, any.
      auto next = slices.end();
      for (auto it = slices.begin(); it != slices.end(); ++it) {
        const Dim gap = it->begin - end;
        if (!gap.is_constant() || gap.constant() < 0) continue;
        if (next == slices.end() || (it->begin - next->begin).constant() < 0) next = it;
      }
      if (next == slices.end() && row.empty()) next = slices.begin();
      if (next == slices.end()) break;
      if (next->begin != end) row.push_back(zeros(next->begin - end));
      row.push_back(next->value);
      end = next->end;
      slices.erase(next);
    }
    if (end != length) row.push_back(zeros(length - end));
    const ValueId whole = joint_.concat(std::move(row), axis);
    sum = sum == kNoValue ? whole : joint_.add(sum, whole);
  }
  return sum;
}

ValueId Differentiator::again(ValueId x) {
  if (at(x) >= joint_.forward_size() || !on_weights_[at(x)]) return x;
  if (auto known = again_.find(x); known != again_.end()) return known->second;
  ValueId out;
  if (SoftmaxUnit* unit = unit_of(x)) {
    out = joint_.cast(weights_of(*unit), joint_.type(x).dtype);
  } else {
    const Node node = joint_[x];
    std::vector<ValueId> operands;
    for (ValueId operand : node.operands) operands.push_back(operand == kNoValue ? operand : again(operand));
    const JointGraph::Name name(joint_, joint_.stem(x));
    out = joint_.emit(node.op, std::move(operands), node.attributes, node.type);
  }
  again_[x] = out;
  return out;
}

SoftmaxUnit* Differentiator::unit_of(ValueId id) {
  const Op op = joint_[id].op;
  if (op != Op::softmax && op != Op::logsumexp) return nullptr;
  for (SoftmaxUnit& unit : units_)
    if (unit.softmax == id || std::find(unit.lses.begin(), unit.lses.end(), id) != unit.lses.end()) return &unit;
  return nullptr;
}

}  // namespace tilewright::grad
