#include <gtest/gtest.h>

#include "compiler/passes.h"
#include "ir/interp.h"
#include "tests/support/random_expr.h"

namespace tilewright {
namespace {

struct Writer {
  Expr e;
  ExprId q = e.index(Axis::q), kv = e.index(Axis::kv), b = e.index(Axis::b);
  ExprId c(int64_t v) { return e.constant_int(v, DType::i64); }
  ExprId i(Op op, ExprId x, ExprId y) { return e.op(op, DType::i64, {x, y}); }
  ExprId t(Op op, ExprId x, ExprId y) { return e.op(op, DType::boolean, {x, y}); }
  Expr simplified(ExprId root, const AxisExtents& extents = {}) {
    e.set_root(root);
    return simplify(e, extents);
  }
};

TEST(Simplify, CollectsAffineTerms) {
  Writer w;
  const Expr kv = w.simplified(w.i(Op::sub, w.q, w.i(Op::sub, w.q, w.kv)));
  EXPECT_EQ(kv.nodes().size(), 1u);
  EXPECT_EQ(kv.root_node().axis, Axis::kv);
  EXPECT_EQ(w.simplified(w.i(Op::add, w.i(Op::add, w.q, w.c(7)), w.c(-7))).nodes().size(), 1u);
}

TEST(Simplify, EveryCausalSpellingIsOneComparison) {
  Writer w;
  const auto check = [&](ExprId root) {
    const Expr out = w.simplified(root);
    ASSERT_EQ(out.nodes().size(), 3u);
    EXPECT_EQ(out.root_node().kind, ExprKind::op);
  };
  const ExprId distance = w.i(Op::sub, w.q, w.kv);
  check(w.t(Op::le, w.kv, w.q));
  check(w.t(Op::ge, w.q, w.kv));
  check(w.t(Op::ge, distance, w.c(0)));
  check(w.t(Op::le, w.i(Op::sub, w.kv, w.q), w.c(0)));
  check(w.e.op(Op::logical_not, DType::boolean, {w.t(Op::gt, w.kv, w.q)}));
  check(w.t(Op::le, w.i(Op::mul, w.c(1), w.kv), w.i(Op::add, w.q, w.c(0))));
}

TEST(Simplify, UsesExtents) {
  Writer w;
  const AxisExtents extents{{{Axis::h, 4}, {Axis::q, 16}}};
  const ExprId h = w.e.index(Axis::h);
  EXPECT_EQ(w.simplified(w.i(Op::div, h, w.c(4)), extents).root_node().kind, ExprKind::constant);
  EXPECT_EQ(w.simplified(w.i(Op::mod, w.q, w.c(16)), extents).root_node().axis, Axis::q);
  // (b·4 + h) / 4 = b, mod 4 = h
  const ExprId flat = w.i(Op::add, w.i(Op::mul, w.b, w.c(4)), h);
  EXPECT_EQ(w.simplified(w.i(Op::div, flat, w.c(4)), extents).root_node().axis, Axis::b);
  EXPECT_EQ(w.simplified(w.i(Op::mod, flat, w.c(4)), extents).root_node().axis, Axis::h);
  EXPECT_TRUE(w.simplified(w.t(Op::lt, w.q, w.c(16)), extents).is_constant_true());
}

TEST(Simplify, DropsFloatDetours) {
  Writer w;
  const ExprId s = w.e.score(DType::f32);
  const ExprId narrow = w.e.op(Op::cast, DType::bf16, {s});
  const ExprId one = w.e.constant(1, DType::f32);
  const Expr out = w.simplified(w.e.op(Op::mul, DType::f32, {w.e.op(Op::cast, DType::f32, {narrow}), one}));
  EXPECT_EQ(out.root_node().kind, ExprKind::score);
}

TEST(Simplify, SelectOfTruthValuesIsLogic) {
  Writer w;
  const ExprId c = w.t(Op::lt, w.kv, w.q);
  const ExprId yes = w.e.constant_int(1, DType::boolean), no = w.e.constant_int(0, DType::boolean);
  EXPECT_EQ(w.simplified(w.e.op(Op::select, DType::boolean, {c, yes, no})).nodes().size(), 3u);
  EXPECT_EQ(w.simplified(w.e.op(Op::select, DType::boolean, {c, no, yes})).nodes().size(), 3u);
}

TEST(Simplify, KeepsTheValueOfRandomExpressions) {
  std::mt19937_64 random(20240917);
  const DimBindings dims{{"Sq", 20}, {"Sk", 32}};
  for (int round = 0; round < 3000; ++round) {
    testing::MaskTensors tensors(random, round % 3 == 0);
    Expr expr;
    testing::RandomExpr generate(random, expr);
    expr.set_root(round % 2 ? generate.boolean(4) : generate.integer(4, round % 4 ? DType::i64 : DType::i32));
    const AxisExtents extents{{{Axis::b, 2}, {Axis::h, 2}, {Axis::q, 20}, {Axis::kv, Dim::named("Sk")}}};
    const Expr out = simplify(expr, round % 5 ? extents : AxisExtents{});
    EXPECT_EQ(out.root_node().dtype, expr.root_node().dtype);
    for (int point = 0; point < 12; ++point) {
      const auto pick = [&](int64_t n) { return static_cast<int64_t>(random() % static_cast<uint64_t>(n)); };
      const int64_t axes[12] = {pick(2), pick(2), pick(20), pick(32)};
      ASSERT_EQ(evaluate_int(out, dims, tensors.views(), axes), evaluate_int(expr, dims, tensors.views(), axes))
          << testing::dump(expr) << "\n"
          << testing::dump(out);
    }
  }
}

}  // namespace
}  // namespace tilewright
