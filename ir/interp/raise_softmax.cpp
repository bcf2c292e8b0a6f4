// The oracle's matcher of softmax and logsumexp written as max, sub, exp, sum and div or log.
#include <optional>

#include "ir/interp/prepare.h"

namespace tilewright::interp {
namespace {

class Matcher {
 public:
  explicit Matcher(Graph& graph) : graph_(graph) {}

  void raise(ValueId id) {
    if (graph_[id].op == Op::div) raise_softmax(id);
    if (graph_[id].op == Op::add) raise_logsumexp(id);
  }

 private:
  const Node& node(ValueId id) const { return graph_[id]; }
  ValueId operand(ValueId id, size_t i) const { return node(id).operands[i]; }

  ValueId strip_casts(ValueId id) const {
    while (node(id).op == Op::cast && is_float(node(id).type.dtype) && is_float(graph_.type(operand(id, 0)).dtype))
      id = operand(id, 0);
    return id;
  }
  bool same(ValueId a, ValueId b) const { return strip_casts(a) == strip_casts(b); }

  Shape with_axis(ValueId s, int64_t axis, bool keep) const {
    Shape shape = graph_.type(s).shape;
    if (keep)
      shape[static_cast<size_t>(axis)] = 1;
    else
      shape.erase(shape.begin() + axis);
    return shape;
  }

  /// The reduction of `s` along some axis that `column` shows, however it was shaped back; kNoValue if none.
  /// `rows_of` accepts only shapes that line up with s by broadcasting.
  ValueId reduction_behind(ValueId column, Op op) const {
    column = strip_casts(column);
    while (node(column).op == Op::broadcast || node(column).op == Op::reshape || node(column).op == Op::cast)
      column = operand(column, 0);
    return node(column).op == op ? column : kNoValue;
  }

  /// Every view between the reduction and `column` keeps its elements on the rows of s.
  bool lines_up(ValueId column, ValueId reduction, ValueId s, int64_t axis, bool must_broadcast_to_s) const {
    const Shape kept = with_axis(s, axis, true), dropped = with_axis(s, axis, false), full = graph_.type(s).shape;
    const bool dropped_aligns = axis == 0;
    const Shape& shown = graph_.type(column).shape;
    if (must_broadcast_to_s && shown != kept && shown != full && !(dropped_aligns && shown == dropped)) return false;
    for (ValueId id = column; id != reduction; id = operand(id, 0)) {
      const Shape &to = graph_.type(id).shape, &from = graph_.type(operand(id, 0)).shape;
      const bool from_rows = from == kept || from == dropped;
      if (node(id).op == Op::broadcast && from != kept && from != full && !(dropped_aligns && from == dropped))
        return false;
      if (node(id).op == Op::reshape && !(from_rows && (to == kept || to == dropped))) return false;
    }
    return true;
  }

  struct Exponential {
    ValueId scores;
    int64_t axis;
  };
  /// e = exp(s - max(s)).
  std::optional<Exponential> match_exponential(ValueId e) const {
    e = strip_casts(e);
    if (node(e).op != Op::exp) return std::nullopt;
    const ValueId difference = strip_casts(operand(e, 0));
    if (node(difference).op != Op::sub) return std::nullopt;
    const ValueId s = operand(difference, 0), m = operand(difference, 1);
    const ValueId max = reduction_behind(m, Op::reduce_max);
    if (max == kNoValue || !same(operand(max, 0), s)) return std::nullopt;
    const int64_t axis = node(max).attributes.axis;
    if (!lines_up(m, max, s, axis, true)) return std::nullopt;
    return Exponential{strip_casts(s), axis};
  }

  void raise_softmax(ValueId id) {
    const ValueId e = operand(id, 0), l = operand(id, 1);
    const auto match = match_exponential(e);
    const ValueId sum = reduction_behind(l, Op::reduce_sum);
    if (!match || sum == kNoValue || !same(operand(sum, 0), e) || node(sum).attributes.axis != match->axis ||
        !lines_up(l, sum, e, match->axis, true))
      return;
    Node& target = graph_[id];
    target.op = Op::softmax;
    target.operands = {match->scores};
    target.attributes.axis = match->axis;
  }

  void raise_logsumexp(ValueId id) {
    for (size_t side : {0, 1}) {
      const ValueId logarithm = strip_casts(operand(id, side)), m = operand(id, 1 - side);
      if (node(logarithm).op != Op::log) continue;
      const ValueId l = operand(logarithm, 0);
      const ValueId sum = reduction_behind(l, Op::reduce_sum), max = reduction_behind(m, Op::reduce_max);
      if (sum == kNoValue || max == kNoValue) continue;
      const auto match = match_exponential(operand(sum, 0));
      if (!match || node(sum).attributes.axis != match->axis || node(max).attributes.axis != match->axis ||
          !same(operand(max, 0), match->scores))
        continue;
      const Shape& shape = graph_.type(id).shape;
      const bool keep = shape == with_axis(match->scores, match->axis, true);
      if (!keep && shape != with_axis(match->scores, match->axis, false)) continue;
      if (graph_.type(l).shape != shape || graph_.type(m).shape != shape ||
          !lines_up(l, sum, match->scores, match->axis, false) || !lines_up(m, max, match->scores, match->axis, false))
        continue;
      Node& target = graph_[id];
      target.op = Op::logsumexp;
      target.operands = {match->scores};
      target.attributes.axis = match->axis;
      target.attributes.keepdims = keep;
      return;
    }
  }

  Graph& graph_;
};

}  // namespace

void raise_decomposed_softmax(Graph& graph) {
  Matcher matcher(graph);
  for (size_t i = 0; i < graph.nodes.size(); ++i) matcher.raise(ValueId{static_cast<int32_t>(i)});
}

}  // namespace tilewright::interp
