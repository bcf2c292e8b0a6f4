// Internal to canonicalize and gradient: emits nodes of the new graph, sharing equal ones and dropping no-ops on the
// way.
#pragma once

#include <string>
#include <unordered_map>
#include <unordered_set>

#include "ir/graph.h"

namespace tilewright::canonical {

class Rewriter {
 public:
  /// An empty graph of this one's name and precision.
  explicit Rewriter(const Graph& like) {
    graph_.name = like.name;
    graph_.precision = like.precision;
  }

  const Graph& graph() const { return graph_; }
  Graph& graph() { return graph_; }
  const TensorType& type(ValueId id) const { return graph_.type(id); }

  /// New nodes take their name and line from `origin` until the next call.
  void set_origin(const Node& origin);

  ValueId param(const Node& param);
  /// Adds the node, or returns an equal or simpler value. `node.type` must be right.
  ValueId emit(Node node);

  ValueId constant(double value, DType dtype);
  ValueId constant_int(int64_t value, DType dtype);
  ValueId index(int64_t axis, const Dim& extent, int64_t rank);
  ValueId dim(const Dim& value);
  ValueId pointwise(Op op, std::vector<ValueId> operands);
  ValueId cast(ValueId a, DType dtype);
  ValueId reshape(ValueId a, Shape shape);
  ValueId broadcast(ValueId a, Shape shape);
  ValueId slice(ValueId a, int64_t axis, const Dim& begin, const Dim& end);

  /// The literal of a rank-0 constant.
  const Scalar* literal(ValueId id) const;
  bool is_constant(ValueId id, double value) const;

 private:
  ValueId simpler(const Node& node);
  ValueId fold_pointwise(const Node& node);
  ValueId simpler_view(const Node& node);
  std::string unique_name(const Node& node);

  Graph graph_;
  std::unordered_map<std::string, ValueId> known_;
  std::unordered_set<std::string> names_;
  std::string stem_;
  int line_ = 0;
};

/// Emits all of `graph`, results included; where each of its values went. Dead nodes stay.
std::vector<ValueId> rewrite(Rewriter& to, const Graph& graph);

/// Expands one sugar node whose operands are `operands` in the new graph.
ValueId expand_sugar(Rewriter& to, const Node& node, const std::vector<ValueId>& operands);

/// The softmax / logsumexp that `node` (not yet emitted) completes the spelling of; kNoValue when it is none.
ValueId raise_softmax(Rewriter& to, const Node& node);

/// An update of anything but an inout param, as a choice between its two operands (operands in the new graph).
ValueId expand_update(Rewriter& to, const Node& node, const std::vector<ValueId>& operands);

/// `graph` without the nodes that neither a result nor an inout param needs. Params stay.
Graph remove_dead(const Graph& graph);

}  // namespace tilewright::canonical
