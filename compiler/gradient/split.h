// Cuts a joint graph in two: the forward, which returns what backward needs, and the backward, which takes it.
#pragma once

#include "compiler/gradient.h"
#include "compiler/gradient/score_products.h"

namespace tilewright::grad {

/// A result of the backward graph: its value in the joint graph and the name it gets.
struct BackwardResult {
  ValueId value;
  std::string name;
};

/// `gradients_in`: the params of the joint graph that hold the gradients of the forward's results. Backward computes
/// again whatever it needs but
/// params and, unless `recompute`, results of the given graph, outputs of products that are not score-sized, and the
/// LSE of each softmax; `forward` returns these behind its own results.
Gradient split(const JointGraph& joint, const Graph& given, const ScoreProducts& scores,
               const std::vector<ValueId>& gradients_in, const std::vector<BackwardResult>& results, bool recompute);

}  // namespace tilewright::grad
