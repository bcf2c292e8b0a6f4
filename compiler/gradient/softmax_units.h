// Softmax units: the softmax and the LSE of the same scores have one rule together,
//   de = p ∘ (dp - delta + dlse),  p = exp(e - lse),  delta = rowsum(p ∘ dp).
// Where p is consumed by exactly one product O = (f ∘ p) · V with f free of p, delta is rowsum(dO ∘ O) and nothing
// score-sized has to exist (flash).
#pragma once

#include <vector>

#include "compiler/gradient/joint_graph.h"

namespace tilewright::grad {

struct SoftmaxUnit {
  ValueId scores = kNoValue, sink = kNoValue;
  int64_t axis = 0;
  ValueId softmax = kNoValue;  ///< kNoValue when only the LSE is used
  std::vector<ValueId> lses;   ///< the forward's own, of either keepdims
  ValueId product = kNoValue;  ///< O, when p is consumed by this product only
  ValueId first = kNoValue;    ///< the earliest of the nodes: when the walk is here, all gradients are complete

  // Filled while differentiating.
  ValueId lse = kNoValue;      ///< with keepdims, in the compute type
  ValueId safe = kNoValue;     ///< lse, 0 where it is -inf
  ValueId weights = kNoValue;  ///< p again, from the scores and the LSE
};

/// Units of all live softmax and logsumexp nodes.
std::vector<SoftmaxUnit> find_softmax_units(const JointGraph& joint);

}  // namespace tilewright::grad
