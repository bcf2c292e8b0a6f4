// The weights of a backward pass in the arithmetic that the forward's had.
#pragma once

#include "ir/backward_spec.h"

namespace tilewright {

/// P of a backward pass is exp(score(s) - lse), and the lse is of scores that the forward computed in base 2, from
/// queries that it had scaled. Both round: errors of a score cancel in P only where score and lse have the same ones,
/// else they are up to twice the naive computation's (rule 19). So P becomes exp2(score2(s') - lse · log2 e) with
/// score2 as build_tile_program folds the score of the forward, at most 1: no rounding of scores so large that an lse
/// cannot hold the logarithm of a sum makes more of a weight.
struct FoldedWeights {
  BackwardSpec spec;
  double query_scale = 1;   ///< s in spec.weights is s', of queries times this
  int64_t score_chain = 0;  ///< of s (score_chain.h), as the unfolded weights scale it
};

/// `scale_queries`: the constant that leads the first such score goes to the queries, as in the forward's templates.
FoldedWeights fold_weights(const BackwardSpec& spec, bool scale_queries);

}  // namespace tilewright
