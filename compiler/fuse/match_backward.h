// Recognises flash backward passes: what leaves score space of the same products together becomes a BackwardSpec.
// Nothing is proved about derivatives; weights are traced as they stand.
#pragma once

#include <variant>

#include "compiler/fuse/score_exits.h"
#include "compiler/program.h"

namespace tilewright::fusion {

struct BackwardMatch {
  BackwardSpec spec;              ///< tensors named by the values below; kv_range not analysed yet
  std::vector<ValueId> tensors;   ///< spec tensor i is this value; outputs come last
  std::vector<ValueId> products;  ///< the products that are recomputed: s, then t
  std::vector<ValueId> users;     ///< the graph's products and sums that it computes
  bool sums = false;              ///< a captured sum is no mere store
};

struct BackwardSearch {
  std::vector<BackwardMatch> matches;
  std::vector<std::pair<ValueId, FusionNote>> notes;  ///< by the value that they are about
};

/// All backward passes. `absorbed`: nodes that fused steps compute, so that what they read needs no memory.
/// `lone_products`: also a single product over a single recomputed one, which may be attention without a normaliser.
BackwardSearch find_backward(const GraphFacts& facts, const std::vector<bool>& absorbed, bool lone_products);

}  // namespace tilewright::fusion
