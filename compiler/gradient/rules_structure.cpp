// Rules of views, reductions and products.
#include "compiler/gradient/differentiate.h"
#include "ir/tensor_view.h"

namespace tilewright::grad {

Result<Done> Differentiator::view(ValueId y, ValueId dy) {
  const Node node = joint_[y];
  const ValueId x = node.operands[0];
  if (node.op == Op::concat) {
    concat(y, dy);
    return Done{};
  }
  if (!active(x)) return Done{};
  const Attributes& at = node.attributes;
  switch (node.op) {
    case Op::broadcast: give(x, [&] { return dy; }); break;
    case Op::reshape: give(x, [&] { return joint_.reshape(dy, joint_.shape(x)); }); break;
    case Op::transpose:
      give(x, [&] {
        Attributes inverse;
        inverse.perm.resize(at.perm.size());
        for (size_t i = 0; i < at.perm.size(); ++i)
          inverse.perm[static_cast<size_t>(at.perm[i])] = static_cast<int64_t>(i);
        return joint_.emit(Op::transpose, {dy}, std::move(inverse));
      });
      break;
    case Op::slice: parts_[x].push_back({dy, at.axis, at.begin, at.end}); break;
    case Op::repeat_heads: {
      if (node.type.rank() >= kMaxRank) {
        Diagnostic d = unsupported("the gradient of repeat_heads needs one axis more than the {} of {}", kMaxRank,
                                   to_string(node.type));
        d.value = node.name;
        d.line = node.line;
        return d;
      }
      give(x, [&] {
        Shape groups = joint_.shape(x);
        const auto heads = static_cast<int64_t>(groups.size()) - 3;
        groups.insert(groups.begin() + heads + 1, Dim(at.times));
        return joint_.reduce(Op::reduce_sum, joint_.reshape(dy, groups), heads + 1, false);
      });
      break;
    }
    default: TW_CHECK(!"a view has a rule");
  }
  return Done{};
}

void Differentiator::concat(ValueId y, ValueId dy) {
  const Node node = joint_[y];
  const auto axis = static_cast<size_t>(node.attributes.axis);
  Dim begin = 0;
  for (ValueId part : node.operands) {
    const Dim end = begin + joint_.shape(part)[axis];
    give(part, [&] { return joint_.slice(dy, node.attributes.axis, begin, end); });
    begin = end;
  }
}

void Differentiator::reduction(ValueId y, ValueId dy) {
  const Node node = joint_[y];
  const ValueId x = node.operands[0];
  const Shape shape = joint_.shape(x);
  Shape rows = shape;
  Dim& length = rows[static_cast<size_t>(node.attributes.axis)];
  const Dim count = length;
  length = 1;
  const DType dtype = joint_.type(dy).dtype;
  give(x, [&] {
    ValueId row = joint_.reshape(dy, rows);
    if (node.op == Op::reduce_sum) return joint_.broadcast(row, shape);
    if (node.op == Op::reduce_mean) {
      Attributes dim;
      dim.dim = count;
      row = joint_.emit(Op::div, {row, joint_.cast(joint_.emit(Op::dim, {}, std::move(dim)), dtype)});
      return joint_.broadcast(row, shape);
    }
    // The extremum's gradient is shared by all elements that are equal to it.
    const ValueId is_extremum = joint_.emit(Op::eq, {again(x), joint_.reshape(y, rows)});
    const ValueId sharers = joint_.reduce(Op::reduce_sum, joint_.cast(is_extremum, dtype), node.attributes.axis);
    return joint_.select(is_extremum, joint_.emit(Op::div, {row, sharers}), joint_.constant(0, dtype));
  });
}

void Differentiator::product(ValueId y, ValueId dy) {
  const Node node = joint_[y];
  ValueId a = node.operands[0], b = node.operands[1];
  const bool nt = node.op == Op::matmul_nt;
  // Narrow operands stay narrow; a product that widens to f64 is differentiated in f64.
  const DType dtype = node.type.dtype == DType::f64 ? DType::f64 : joint_.type(a).dtype;
  const DType sums = compute_type(dtype);
  const JointGraph::Name name(joint_, joint_.stem(dy));
  ValueId d = joint_.cast(dy, dtype);
  const auto multiply = [&](Op op, ValueId left, ValueId right) {
    return joint_.emit(op, {left, right}, {}, {sums, {}});
  };
  const auto operand = [&](ValueId x) { return joint_.cast(again(x), dtype); };
  give(a, [&] { return multiply(nt ? Op::matmul : Op::matmul_nt, d, operand(b)); });
  give(b, [&] {
    ValueId left = operand(a);
    // Weights without leading axes: rows of all batches in one product, rather than one product each and a sum.
    const bool is_weight = joint_.type(b).rank() == 2 && joint_.type(a).rank() > 2;
    if (is_weight && !scores_.is_score[at(y)] && !scores_.from_weights[at(a)]) {
      const auto rows = tilewright::product(Shape(joint_.shape(a).begin(), joint_.shape(a).end() - 1));
      if (rows) {
        left = joint_.reshape(left, {*rows, joint_.shape(left).back()});
        d = joint_.reshape(d, {*rows, joint_.shape(d).back()});
      }
    }
    return nt ? multiply(Op::matmul, joint_.transpose_matrix(d), left)
              : multiply(Op::matmul, joint_.transpose_matrix(left), d);
  });
}

}  // namespace tilewright::grad
