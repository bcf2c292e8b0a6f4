// Expr evaluation: integer rules, clamped loads, block extremes.
#include <gtest/gtest.h>

#include <cmath>

#include "ir/interp.h"
#include "ir/interp/number.h"
#include "ir/interp/scalar_ops.h"

namespace tilewright {
namespace {

using interp::apply_int;

TEST(Number, HalfFormatsRoundTripEveryBitPattern) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const double f16 = interp::from_f16(half), bf16 = interp::from_bf16(half);
    EXPECT_TRUE(std::isnan(f16) || interp::to_f16(f16) == half) << bits;
    EXPECT_TRUE(std::isnan(bf16) || interp::to_bf16(bf16) == half) << bits;
  }
  EXPECT_TRUE(std::isnan(interp::from_f16(interp::to_f16(NAN))));
  EXPECT_TRUE(std::isnan(interp::from_bf16(interp::to_bf16(-NAN))));
}

TEST(Number, RoundsToNearestEven) {
  EXPECT_EQ(interp::round_to(DType::bf16, 1 + 0x1p-8), 1.0);
  EXPECT_EQ(interp::round_to(DType::bf16, 1 + 3 * 0x1p-8), 1 + 0x1p-6);
  EXPECT_EQ(interp::round_to(DType::bf16, 1 + 0x1p-8 + 0x1p-40), 1 + 0x1p-7);
  EXPECT_EQ(interp::round_to(DType::f16, 65519.0), 65504.0);
  EXPECT_EQ(interp::round_to(DType::f16, 65520.0), HUGE_VAL);
  EXPECT_EQ(interp::round_to(DType::f16, -0x1p-25), -0.0);
  EXPECT_EQ(interp::round_to(DType::f16, 0x1.8p-24), 0x1p-23);
  EXPECT_EQ(interp::round_to(DType::f32, 0x1p-150), 0.0);
  EXPECT_EQ(interp::round_to(DType::bf16, 0x1.FF8p127), HUGE_VAL);
}

TEST(Integers, FloorDivisionWrapAndShifts) {
  EXPECT_EQ(apply_int(Op::div, DType::i64, -7, 2), -4);
  EXPECT_EQ(apply_int(Op::div, DType::i64, 7, -2), -4);
  EXPECT_EQ(apply_int(Op::mod, DType::i64, -7, 2), 1);
  EXPECT_EQ(apply_int(Op::mod, DType::i64, 7, -2), -1);
  EXPECT_EQ(apply_int(Op::div, DType::i32, 5, 0), 0);
  EXPECT_EQ(apply_int(Op::mod, DType::i32, 5, 0), 0);
  EXPECT_EQ(apply_int(Op::div, DType::i64, INT64_MIN, -1), INT64_MIN);
  EXPECT_EQ(apply_int(Op::mod, DType::i64, INT64_MIN, -1), 0);
  EXPECT_EQ(apply_int(Op::div, DType::i32, INT32_MIN, -1), INT32_MIN);
  EXPECT_EQ(apply_int(Op::add, DType::i32, INT32_MAX, 1), INT32_MIN);
  EXPECT_EQ(apply_int(Op::add, DType::i64, INT64_MAX, 1), INT64_MIN);
  EXPECT_EQ(apply_int(Op::mul, DType::i8, 16, 16), 0);
  EXPECT_EQ(apply_int(Op::shl, DType::i32, 1, 33), 2);
  EXPECT_EQ(apply_int(Op::shr, DType::i32, -8, 1), -4);
  EXPECT_EQ(apply_int(Op::shl, DType::i8, 1, 7), -128);
  EXPECT_EQ(apply_int(Op::shr, DType::i8, -128, -1), -1);
  EXPECT_EQ(apply_int(Op::abs, DType::i8, -128, 0), -128);
  EXPECT_EQ(apply_int(Op::logical_not, DType::boolean, 1, 0), 0);
  EXPECT_EQ(apply_int(Op::logical_not, DType::i32, 5, 0), -6);
}

TEST(Integers, FloatToIntTruncatesAndSaturates) {
  EXPECT_EQ(interp::real_to_int(DType::i32, -1.9), -1);
  EXPECT_EQ(interp::real_to_int(DType::i32, 1e30), INT32_MAX);
  EXPECT_EQ(interp::real_to_int(DType::i64, -1e30), INT64_MIN);
  EXPECT_EQ(interp::real_to_int(DType::i8, 127.9), 127);
  EXPECT_EQ(interp::real_to_int(DType::i8, HUGE_VAL), 127);
  EXPECT_EQ(interp::real_to_int(DType::i64, std::nan("")), 0);
}

TEST(Floats, MinAndMaxPropagateNan) {
  EXPECT_TRUE(std::isnan(interp::apply_real(Op::max, 1.0, std::nan(""))));
  EXPECT_TRUE(std::isnan(interp::apply_real(Op::min, std::nan(""), 1.0)));
  EXPECT_EQ(interp::apply_real(Op::mod, -7.5, 2.0), 0.5);
}

TEST(ExprEvaluation, DimsAndIntegerWidths) {
  Expr e;
  const ExprId sum =
      e.op(Op::add, DType::i64, {e.dim(Dim::named("Sk") - Dim::named("Sq")), e.constant_int(63, DType::i64)});
  e.set_root(e.op(Op::div, DType::i64, {sum, e.constant_int(64, DType::i64)}));
  EXPECT_EQ(evaluate_int(e, {{"Sk", 200}, {"Sq", 7}}, {}, {}), 4);

  Expr narrow;
  const ExprId big = narrow.op(Op::cast, DType::i32, {narrow.dim(Dim::named("S"))});
  narrow.set_root(narrow.op(Op::mul, DType::i32, {big, big}));
  EXPECT_EQ(evaluate_int(narrow, {{"S", 65536}}, {}, {}), 0);
}

TEST(ExprEvaluation, LoadsClampAndExtremesCoverTheirBox) {
  std::vector<float> table{5, -1, 7, 2, 9, 4};
  const TensorView views[] = {TensorView::contiguous(table.data(), DType::f32, {2, 3})};
  const int64_t axes[12] = {0, 0, 100, 1, 0, 0, 0, 0, 0, 1, 1, 2};
  Expr e;
  e.set_root(e.load(0, DType::f32, {e.index(Axis::q), e.index(Axis::kv)}, false));
  EXPECT_EQ(evaluate(e, {}, views, axes, 0), 9.0L);
  Expr box;
  ExprNode node;
  node.kind = ExprKind::load_max;
  node.dtype = DType::f32;
  node.tensor = 0;
  node.args = {box.index(Axis::q_lo), box.index(Axis::kv_lo), box.index(Axis::q_hi), box.index(Axis::kv_hi)};
  box.set_root(box.add(node));
  EXPECT_EQ(evaluate(box, {}, views, axes, 0), 9.0L);
  Expr low;
  node.kind = ExprKind::load_min;
  node.args = {low.index(Axis::q_lo), low.index(Axis::kv_lo), low.index(Axis::q_hi), low.index(Axis::kv_hi)};
  low.set_root(low.add(node));
  EXPECT_EQ(evaluate(low, {}, views, axes, 0), -1.0L);
}

TEST(ExprEvaluation, SelectDropsTheOtherArmAndScoreEnters) {
  Expr e;
  const ExprId s = e.score(DType::f32);
  const ExprId c = e.op(Op::le, DType::boolean, {e.index(Axis::kv), e.index(Axis::q)});
  e.set_root(e.op(Op::select, DType::f32, {c, s, e.constant(-HUGE_VAL, DType::f32)}));
  const int64_t kept[] = {0, 0, 3, 3}, masked[] = {0, 0, 3, 4};
  EXPECT_EQ(evaluate(e, {}, {}, kept, 2.5L), 2.5L);
  EXPECT_EQ(evaluate(e, {}, {}, masked, std::nan("")), -HUGE_VALL);
}

}  // namespace
}  // namespace tilewright
