// The reverse walk: from the gradients of the results back to those of the parameters, one rule per op.
// A gradient has its value's shape and the type that arithmetic on the value is done in: f16 and bf16 round only where
// a product asks for narrow operands and where a parameter's gradient leaves. Several uses are summed latest first.
#pragma once

#include <map>
#include <optional>

#include "compiler/gradient/score_products.h"
#include "compiler/gradient/softmax_units.h"

namespace tilewright::grad {

class Differentiator {
 public:
  /// `wanted`: forward values (parameters) whose gradients are asked for.
  Differentiator(JointGraph& joint, const ScoreProducts& scores, const std::vector<ValueId>& wanted);

  /// Adds the gradient of a result.
  void seed(ValueId result, ValueId gradient);
  /// Errors: an op without a gradient stands between a seed and a wanted parameter.
  Result<Done> run();
  /// Of a wanted parameter, after run(); kNoValue when nothing reaches it.
  ValueId gradient(ValueId param) { return total(param); }
  /// Of a value that depends on a wanted parameter through something differentiable.
  bool active(ValueId id) const { return id != kNoValue && at(id) < active_.size() && active_[at(id)]; }
  const std::vector<SoftmaxUnit>& units() const { return units_; }

 private:
  /// A part of a gradient: all of it, or that of elements [begin, end) of one axis.
  struct Part {
    ValueId value;
    std::optional<int64_t> axis;
    Dim begin, end;
  };

  static size_t at(ValueId id) { return static_cast<size_t>(raw(id)); }
  void find_active(const std::vector<ValueId>& wanted);
  Result<Done> apply_rule(ValueId y, ValueId dy);

  // Rules. dy is the complete gradient of y; each hands on to the operands.
  void pointwise(ValueId y, ValueId dy);
  void function(ValueId y, ValueId dy);
  void extremum(ValueId y, ValueId dy);
  ValueId kept_by(ValueId mask);
  ValueId unmasked(ValueId dy, ValueId mask);
  void load(ValueId y, ValueId dy);
  Result<Done> view(ValueId y, ValueId dy);
  void concat(ValueId y, ValueId dy);
  void reduction(ValueId y, ValueId dy);
  void scatter_add(ValueId y, ValueId dy);
  void product(ValueId y, ValueId dy);
  void softmax(SoftmaxUnit& unit);
  ValueId row_delta(const SoftmaxUnit& unit, ValueId weights, ValueId weights_gradient);
  void sink(SoftmaxUnit& unit, ValueId delta);

  /// Operand of a derivative: the forward's value in its compute type, with weights in the backward's spelling.
  ValueId value(ValueId x) { return joint_.wide(again(x)); }
  /// The forward's value, or the same on top of exp(scores - lse) where it comes from flash weights.
  ValueId again(ValueId x);
  void set_statistics(SoftmaxUnit& unit);
  ValueId weights_of(SoftmaxUnit& unit);
  SoftmaxUnit* unit_of(ValueId id);
  /// The unit's row values (…, 1), from a value without the axis or with it.
  ValueId as_rows(const SoftmaxUnit& unit, ValueId value);

  /// Adds make() to the gradient of x when x is active; it is summed over what x was broadcast along.
  template <class Make>
  void give(ValueId x, Make make) {
    if (!active(x)) return;
    const JointGraph::Name name(joint_, "d_" + joint_.stem(x));
    const ValueId dx = joint_.cast(make(), compute_type(joint_.type(x).dtype));
    parts_[x].push_back({joint_.sum_to(dx, joint_.shape(x)), std::nullopt, {}, {}});
  }
  /// The sum of all parts given so far, in the order given.
  ValueId total(ValueId x);
  ValueId join_slices(ValueId x, std::vector<Part> slices);

  JointGraph& joint_;
  const ScoreProducts& scores_;
  std::vector<bool> active_,
      on_weights_;  ///< by forward node; on_weights_: above flash weights, through views and pointwise
  std::vector<SoftmaxUnit> units_;
  std::map<ValueId, std::vector<Part>> parts_;
  std::map<ValueId, ValueId> again_;
};

}  // namespace tilewright::grad
