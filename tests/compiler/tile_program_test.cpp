#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numbers>

#include "compiler/passes.h"

namespace tilewright {
namespace {

constexpr double kLog2e = std::numbers::log2e;

/// Evaluates the float ops these tests use, with s and every load given.
double value(const Expr& expr, ExprId id, double s, double loaded) {
  const ExprNode& node = expr[id];
  const auto arg = [&](size_t i) { return value(expr, node.args[i], s, loaded); };
  switch (node.kind) {
    case ExprKind::score: return s;
    case ExprKind::constant:
      return is_float(node.dtype) ? node.literal.real : static_cast<double>(node.literal.integer);
    case ExprKind::load: return loaded;
    case ExprKind::index: return 3;
    default: break;
  }
  switch (node.op) {
    case Op::add: return arg(0) + arg(1);
    case Op::sub: return arg(0) - arg(1);
    case Op::mul: return arg(0) * arg(1);
    case Op::div: return arg(0) / arg(1);
    case Op::min: return std::min(arg(0), arg(1));
    case Op::max: return std::max(arg(0), arg(1));
    case Op::tanh: return std::tanh(arg(0));
    case Op::select: return arg(0) != 0 ? arg(1) : arg(2);
    case Op::lt: return arg(0) < arg(1);
    case Op::cast: return arg(0);
    default: ADD_FAILURE() << "unexpected op"; return 0;
  }
}

struct Fold {
  Expr e;
  ExprId s = e.score(DType::f32);
  ExprId c(double v) { return e.constant(v, DType::f32); }
  ExprId f(Op op, ExprId a, ExprId b) { return e.op(op, DType::f32, {a, b}); }
  ExprId load(std::vector<Axis> axes) {
    std::vector<ExprId> indices;
    for (Axis axis : axes) indices.push_back(e.index(axis));
    return e.load(0, DType::f32, indices, true);
  }
  FoldedScale fold(ExprId root) {
    e.set_root(root);
    FoldedScale folded = fold_softmax_scale(e, kLog2e);
    for (double x : {-2.5, 0.75, 40.0})
      EXPECT_NEAR(value(folded.expr, folded.expr.root(), x, 0.3) * folded.left_over, value(e, root, x, 0.3) * kLog2e,
                  1e-9);
    return folded;
  }
};

TEST(FoldSoftmaxScale, MergesIntoTheScale) {
  Fold t;
  const auto folded = t.fold(t.f(Op::mul, t.s, t.c(0.125)));
  EXPECT_EQ(folded.left_over, 1);
  EXPECT_EQ(folded.expr.nodes().size(), 3u);
  const LeadingScale lead = leading_scale(folded.expr);
  EXPECT_DOUBLE_EQ(lead.scale, 0.125 * kLog2e);
  EXPECT_EQ(lead.expr.root_node().kind, ExprKind::score);
}

TEST(FoldSoftmaxScale, BareScoreBecomesALeadingScale) {
  Fold t;
  const auto folded = t.fold(t.s);
  EXPECT_EQ(folded.left_over, 1);
  EXPECT_DOUBLE_EQ(leading_scale(folded.expr).scale, kLog2e);
}

TEST(FoldSoftmaxScale, DivisionByAConstantBecomesOneMultiplication) {
  Fold t;
  const auto folded = t.fold(t.f(Op::div, t.s, t.c(8)));
  EXPECT_EQ(folded.left_over, 1);
  EXPECT_EQ(folded.expr.root_node().op, Op::mul);
}

TEST(FoldSoftmaxScale, SoftcapScalesTheCap) {
  Fold t;
  const ExprId inner = t.e.op(Op::tanh, DType::f32, {t.f(Op::mul, t.s, t.c(0.02))});
  const auto folded = t.fold(t.f(Op::mul, t.c(50), inner));
  EXPECT_EQ(folded.left_over, 1);
  EXPECT_EQ(folded.expr.nodes().size(), 6u);
  EXPECT_DOUBLE_EQ(leading_scale(folded.expr).scale, 0.02);
}

TEST(FoldSoftmaxScale, AlibiScalesTheSlopePerRow) {
  Fold t;
  const ExprId distance = t.e.op(Op::cast, DType::f32, {t.e.index(Axis::kv)});
  const auto folded = t.fold(t.f(Op::add, t.f(Op::mul, t.s, t.c(0.125)), t.f(Op::mul, t.load({Axis::h}), distance)));
  EXPECT_EQ(folded.left_over, 1);
  const auto depends = dependencies(folded.expr);
  for (size_t i = 0; i < folded.expr.nodes().size(); ++i) {
    const ExprNode& node = folded.expr.nodes()[i];
    if (node.kind == ExprKind::load) {
      EXPECT_FALSE(depends[i] & bit(Axis::kv));
    }
  }
}

TEST(FoldSoftmaxScale, DenseBiasIsMultipliedInsideTheAddition) {
  Fold t;
  const auto folded = t.fold(t.f(Op::add, t.f(Op::mul, t.s, t.c(0.125)), t.load({Axis::q, Axis::kv})));
  EXPECT_EQ(folded.left_over, 1);
  EXPECT_EQ(folded.expr.root_node().op, Op::add);
}

TEST(FoldSoftmaxScale, FiniteMinimaStayFinite) {
  constexpr double kLowest = -std::numeric_limits<float>::max();
  Fold t;
  t.e.set_root(t.f(Op::add, t.s, t.c(kLowest)));
  const auto constant = fold_softmax_scale(t.e, kLog2e);
  EXPECT_EQ(constant.expr[constant.expr.root_node().args[1]].literal.real, kLowest);

  t.e.set_root(t.f(Op::add, t.s, t.load({Axis::kv})));
  const auto loaded = fold_softmax_scale(t.e, kLog2e);
  EXPECT_EQ(value(loaded.expr, loaded.expr.root(), 0, kLowest), kLowest);
  EXPECT_EQ(value(loaded.expr, loaded.expr.root(), 0, -INFINITY), -INFINITY);
}

TEST(FoldSoftmaxScale, SelectWithMinusInfinityAbsorbs) {
  Fold t;
  const ExprId keep = t.e.op(Op::lt, DType::boolean, {t.e.index(Axis::kv), t.e.index(Axis::q)});
  t.e.set_root(t.e.op(Op::select, DType::f32, {keep, t.f(Op::mul, t.s, t.c(2)), t.c(-INFINITY)}));
  const auto folded = fold_softmax_scale(t.e, kLog2e);
  EXPECT_EQ(folded.left_over, 1);
  EXPECT_EQ(folded.expr[folded.expr.root_node().args[2]].literal.real, -INFINITY);
}

TEST(FoldSoftmaxScale, LeavesOverWhatNothingAbsorbs) {
  Fold t;
  const auto folded = t.fold(t.e.op(Op::tanh, DType::f32, {t.s}));
  EXPECT_DOUBLE_EQ(folded.left_over, kLog2e);
}

TEST(LeadingScale, KeepsAScoreThatEntersTwice) {
  Fold t;
  t.e.set_root(t.f(Op::add, t.f(Op::mul, t.s, t.c(0.5)), t.e.op(Op::tanh, DType::f32, {t.s})));
  EXPECT_EQ(leading_scale(t.e).scale, 1);
  EXPECT_EQ(leading_scale(t.e).expr, t.e);
}

TEST(BuildTileProgram, WritesTheRecurrence) {
  AttentionSpec spec;
  spec.score.set_root(spec.score.score(DType::f32));
  spec.keep.set_root(spec.keep.constant_int(1, DType::boolean));
  const TileProgram plain = build_tile_program(spec);
  EXPECT_EQ(plain.state.size(), 3u);
  const int count = static_cast<int>(plain.values.size());
  EXPECT_EQ(plain.merge[0].b, plain.state[0] + count) << "the right state's m";
  for (const TileInst& inst : plain.step) EXPECT_NE(inst.op, TileOp::mask) << "nothing is masked";

  spec.normaliser = Normaliser::none;
  spec.keep.set_root(spec.keep.op(Op::le, DType::boolean, {spec.keep.index(Axis::kv), spec.keep.index(Axis::q)}));
  const TileProgram none = build_tile_program(spec);
  EXPECT_EQ(none.state.size(), 1u);
  EXPECT_EQ(none.score, spec.score);
  EXPECT_EQ(none.step[2].op, TileOp::mask);
  EXPECT_EQ(none.step[2].literal, 0);
}

}  // namespace
}  // namespace tilewright
