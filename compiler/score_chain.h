// How long one chain of additions of a score may be, for all templates.
#pragma once

#include "ir/attention_spec.h"
#include "ir/backward_spec.h"

namespace tilewright {

/// A sum over columns that nothing scales down is a sum of chains of at most this many (semantics 19).
constexpr int64_t kLongestChain = 128;

/// The most columns of the head dim that one chain of additions sums up in a score; the chains are added.
///
/// A chain of n additions of products of operands of unit variance rounds at √n, and a score of d columns in chains of
/// n is off by about scale · √(d·n / 2) roundings: what its weight is off by, relatively. The usual scale, 1/√d, makes
/// that √(n/2) at any width, within rule 19 at kLongestChain. Where scores spread by scale · √d > 2, as those that
/// nothing scales do from d = 5 on, chains are short. Each costs a load, an addition and a store per score.
///
/// The scale is the largest constant that multiplies s where the expression reads it, 1 where there is none: what
/// happened to Q before is not seen. A forward pass and its backward pass agree: their scores round alike.
int64_t score_chain(const AttentionSpec& spec);
int64_t score_chain(const BackwardSpec& spec);

}  // namespace tilewright
