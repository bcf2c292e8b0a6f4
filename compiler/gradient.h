// The backward pass of a graph as a graph: reverse-mode differentiation with a rule per op, before any fusion.
#pragma once

#include <string>
#include <vector>

#include "ir/graph.h"
#include "ir/result.h"

namespace tilewright {

struct GradientRequest {
  std::vector<std::string> wrt;  ///< parameters whose gradients are wanted; empty = every float parameter
  /// Recompute everything that the backward pass reads from the parameters alone; else `Gradient::forward` also
  /// returns what backward needs and cannot cheaply recompute: outputs of products, the LSE of each softmax, never a
  /// score-sized value.
  bool recompute = false;
};

/// forward: the given graph with the saved values as further results behind its own (the same graph when `recompute`).
/// backward: its params are, by name, those of the forward that it reads, the saved values under their result's name,
/// and `d_<result>` of the result's type for every float result of the given graph; its results are `d_<param>` of the
/// parameter's type, in the order of `wrt`. A parameter that does not reach a result has a gradient of zeros.
struct Gradient {
  Graph forward;
  Graph backward;
  std::vector<std::string> saved;  ///< result names in `forward`, in order; params of `backward`
};

/// Both graphs verify. Errors: a `wrt` that is unknown or no float, a result that needs an op without a gradient on the
/// way to a wanted parameter; each names the value. Comparisons, floor, integer and bool parts give zeros.
Result<Gradient> gradient(const Graph& graph, const GradientRequest& request = {});

}  // namespace tilewright
