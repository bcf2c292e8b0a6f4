// fold_weights: the same weights in base 2, of scaled queries; what is no softmax's weight stays as it is.
#include "compiler/fold_weights.h"

#include <gtest/gtest.h>

#include <cmath>

#include "compiler/passes.h"
#include "ir/interp.h"

namespace tilewright {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Weights of s with an lse in tensor 0.
struct Weights {
  BackwardSpec spec;
  Expr& e = spec.weights;
  ExprId s = e.score(DType::f32);
  ExprId lse = e.load(0, DType::f32, {}, true);

  ExprId real(double value) { return e.constant(value, DType::f32); }
  ExprId op(Op op, ExprId a, ExprId b) { return e.op(op, DType::f32, {a, b}); }
  ExprId safe() {
    return e.op(Op::select, DType::f32, {e.op(Op::eq, DType::boolean, {lse, real(-kInfinity)}), real(0), lse});
  }
  ExprId weight(ExprId score) { return e.op(Op::exp, DType::f32, {op(Op::sub, score, safe())}); }
  void result(ExprId root) { spec.rows.push_back({root, {}, 1, {}}); }
};

std::vector<double> values(const BackwardSpec& spec, double s, float lse) {
  const TensorView view = TensorView::contiguous(&lse, DType::f32, {});
  const std::vector<int64_t> axes(16, 0);
  const std::vector<long double> products = {s, 0};
  const auto found = evaluate(spec.weights, roots(spec), {}, std::vector{view}, axes, products);
  return {found.begin(), found.end()};
}

int count(const BackwardSpec& spec, Op op) {
  int found = 0;
  for (const ExprNode& node : spec.weights.nodes()) found += node.kind == ExprKind::op && node.op == op;
  return found;
}

TEST(FoldWeights, KeepsValues) {
  Weights w;
  const ExprId scaled = w.op(Op::mul, w.s, w.real(0.125));
  const ExprId p = w.weight(w.op(Op::add, scaled, w.real(0.75)));
  w.result(p);
  w.result(w.op(Op::mul, p, scaled));  // other uses of s
  w.result(w.op(Op::sub, w.s, w.op(Op::div, w.s, w.real(3))));
  for (const bool scale_queries : {false, true}) {
    const FoldedWeights folded = fold_weights(w.spec, scale_queries);
    EXPECT_EQ(folded.query_scale, scale_queries ? 0.125 * M_LOG2E : 1);
    EXPECT_EQ(count(folded.spec, Op::exp), 0);
    for (const double s : {-3.0, 0.0, 1.5}) {
      const std::vector<double> before = values(w.spec, s, 2), after = values(folded.spec, s * folded.query_scale, 2);
      for (size_t i = 0; i < before.size(); ++i) EXPECT_NEAR(after[i], before[i], 1e-14);
    }
    EXPECT_EQ(values(folded.spec, 1, -static_cast<float>(kInfinity))[0],
              1);  // capped: no row without scores asks for it
  }
}

// The score reaches the product alone, as in the forward: nothing is left to multiply per score.
TEST(FoldWeights, ScalesTheQueriesAsTheForwardDoes) {
  Weights w;
  w.result(w.weight(w.op(Op::mul, w.s, w.real(0.3))));
  Expr score;
  score.set_root(score.op(Op::mul, DType::f32, {score.score(DType::f32), score.constant(0.3, DType::f32)}));
  const double forward = leading_scale(fold_softmax_scale(score, M_LOG2E).expr).scale;
  const FoldedWeights folded = fold_weights(w.spec, true);
  EXPECT_EQ(folded.query_scale, forward);
  EXPECT_EQ(count(folded.spec, Op::mul), 1);  // of the lse, per row
}

TEST(FoldWeights, LeavesOtherExponentials) {
  Weights w;
  w.result(w.e.op(Op::exp, DType::f32, {w.op(Op::sub, w.s, w.lse)}));       // may be more than 1
  w.result(w.e.op(Op::exp, DType::f32, {w.op(Op::sub, w.safe(), w.lse)}));  // of no score
  w.result(w.e.op(Op::exp, DType::f32, {w.s}));
  const FoldedWeights folded = fold_weights(w.spec, true);
  EXPECT_EQ(folded.query_scale, 1);
  EXPECT_EQ(folded.spec.weights, w.spec.weights.pruned(roots(w.spec)));
}

// All scores at a finite minimum: their lse is that minimum, and cannot hold the logarithm of their number.
TEST(FoldWeights, HugeScoresStayFinite) {
  Weights w;
  const ExprId bias = w.e.load(0, DType::f32, {}, true);
  w.result(w.weight(w.op(Op::add, w.s, bias)));
  const FoldedWeights folded = fold_weights(w.spec, true);
  for (const float huge : {-1e9f, -1e10f, -3e38f, -std::numeric_limits<float>::max()})
    for (const double s : {-4.0, 0.0, 4.0}) {
      const double p = values(folded.spec, s * folded.query_scale, huge)[0];
      EXPECT_TRUE(p >= 0 && p <= 1) << huge << ": " << p;
    }
}

}  // namespace
}  // namespace tilewright
