#include "ir/interp/prepare.h"

#include <cmath>

namespace tilewright::interp {
namespace {

using Sizes = std::vector<int64_t>;

bool is_literal(const Graph& graph, ValueId id, double value) {
  while (graph[id].op == Op::cast || graph[id].op == Op::broadcast || graph[id].op == Op::reshape)
    id = graph[id].operands[0];
  const Node& node = graph[id];
  return node.op == Op::constant && is_float(node.type.dtype) && node.attributes.literal.real == value;
}

bool moves_elements(const Graph& graph, const Node& node) {
  if (info(node.op).group == OpGroup::view) return true;
  return node.op == Op::cast && is_float(node.type.dtype) && is_float(graph.type(node.operands[0]).dtype);
}

void mark_masks(PreparedGraph& prepared) {
  const Graph& graph = prepared.graph;
  const size_t count = graph.nodes.size();
  prepared.additive_mask.assign(count, false);
  prepared.weights.assign(count, false);
  for (size_t i = 0; i < count; ++i) {
    const Node& node = graph.nodes[i];
    const auto all_of = [&](const std::vector<bool>& marks) {
      for (ValueId id : node.operands)
        if (!marks[static_cast<size_t>(raw(id))]) return false;
      return !node.operands.empty();
    };
    const auto marked = [&](const std::vector<bool>& marks, size_t k) {
      return marks[static_cast<size_t>(raw(node.operands[k]))];
    };
    if (node.op == Op::select) {
      const ValueId a = node.operands[1], b = node.operands[2];
      const bool zero_a = is_literal(graph, a, 0), zero_b = is_literal(graph, b, 0);
      prepared.additive_mask[i] =
          (zero_a && is_literal(graph, b, -HUGE_VAL)) || (zero_b && is_literal(graph, a, -HUGE_VAL));
      prepared.weights[i] = zero_a || zero_b;
    } else if (node.op == Op::softmax) {
      prepared.weights[i] = true;
    } else if (moves_elements(graph, node)) {
      prepared.additive_mask[i] = all_of(prepared.additive_mask);
      prepared.weights[i] = all_of(prepared.weights);
    } else if (node.op == Op::add) {
      prepared.additive_mask[i] = all_of(prepared.additive_mask);
    } else if (node.op == Op::mul) {
      prepared.weights[i] = marked(prepared.weights, 0) || marked(prepared.weights, 1);
    } else if (node.op == Op::div || node.op == Op::dropout) {
      prepared.weights[i] = marked(prepared.weights, 0);
    }
  }
}

Diagnostic at(const Node& node, Diagnostic d) {
  d.value = node.name;
  d.line = node.line;
  return d;
}

std::string show(const Sizes& sizes) { return fmt::format("[{}]", fmt::join(sizes, ",")); }

int64_t product(const Sizes& sizes) {
  int64_t count = 1;
  for (int64_t size : sizes) count *= size;
  return count;
}

bool broadcasts_to(const Sizes& from, const Sizes& to) {
  if (from.size() > to.size()) return false;
  for (size_t i = 0; i < from.size(); ++i) {
    const int64_t size = from[from.size() - 1 - i];
    if (size != 1 && size != to[to.size() - 1 - i]) return false;
  }
  return true;
}

/// What symbolic verification cannot see: sizes that differ once the dims have numbers.
Result<Done> check_sizes(const PreparedGraph& prepared, const DimBindings& dims, size_t i) {
  const Node& node = prepared.graph.nodes[i];
  const Sizes& own = prepared.shapes[i];
  const auto shape = [&](size_t k) -> const Sizes& {
    return prepared.shapes[static_cast<size_t>(raw(node.operands[k]))];
  };
  if (info(node.op).group == OpGroup::pointwise || node.op == Op::broadcast) {
    for (size_t k = node.op == Op::load ? 1 : 0; k < node.operands.size(); ++k)
      if (!broadcasts_to(shape(k), own))
        return at(node,
                  invalid("operand {} has shape {}, which does not broadcast to {}", k, show(shape(k)), show(own)));
  }
  if (node.op == Op::scatter_add)
    for (size_t k = 1; k < node.operands.size(); ++k)
      if (!broadcasts_to(shape(k), shape(0)))
        return at(node, invalid("index {} has shape {}, which does not broadcast to the updates' {}", k - 1,
                                show(shape(k)), show(shape(0))));
  if (node.op == Op::reshape && product(shape(0)) != product(own))
    return at(node, invalid("cannot reshape {} to {}: {} elements against {}", show(shape(0)), show(own),
                            product(shape(0)), product(own)));
  if (node.op == Op::slice) {
    const auto axis = static_cast<size_t>(node.attributes.axis);
    const auto begin = node.attributes.begin.evaluate(dims), end = node.attributes.end.evaluate(dims);
    if (!begin || !end || *begin < 0 || *end < *begin || *end > shape(0)[axis] || own[axis] != *end - *begin)
      return at(node, invalid("slice [{}, {}) leaves axis {} of size {}", begin.value_or(-1), end.value_or(-1), axis,
                              shape(0)[axis]));
  }
  if (node.op == Op::concat) {
    const auto axis = static_cast<size_t>(node.attributes.axis);
    int64_t sum = 0;
    for (size_t k = 0; k < node.operands.size(); ++k) sum += shape(k)[axis];
    if (sum != own[axis]) return at(node, invalid("concat gives {} along axis {}, not {}", sum, axis, own[axis]));
  }
  return Done{};
}

Result<Done> check_params(const PreparedGraph& prepared, std::span<const TensorView> params) {
  const Graph& graph = prepared.graph;
  if (params.size() != graph.params.size())
    return invalid("graph @{} takes {} parameters, but {} were given", graph.name, graph.params.size(), params.size());
  for (size_t p = 0; p < params.size(); ++p) {
    const Node& node = graph[graph.params[p]];
    const Sizes& want = prepared.shapes[static_cast<size_t>(raw(graph.params[p]))];
    const TensorView& view = params[p];
    const Sizes found(view.shape.begin(), view.shape.begin() + view.rank);
    if (view.dtype != node.type.dtype || found != want)
      return at(node, invalid("expected {}{}, found {}{}", to_string(node.type.dtype), show(want),
                              to_string(view.dtype), show(found)));
  }
  return Done{};
}

}  // namespace

Result<PreparedGraph> prepare(const Graph& graph, const DimBindings& dims, std::span<const TensorView> params) {
  PreparedGraph prepared;
  prepared.graph = graph;
  for (const Node& node : graph.nodes) {
    Sizes sizes;
    for (const Dim& dim : node.type.shape) {
      const std::optional<int64_t> size = dim.evaluate(dims);
      if (!size || *size < 0)
        return at(node, invalid("dim {} of {} is {}", to_string(dim), to_string(node.type),
                                size ? fmt::format("{}", *size) : std::string("not bound")));
      sizes.push_back(*size);
    }
    prepared.shapes.push_back(std::move(sizes));
    prepared.holds_f64 |= node.type.dtype == DType::f64;
  }
  for (size_t i = 0; i < graph.nodes.size(); ++i)
    if (auto fits = check_sizes(prepared, dims, i); !fits) return fits.error();
  if (auto fits = check_params(prepared, params); !fits) return fits.error();
  raise_decomposed_softmax(prepared.graph);
  mark_masks(prepared);
  return prepared;
}

}  // namespace tilewright::interp
