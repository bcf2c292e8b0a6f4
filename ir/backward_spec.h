// BackwardSpec: one fused flash backward pass, what it means and nothing of how it runs. No score-sized tensor is in it
// but those that the graph itself captures or asks the gradient of.
//
//   for every (b, h, q, kv) with keep(b, h, q, kv):
//     s = Σ_dots query(b,h,q,·) · key(b,h,kv,·)                    the forward's raw scores, recomputed
//     t = Σ_d output_gradient(b,h,q,d) · value(b,h,kv,d)           the gradient of the (dropped) weights P
//   row products      out(b,h,q,d)  = Σ_kv              weight(s,t; b,h,q,kv) · operand(b,h,kv,d)     dQ
//   column products   out(b,h,kv,d) = Σ_{h in group} Σ_q weight(s,t; b,h,q,kv) · operand(b,h,q,d)      dK, dV
//   captured sums     out[index(b,h,q,kv)] = Σ            weight(s,t; b,h,q,kv)  over all that reach it  dBias, dTable
//   … Weights count as 0 where keep is false, whatever the expression gives there (semantics 4).
//
// Row statistics of the forward (LSE, rowsum(dO∘O)) are plain tensors that the weights load, so a softmax, a sigmoid
// and any other normaliser look alike: P = exp(score(s) - lse[b,h,q]) is part of an expression.
#pragma once

#include <optional>
#include <vector>

#include "ir/score_space.h"

namespace tilewright {

/// Which weights are summed against which operand, and where to.
struct BackwardProduct {
  ExprId weight{-1};  ///< root in BackwardSpec::weights, of dtype `accumulate`
  Access operand;     ///< over b, h, d and kv (row products) or q (column products)
  int64_t width = 0;  ///< columns d
  Access output;      ///< over b, h, d and q (row products) or kv (column products; h only as floor(h / head_group))
  DType rounding = DType::f32;  ///< f16 and bf16: what the weights may be rounded to where they meet the operand
  friend bool operator==(const BackwardProduct&, const BackwardProduct&) = default;
};

/// The gradient of a captured tensor. Indices that leave the tensor are clamped, as the forward's load clamps them.
/// Elements that nothing reaches are 0; the sum's order is fixed (semantics 20). An output tensor is written by one
/// product or one captured sum alone.
struct CapturedSum {
  ExprId weight{-1};          ///< root in BackwardSpec::weights
  int tensor = -1;            ///< the output
  std::vector<ExprId> index;  ///< i64 roots in BackwardSpec::weights over b, h, q, kv and loads; one per tensor axis
  bool in_bounds = false;     ///< the indices are known to lie inside
  friend bool operator==(const CapturedSum&, const CapturedSum&) = default;
};

struct BackwardSpec : ScoreSpace {
  std::optional<DotTerm> output_gradient;  ///< t: query = dO, key = V; absent when no weight reads t
  /// One DAG for all weights and captured indices, so that P, dS and what they share are computed once per score.
  /// Score nodes name their product: ExprNode::product 0 is s, 1 is t. The Expr's own root is unused.
  Expr weights;
  std::vector<BackwardProduct> rows, columns;
  std::vector<CapturedSum> captured;
  friend bool operator==(const BackwardSpec&, const BackwardSpec&) = default;
};

/// All roots of `weights`, in the order rows, columns, and of each captured sum its weight and its indices.
std::vector<ExprId*> roots(BackwardSpec& spec);
std::vector<ExprId> roots(const BackwardSpec& spec);

}  // namespace tilewright
