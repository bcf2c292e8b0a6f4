// Tracer: reads graph values symbolically. "Value %x at indices (…)" becomes an expression over the tensors that hold
// data: params, and values that some other step writes.
#pragma once

#include <functional>
#include <map>
#include <utility>

#include "compiler/fuse/views.h"

namespace tilewright::fusion {

/// Facts about the graph that all tracing shares.
struct GraphFacts {
  explicit GraphFacts(const Graph& graph);

  const Graph& graph;
  std::vector<std::vector<ValueId>> users;  ///< one entry per use; results are not in here
  std::vector<int> result_uses;
  std::vector<int> reads;    ///< uses by ops that compute, views looked through, results counted
  std::vector<bool> cheap;   ///< index arithmetic and scalars: repeated rather than stored
  std::vector<bool> stored;  ///< written by a fused step: always read from memory

  static size_t at(ValueId id) { return static_cast<size_t>(raw(id)); }
  int uses(ValueId id) const { return static_cast<int>(users[at(id)].size()) + result_uses[at(id)]; }
};

/// How much a region recomputes: attention inlines every pointwise chain, loops the single-use ones, contractions
/// none that costs anything.
enum class Region : uint8_t { attention, loop, contract };

class Tracer {
 public:
  Tracer(const GraphFacts& facts, Region region) : facts_(facts), graph_(facts.graph), region_(region) {}

  Expr pool;
  IndexMath math{pool};
  /// What loads refer to: tensor i of the pool is this value.
  std::vector<ValueId> tensors;
  /// Asked before a matmul is read from memory; the attention matcher puts the score in its place.
  std::function<std::optional<ExprId>(ValueId, const Indices&)> on_contract;

  /// Asked before any other value is read from memory.
  std::function<std::optional<ExprId>(ValueId, const Indices&)> on_memory;
  /// Values that are never computed where they are read, by value; null = none.
  const std::vector<bool>* kept_in_memory = nullptr;

  /// Values that are computed where they are read, by value; null = none.
  const std::vector<bool>* computed_here = nullptr;
  /// What follows is traced as part of another kind of region.
  void enter(Region region) { region_ = region; }

  /// The value of `id` at `at`, in the type arithmetic on it is done in.
  ExprId read(ValueId id, const Indices& at);
  /// The same, but `id` itself is computed here even where a reader would load it.
  ExprId compute(ValueId id, const Indices& at);
  /// Operand i of a pointwise node whose result is read at `at`.
  ExprId read_operand(const Node& node, size_t i, const Indices& at);
  Indices operand_indices(ValueId operand, const Indices& at) {
    return broadcast_indices(math, graph_.type(operand).shape, at);
  }
  /// Position of a value in `tensors`.
  int tensor(ValueId id);
  /// The value behind views and float casts, when it is a literal.
  const Scalar* literal(ValueId id) const;
  ExprId cast(ExprId value, DType dtype);
  bool is_stored(ValueId id) const { return facts_.stored[GraphFacts::at(id)]; }
  /// Views and float casts that a walk may look through.
  bool is_open_view(ValueId id) const { return is_simple_view(graph_[id].op) && !facts_.stored[GraphFacts::at(id)]; }
  bool is_open_cast(ValueId id) const;

 private:
  ExprId load_tensor(ValueId id, const Indices& at);
  ExprId read_table(const Node& load, const Indices& at);
  ExprId leaf(const Node& node, const Indices& at);
  bool inlined(ValueId id) const;

  const GraphFacts& facts_;
  const Graph& graph_;
  Region region_;
  std::map<std::pair<int32_t, std::vector<int32_t>>, ExprId> memo_;
};

/// Casts between floats: exact or rounding, but the same number for the purposes of fusion.
bool is_float_cast(const Graph& graph, const Node& node);

}  // namespace tilewright::fusion
