// Finds softmax and logsumexp behind their complete decomposed spellings, and sinks spelled as concat-softmax-slice.
#include "compiler/canonicalize_rewriter.h"
#include "compiler/fuse/views.h"

namespace tilewright::canonical {
namespace {

/// A value read through views and float casts, at the index the reader asked for.
struct Traced {
  ValueId value;
  fusion::Indices at;
};

class Matcher {
 public:
  explicit Matcher(const Graph& graph) : graph_(graph), math_(pool_) {}

  fusion::Indices axes(const Shape& shape) {
    fusion::Indices at;
    for (size_t i = 0; i < shape.size(); ++i) at.push_back(math_.axis(static_cast<Axis>(i), shape[i]));
    return at;
  }

  Traced operand(const Node& user, size_t i, const fusion::Indices& at) {
    return trace(user.operands[i], fusion::broadcast_indices(math_, graph_.type(user.operands[i]).shape, at));
  }

  Traced trace(ValueId value, fusion::Indices at) {
    for (;;) {
      const Node& node = graph_[value];
      const bool cast = node.op == Op::cast && is_float(node.type.dtype) &&
                        is_float(graph_.type(node.operands[0]).dtype) &&
                        size_of(node.type.dtype) >= size_of(graph_.type(node.operands[0]).dtype);
      if (fusion::is_simple_view(node.op))
        at = fusion::view_operand_indices(math_, graph_, node, at);
      else if (!cast)
        return {value, std::move(at)};
      value = node.operands[0];
    }
  }

  /// The operand when `traced` is `op` folding an axis of it, read in the row of index `row`; kNoValue otherwise.
  ValueId row_fold(const Traced& traced, Op op, const fusion::Indices& row, int64_t* axis) {
    const Node& node = graph_[traced.value];
    if (node.op != op || graph_.type(node.operands[0]).rank() != static_cast<int64_t>(row.size())) return kNoValue;
    *axis = node.attributes.axis;
    fusion::Indices expected = row;
    if (node.attributes.keepdims)
      expected[static_cast<size_t>(*axis)] = math_.constant(0);
    else
      expected.erase(expected.begin() + *axis);
    return traced.at == expected ? node.operands[0] : kNoValue;
  }

  /// e = exp(s - max(s)) along `axis`: s, or kNoValue.
  ValueId shifted_exp(ValueId e, int64_t* axis) {
    const Node& exp = graph_[e];
    if (exp.op != Op::exp) return kNoValue;
    const Node& sub = graph_[exp.operands[0]];
    if (sub.op != Op::sub || graph_.type(sub.operands[0]).shape != sub.type.shape) return kNoValue;
    const fusion::Indices at = axes(sub.type.shape);
    const ValueId s = row_fold(operand(sub, 1, at), Op::reduce_max, at, axis);
    return s == sub.operands[0] ? s : kNoValue;
  }

 private:
  const Graph& graph_;
  Expr pool_;
  fusion::IndexMath math_;
};

Node softmax_like(Op op, ValueId s, int64_t axis, ValueId sink, TensorType type) {
  Node node;
  node.op = op;
  node.operands = {s};
  if (sink != kNoValue) node.operands.push_back(sink);
  node.attributes.axis = axis;
  node.type = std::move(type);
  return node;
}

/// exp(s - max) / sum(exp(s - max))
ValueId raise_division(Rewriter& to, const Node& div) {
  Matcher match(to.graph());
  int64_t axis = 0, sum_axis = 0;
  const ValueId e = div.operands[0];
  const ValueId s = match.shifted_exp(e, &axis);
  if (s == kNoValue || div.type.shape != to.type(e).shape) return kNoValue;
  const fusion::Indices at = match.axes(div.type.shape);
  if (match.row_fold(match.operand(div, 1, at), Op::reduce_sum, at, &sum_axis) != e || axis != sum_axis)
    return kNoValue;
  return to.emit(softmax_like(Op::softmax, s, axis, kNoValue, to.type(s)));
}

/// max(s) + log(sum(exp(s - max)))
ValueId raise_sum(Rewriter& to, const Node& add) {
  const Graph& graph = to.graph();
  for (size_t i : {0u, 1u}) {
    Matcher match(graph);
    const fusion::Indices out = match.axes(add.type.shape);
    const Traced m = match.operand(add, i, out), log = match.operand(add, 1 - i, out);
    if (graph[m.value].op != Op::reduce_max || graph[log.value].op != Op::log) continue;
    const Node& max = graph[m.value];
    const ValueId s = max.operands[0];
    const Traced l = match.trace(graph[log.value].operands[0], log.at);
    const Node& sum = graph[l.value];
    if (sum.op != Op::reduce_sum || sum.attributes.axis != max.attributes.axis) continue;
    int64_t axis = 0;
    if (match.shifted_exp(sum.operands[0], &axis) != s || axis != max.attributes.axis) continue;
    // Both folds are read at the same row, and the result has the shape of a fold of s.
    const auto without_axis = [&](const Node& fold, fusion::Indices at) {
      if (fold.attributes.keepdims) at.erase(at.begin() + axis);
      return at;
    };
    if (without_axis(max, m.at) != without_axis(sum, l.at)) continue;
    Shape kept = to.type(s).shape, reduced = kept;
    kept[static_cast<size_t>(axis)] = 1;
    reduced.erase(reduced.begin() + axis);
    const bool keepdims = add.type.shape == kept;
    if (!keepdims && add.type.shape != reduced) continue;
    fusion::Indices row = out;
    if (keepdims) row.erase(row.begin() + axis);
    if (without_axis(max, m.at) != row) continue;
    Node node = softmax_like(Op::logsumexp, s, axis, kNoValue, {to.type(s).dtype, add.type.shape});
    node.attributes.keepdims = keepdims;
    return to.emit(std::move(node));
  }
  return kNoValue;
}

/// slice(softmax(concat(s, sink))) where the sink is one column.
ValueId raise_sink(Rewriter& to, const Node& slice) {
  const Graph& graph = to.graph();
  const Node softmax = graph[slice.operands[0]];
  if (softmax.op != Op::softmax || softmax.operands.size() != 1) return kNoValue;
  const Node concat = graph[softmax.operands[0]];
  const int64_t axis = softmax.attributes.axis;
  if (concat.op != Op::concat || concat.operands.size() != 2 || concat.attributes.axis != axis ||
      slice.attributes.axis != axis)
    return kNoValue;
  for (size_t i : {0u, 1u}) {
    const ValueId s = concat.operands[i], sink = concat.operands[1 - i];
    const Dim begin = i == 0 ? Dim(0) : Dim(1);
    const Dim& length = to.type(s).shape[static_cast<size_t>(axis)];
    if (!to.type(sink).shape[static_cast<size_t>(axis)].is_constant(1)) continue;
    if (slice.attributes.begin != begin || slice.attributes.end != begin + length) continue;
    return to.emit(softmax_like(Op::softmax, s, axis, sink, to.type(s)));
  }
  return kNoValue;
}

}  // namespace

ValueId raise_softmax(Rewriter& to, const Node& node) {
  switch (node.op) {
    case Op::div: return raise_division(to, node);
    case Op::add: return raise_sum(to, node);
    case Op::slice: return raise_sink(to, node);
    default: return kNoValue;
  }
}

}  // namespace tilewright::canonical
