// Where values of score space leave it: the products, sums and results that read what pointwise chains make of
// products.
#pragma once

#include "compiler/fuse/score_frame.h"

namespace tilewright::fusion {

/// What pointwise ops and views carry up from products.
struct ScoreReach {
  std::vector<ValueId> products;  ///< ascending; empty: no value of score space
  bool nonlinear = false;         ///< in any of them, as far as ops show
  bool crossed = false;           ///< the last two axes are swapped against the first product's
};

struct ScoreExit {
  ValueId user = kNoValue;   ///< kNoValue: the value is a result
  size_t operand = 0;        ///< of user
  ValueId value = kNoValue;  ///< what leaves
  ValueId core = kNoValue;   ///< the value behind its views and casts
  Shape lead;                ///< of the core
  Dim q_len, kv_len;
  bool crossed = false;  ///< the core is [.., kv, q]
};

/// Ops that add elements of operand 0 up.
inline bool is_sum(Op op) { return op == Op::reduce_sum || op == Op::scatter_add; }

/// By value.
std::vector<ScoreReach> score_reach(const GraphFacts& facts, const std::vector<bool>& claimed);
/// In node order, results last. What reads claimed values from fused steps is none.
std::vector<ScoreExit> score_exits(const GraphFacts& facts, const std::vector<bool>& claimed,
                                   const std::vector<ScoreReach>& reach);

/// The views and casts from `core` out to `value`, innermost first.
std::vector<ValueId> views_between(const Graph& graph, ValueId core, ValueId value);

}  // namespace tilewright::fusion
