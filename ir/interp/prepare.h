// Prepares a graph for evaluation: run-time shapes, decomposed softmax and logsumexp spellings raised (semantics 5),
// and what semantics 4 needs to know about masks. Independent of the compiler's own matchers on purpose.
#pragma once

#include <span>
#include <vector>

#include "ir/graph.h"
#include "ir/tensor_view.h"

namespace tilewright::interp {

struct PreparedGraph {
  Graph graph;  ///< same ValueIds as the input graph
  std::vector<std::vector<int64_t>> shapes;
  /// Holds nothing but 0 and -inf chosen by a select: adding it masks, whatever was there (semantics 4).
  std::vector<bool> additive_mask;
  /// Attention weights: softmax results or values selected against 0. In a matmul's left operand their zeros hide NaN
  /// and infinity of the right one, so that stale memory under a key-padding mask never reaches the oracle's output.
  std::vector<bool> weights;
  bool holds_f64 = false;
};

/// Errors: unbound or negative dims, operands whose run-time sizes do not fit the op, parameters of another shape.
Result<PreparedGraph> prepare(const Graph& graph, const DimBindings& dims, std::span<const TensorView> params);

/// Replaces p = e / l and m + log(l), with m = max(s), e = exp(s - m), l = sum(e), by softmax and logsumexp nodes.
void raise_decomposed_softmax(Graph& graph);

}  // namespace tilewright::interp
