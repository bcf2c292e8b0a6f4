// What sizes tell about a graph, and which dims no sizes can tell.
#include <algorithm>
#include <set>

#include "ir/bind.h"

namespace tilewright {
namespace {

/// The only name of `dim` that is not solved, nullopt when there are none or several.
template <class IsSolved>
std::optional<std::string> only_unknown(const Dim& dim, const IsSolved& is_solved) {
  std::optional<std::string> unknown;
  for (const auto& [name, coefficient] : dim.terms()) {
    if (is_solved(name)) continue;
    if (unknown) return std::nullopt;
    unknown = name;
  }
  return unknown;
}

}  // namespace

Diagnostics check_dims(const Graph& graph, const DimBindings& dims) {
  Diagnostics errors;
  for (const Node& node : graph.nodes) {
    const auto complain = [&](std::string message) {
      errors.add({ErrorKind::invalid, std::move(message), node.name, node.line});
    };
    for (size_t axis = 0; axis < node.type.shape.size(); ++axis) {
      const Dim& dim = node.type.shape[axis];
      const auto size = dim.evaluate(dims);
      if (!size)
        complain(fmt::format("axis {} of {}: {} overflows or has no size", axis, to_string(node.type), to_string(dim)));
      else if (*size < 0)
        complain(fmt::format("axis {} of {} has the negative size {}", axis, to_string(node.type), *size));
    }
    if (node.op == Op::slice && !node.operands.empty()) {
      const Dim& whole = graph.type(node.operands[0]).shape[static_cast<size_t>(node.attributes.axis)];
      const auto begin = node.attributes.begin.evaluate(dims), end = node.attributes.end.evaluate(dims);
      const auto size = whole.evaluate(dims);
      if (begin && end && size && (*begin < 0 || *end < *begin || *end > *size))
        complain(fmt::format("slice [{}, {}) = [{}, {}) is not a range within axis {} of %{}, whose size is {}",
                             to_string(node.attributes.begin), to_string(node.attributes.end), *begin, *end,
                             node.attributes.axis, graph[node.operands[0]].name, *size));
    }
    if (node.op == Op::dim && !node.attributes.dim.evaluate(dims))
      complain(fmt::format("{} overflows or has no size", to_string(node.attributes.dim)));
  }
  return errors;
}

std::vector<std::string> unsolvable_dims(std::span<const TensorType> types) {
  std::set<std::string> solved, all;
  const auto is_solved = [&](const std::string& name) { return solved.count(name) > 0; };
  for (bool progress = true; progress;) {
    progress = false;
    for (const TensorType& type : types)
      for (const Dim& dim : type.shape) {
        for (const auto& [name, coefficient] : dim.terms()) all.insert(name);
        if (const auto name = only_unknown(dim, is_solved)) progress = solved.insert(*name).second;
      }
  }
  std::vector<std::string> unsolved;
  std::set_difference(all.begin(), all.end(), solved.begin(), solved.end(), std::back_inserter(unsolved));
  return unsolved;
}

}  // namespace tilewright
