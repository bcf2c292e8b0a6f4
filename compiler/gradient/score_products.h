// Which products of a forward are score-sized, so that backward computes them again rather than have them saved.
#pragma once

#include <vector>

#include "compiler/gradient/joint_graph.h"

namespace tilewright::grad {

/// By forward node. A product is one of scores when its operands do not come from weights and it leads, through
/// pointwise ops and views,
///   to a softmax whose result leads to a product, or
///   to a softmax or a product at all, and it is one of queries and keys: both operands start with the same batch axes
///   (weights have none), or, without leading axes, rows and columns are both named.
/// from_weights: what comes from a softmax or a score product through pointwise ops and views.
struct ScoreProducts {
  std::vector<bool> is_score, from_weights;
};
ScoreProducts find_score_products(const JointGraph& joint);

}  // namespace tilewright::grad
