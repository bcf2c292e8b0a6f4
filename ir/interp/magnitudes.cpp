#include "ir/interp/magnitudes.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace tilewright::interp {
namespace {

class Writer {
 public:
  explicit Writer(Graph& graph) : graph_(graph) {}

  struct Magnitude {
    ValueId value;
    int sums;  ///< most of them on a way from the value to what is not multiplied out
  };
  Magnitude magnitude(ValueId id) {
    const auto found = known_.find(raw(id));
    if (found != known_.end()) return found->second;
    const Magnitude made = write(id);
    known_.emplace(raw(id), made);
    return made;
  }

  DType accumulation() const { return accumulation_; }

 private:
  ValueId add(Node node) {
    graph_.nodes.push_back(std::move(node));
    graph_.nodes.back().name = "magnitude_" + std::to_string(graph_.nodes.size());
    return ValueId{static_cast<int32_t>(graph_.nodes.size()) - 1};
  }

  ValueId absolute(ValueId id) {
    Node node;
    node.op = Op::abs;
    node.operands = {id};
    node.type = graph_[id].type;
    return add(std::move(node));
  }

  bool is_real(ValueId id) const { return id != kNoValue && is_float(graph_.type(id).dtype); }

  Magnitude write(ValueId id) {
    Node node = graph_[id];  // a copy: writing operands moves the nodes
    if (!is_linear(node)) return {node.op == Op::constant ? constant(std::move(node)) : absolute(id), 0};
    int sums = 0, least = 1;
    for (size_t i = 0; i < node.operands.size(); ++i) {
      if (!is_real(node.operands[i])) continue;
      const bool divides = node.op == Op::div && i == 1;
      const Magnitude operand = divides ? Magnitude{absolute(node.operands[i]), 0} : magnitude(node.operands[i]);
      node.operands[i] = operand.value;
      sums = std::max(sums, operand.sums);
      least = std::min(least, operand.sums);
    }
    const bool adds = (node.op == Op::add || node.op == Op::sub) && least > 0;  // two sums
    sums += adds || is_sum(node.op);
    if (is_sum(node.op) && node.type.dtype != DType::f64) accumulation_ = DType::f32;
    if (node.op == Op::sub) node.op = Op::add;
    if (node.op == Op::reduce_min) node.op = Op::reduce_max;
    if (node.op == Op::min) node.op = Op::max;
    return {node.op == Op::neg ? node.operands[0] : add(std::move(node)), sums};
  }

  static bool is_sum(Op op) {
    return op == Op::matmul || op == Op::matmul_nt || op == Op::reduce_sum || op == Op::reduce_mean ||
           op == Op::scatter_add;
  }

  /// Stays a literal: masks are told by theirs (semantics 4).
  ValueId constant(Node node) {
    node.attributes.literal.real = std::fabs(node.attributes.literal.real);
    return add(std::move(node));
  }

  bool is_linear(const Node& node) const {
    switch (node.op) {
      case Op::add:
      case Op::sub:
      case Op::mul:
      case Op::div:
      case Op::neg:
      case Op::min:
      case Op::max:
      case Op::select:
      case Op::load:
      case Op::scatter_add:
      case Op::dropout:
      case Op::matmul:
      case Op::matmul_nt:
      case Op::reduce_sum:
      case Op::reduce_mean:
      case Op::reduce_max:
      case Op::reduce_min: return true;
      case Op::cast: return is_real(node.operands[0]);
      default: return info(node.op).group == OpGroup::view;
    }
  }

  Graph& graph_;
  std::map<int32_t, Magnitude> known_;
  DType accumulation_ = DType::f64;
};

}  // namespace

std::optional<Magnitudes> with_magnitudes(Graph graph, size_t result) {
  Writer writer(graph);
  const auto [value, sums] = writer.magnitude(graph.results[result]);
  if (sums < 2) return std::nullopt;
  graph.results.push_back(value);
  const DType accumulation = writer.accumulation();
  return Magnitudes{std::move(graph), accumulation};
}

}  // namespace tilewright::interp
