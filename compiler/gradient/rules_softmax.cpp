// The rule of softmax and LSE, in the spelling that fusion traces as flash backward:
//   safe  = select (eq lse, -inf), 0, lse                      rows without any score: exp(-inf - 0) = 0
//   p     = exp (sub scores, safe)
//   delta = reduce_sum (mul dO, O)                             when one product O consumes p, else rowsum(p ∘ dp)
//   de    = mul p, (sub dp, delta)                             delta less d_lse when the LSE is used
//   dsink = -Σ exp(sink - safe) · delta
#include <limits>

#include "compiler/gradient/differentiate.h"

namespace tilewright::grad {

ValueId Differentiator::as_rows(const SoftmaxUnit& unit, ValueId value) {
  Shape rows = joint_.shape(unit.scores);
  rows[static_cast<size_t>(unit.axis)] = 1;
  return joint_.reshape(value, std::move(rows));
}

void Differentiator::set_statistics(SoftmaxUnit& unit) {
  if (unit.lse != kNoValue) return;
  const DType dtype = compute_type(joint_.type(unit.scores).dtype);
  ValueId lse = kNoValue;
  for (ValueId known : unit.lses)
    if (joint_.type(known).dtype == dtype) lse = known;
  if (lse == kNoValue) {
    const JointGraph::Name name(joint_, "lse");
    std::vector<ValueId> operands{joint_.cast(unit.scores, dtype)};
    if (unit.sink != kNoValue) operands.push_back(joint_.cast(unit.sink, dtype));
    Attributes attributes;
    attributes.axis = unit.axis;
    attributes.keepdims = false;
    lse = joint_.emit(Op::logsumexp, std::move(operands), std::move(attributes));
  }
  const JointGraph::Name rows_name(joint_, "lse_rows");
  unit.lse = as_rows(unit, lse);
  const JointGraph::Name safe_name(joint_, "safe");
  const ValueId empty =
      joint_.emit(Op::eq, {unit.lse, joint_.constant(-std::numeric_limits<double>::infinity(), dtype)});
  unit.safe = joint_.select(empty, joint_.constant(0, dtype), unit.lse);
}

ValueId Differentiator::weights_of(SoftmaxUnit& unit) {
  if (unit.weights != kNoValue) return unit.weights;
  if (unit.softmax != kNoValue && unit.product == kNoValue)  // has to exist anyway
    return unit.weights = joint_.wide(unit.softmax);
  set_statistics(unit);
  const ValueId scores = value(unit.scores);
  const JointGraph::Name name(joint_, unit.softmax != kNoValue ? joint_.stem(unit.softmax) : "p");
  return unit.weights = joint_.emit(Op::exp, {joint_.sub(scores, unit.safe)});
}

void Differentiator::softmax(SoftmaxUnit& unit) {
  const ValueId dp = active(unit.softmax) ? total(unit.softmax) : kNoValue;
  ValueId row_gradient = kNoValue;  // of the LSE
  for (ValueId lse : unit.lses) {
    const ValueId d = active(lse) ? total(lse) : kNoValue;
    if (d == kNoValue) continue;
    const JointGraph::Name name(joint_, "d_" + joint_.stem(lse));
    const ValueId rows = as_rows(unit, d);
    row_gradient = row_gradient == kNoValue ? rows : joint_.add(row_gradient, rows);
  }
  if (dp == kNoValue && row_gradient == kNoValue) return;
  const ValueId weights = weights_of(unit);
  if (dp == kNoValue) {
    give(unit.scores, [&] { return joint_.mul(weights, row_gradient); });
    return sink(unit, joint_.neg(row_gradient));
  }
  const JointGraph::Name name(joint_, "delta");
  ValueId delta = row_delta(unit, weights, dp);
  if (row_gradient != kNoValue) delta = joint_.sub(delta, row_gradient);
  give(unit.scores, [&] { return joint_.mul(weights, joint_.sub(dp, delta)); });
  sink(unit, delta);
}

/// rowsum(p ∘ dp), as (…, 1).
ValueId Differentiator::row_delta(const SoftmaxUnit& unit, ValueId weights, ValueId weights_gradient) {
  const ValueId d_out = unit.product == kNoValue ? kNoValue : total(unit.product);
  if (d_out == kNoValue) return joint_.reduce(Op::reduce_sum, joint_.mul(weights, weights_gradient), unit.axis);
  const DType dtype = joint_.type(weights).dtype;
  const auto sums = joint_.type(d_out).dtype == DType::f64 ? DType::f64 : dtype;
  const ValueId terms = joint_.mul(joint_.cast(d_out, sums), joint_.cast(unit.product, sums));
  const ValueId rows = joint_.reduce(Op::reduce_sum, terms, joint_.type(unit.product).rank() - 1);
  return as_rows(unit, joint_.cast(rows, dtype));
}

void Differentiator::sink(SoftmaxUnit& unit, ValueId delta) {
  if (unit.sink == kNoValue || !active(unit.sink)) return;
  set_statistics(unit);
  const Shape given = joint_.shape(unit.sink);
  const auto rank = joint_.type(unit.scores).rank();
  const bool per_head = given.size() == 1 && !given[0].is_constant(1) && rank >= 3 && unit.axis + 1 == rank;
  give(unit.sink, [&] {
    ValueId column = joint_.cast(unit.sink, joint_.type(delta).dtype);
    if (per_head) column = joint_.reshape(column, {given[0], 1, 1});
    const ValueId share = joint_.emit(Op::exp, {joint_.sub(column, unit.safe)});
    const ValueId rows = joint_.neg(joint_.mul(share, delta));
    return per_head ? joint_.reshape(joint_.sum_to(rows, {given[0], 1, 1}), given) : rows;
  });
}

}  // namespace tilewright::grad
