#include "runtime/integer_data.h"

#include <algorithm>
#include <vector>

#include "runtime/convert.h"
#include "runtime/host_tensor.h"

namespace tilewright {
namespace {

bool is_comparison(Op op) {
  return op == Op::lt || op == Op::le || op == Op::gt || op == Op::ge || op == Op::eq || op == Op::ne;
}

bool contains(const std::string& text, std::initializer_list<const char*> words) {
  return std::any_of(words.begin(), words.end(),
                     [&](const char* word) { return text.find(word) != std::string::npos; });
}

/// What happens to one parameter's values.
class UseFinder {
 public:
  UseFinder(const Graph& graph, ValueId param, const DimBindings& dims) : graph_(graph), dims_(dims) {
    same_.assign(graph.nodes.size(), false);
    same_[static_cast<size_t>(raw(param))] = true;
    for (size_t i = 0; i < graph.nodes.size(); ++i) follow(graph.nodes[i], i);
  }

  bool indexes = false, identifies = false, measures = false, offsets = false;
  int64_t table = INT64_MAX;  ///< smallest table that is indexed
  int64_t extent = 0;         ///< largest axis that is compared with

 private:
  bool same(ValueId id) const { return id != kNoValue && same_[static_cast<size_t>(raw(id))]; }

  void follow(const Node& node, size_t position) {
    const auto operand = [&](size_t i) { return Graph::operand(node, i); };
    const OpGroup group = info(node.op).group;
    if (group == OpGroup::view || node.op == Op::cast)
      same_[position] = std::any_of(node.operands.begin(), node.operands.end(), [&](ValueId id) { return same(id); });
    if (node.op == Op::load) {
      same_[position] = same(operand(0));
      for (size_t i = 1; i < node.operands.size(); ++i) {
        if (!same(node.operands[i])) continue;
        indexes = true;
        const auto size = graph_.type(operand(0)).shape[i - 1].evaluate(dims_);
        if (size) table = std::min(table, *size);
      }
    }
    if (is_comparison(node.op) && (same(operand(0)) || same(operand(1)))) {
      if (node.op == Op::eq || node.op == Op::ne)
        identifies = true;
      else
        measures = true;
      extent = std::max(extent, extent_of(same(operand(0)) ? operand(1) : operand(0)));
    }
    if ((node.op == Op::add || node.op == Op::sub) && (same(operand(0)) || same(operand(1)))) offsets = true;
    if ((node.op == Op::mask_causal || node.op == Op::mask_window) && same(operand(1))) offsets = true;
    if (node.op == Op::alibi && same(operand(2))) offsets = true;
  }

  /// Largest extent of the index axes below a value.
  int64_t extent_of(ValueId id) const {
    const Node& node = graph_[id];
    if (node.op == Op::index) {
      const auto axis = static_cast<size_t>(node.attributes.axis);
      return axis < node.type.shape.size() ? node.type.shape[axis].evaluate(dims_).value_or(0) : 0;
    }
    int64_t found = 0;
    for (const ValueId operand : node.operands)
      if (operand != kNoValue) found = std::max(found, extent_of(operand));
    return found;
  }

  const Graph& graph_;
  const DimBindings& dims_;
  std::vector<bool> same_;
};

/// Query and key lengths of the first score product.
std::pair<int64_t, int64_t> score_extents(const Graph& graph, const DimBindings& dims) {
  for (const Node& node : graph.nodes)
    if ((node.op == Op::matmul_nt || node.op == Op::matmul) && node.type.shape.size() >= 2) {
      const size_t rank = node.type.shape.size();
      return {node.type.shape[rank - 2].evaluate(dims).value_or(1),
              node.type.shape[rank - 1].evaluate(dims).value_or(1)};
    }
  return {1, 1};
}

}  // namespace

IntegerRange integer_range(const Graph& graph, ValueId param, const DimBindings& dims) {
  const std::string& name = graph[param].name;
  const auto [q_len, kv_len] = score_extents(graph, dims);
  const UseFinder use(graph, param, dims);
  const int64_t extent = use.extent > 0 ? use.extent : kv_len;
  if (contains(name, {"doc", "seg"}) || (use.identifies && !use.indexes && !use.measures))
    return {0, std::max<int64_t>(1, extent / 512), true, "ids that ascend"};
  if (contains(name, {"len", "ctx", "prefix"}) || (use.measures && !use.offsets && !use.indexes))
    return {extent / 2, extent, false, "lengths up to the sequence"};
  if (use.indexes && use.table != INT64_MAX)
    return {0, std::max<int64_t>(0, use.table - 1), false, "indices into a table"};
  if (contains(name, {"off", "past"}) || use.offsets)
    return {std::max<int64_t>(0, kv_len - q_len), std::max<int64_t>(0, kv_len - q_len), false, "the past length"};
  return {0, 7, false, "small numbers"};
}

void fill_integers(const TensorView& contiguous, const IntegerRange& range, uint64_t seed) {
  const int64_t count = contiguous.element_count();
  const int64_t row = contiguous.rank ? std::max<int64_t>(1, contiguous.shape[contiguous.rank - 1]) : 1;
  const double choices = static_cast<double>(range.high - range.low + 1);
  auto* address = static_cast<std::byte*>(contiguous.data);
  for (int64_t i = 0; i < count; ++i, address += size_of(contiguous.dtype)) {
    const double fraction = range.ascending ? static_cast<double>(i % row) / static_cast<double>(row)
                                            : uniform(seed, static_cast<uint64_t>(i));
    const auto value = range.low + static_cast<int64_t>(fraction * choices);
    write_element(contiguous.dtype, address, static_cast<double>(std::min(value, range.high)));
  }
}

}  // namespace tilewright
