// Every op and dtype of the emitter against the oracle's evaluate, on 1, 8 and 16 lanes and both ISAs.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/expr_scene.h"

namespace tilewright::testing {
namespace {

TEST(ExprEmitter, FloatOps) {
  const Op unary[] = {Op::neg,     Op::abs, Op::exp,  Op::exp2,  Op::log,  Op::tanh,
                      Op::sigmoid, Op::erf, Op::sqrt, Op::rsqrt, Op::floor};
  const Op binary[] = {Op::add, Op::sub, Op::mul, Op::div, Op::mod, Op::min, Op::max};
  const Op comparisons[] = {Op::eq, Op::ne, Op::lt, Op::le, Op::gt, Op::ge};
  for (DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    const double tolerance = dtype == DType::f64 ? 1e-15 : 6e-7;
    const DType score_type = dtype == DType::f64 ? DType::f64 : DType::f32;
    auto scene_of = [&](auto&& body) {
      Scene scene;
      fill_scores(scene);
      // Results below the normal range may be 0 and huge ones inf in f32: keep arguments in the middle.
      body(scene.expr);
      return scene;
    };
    for (Op op : unary) {
      SCOPED_TRACE(std::string(info(op).name) + " " + std::string(to_string(dtype)));
      check_scene(scene_of([&](Expr& e) { e.set_root(e.op(op, dtype, {e.score(score_type)})); }), tolerance);
      if (HasFatalFailure()) return;
    }
    for (Op op : binary) {
      SCOPED_TRACE(std::string(info(op).name) + " " + std::string(to_string(dtype)));
      for (double other : {2.5, -1.0, double(NAN)})
        for (bool left : {false, true}) {
          if (op == Op::mod && std::isfinite(other)) continue;
          check_scene(scene_of([&](Expr& e) {
                        ExprId s = e.score(score_type), c = e.constant(other, dtype);
                        e.set_root(left ? e.op(op, dtype, {c, s}) : e.op(op, dtype, {s, c}));
                      }),
                      tolerance);
          if (HasFatalFailure()) return;
        }
    }
    for (Op op : comparisons)
      for (double other : {1.0, double(NAN)}) {
        Scene scene = scene_of([&](Expr& e) {
          ExprId c = e.op(op, DType::boolean, {e.score(score_type), e.constant(other, dtype)});
          e.set_root(e.op(Op::select, dtype, {c, e.constant(1, dtype), e.constant(2, dtype)}));
        });
        check_scene(scene);
        if (HasFatalFailure()) return;
      }
    for (DType to : {DType::i64, DType::i32, DType::i8, DType::boolean}) {
      // Through select, so that the oracle's float evaluation carries the score.
      Scene scene = scene_of([&](Expr& e) {
        ExprId whole = e.op(Op::cast, to, {e.score(score_type)});
        e.set_root(e.op(Op::cast, DType::f64, {whole}));
      });
      SCOPED_TRACE(std::string("cast to ") + std::string(to_string(to)));
      check_scene(scene, 1.2e-16);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(ExprEmitter, FloatMod) {
  Scene scene;
  fill_scores(scene);
  for (double& s : scene.scores)
    if (!(std::fabs(s) < 1000)) s = 7.25;
  Expr& e = scene.expr;
  e.set_root(e.op(Op::mod, DType::f32, {e.score(DType::f32), e.constant(1.5, DType::f32)}));
  check_scene(scene, 1e-4);
}

TEST(ExprEmitter, IntegerOps) {
  const Op binary[] = {Op::add, Op::sub, Op::mul, Op::div,         Op::mod,        Op::min,
                       Op::max, Op::shl, Op::shr, Op::logical_and, Op::logical_or, Op::logical_xor};
  const Op comparisons[] = {Op::eq, Op::ne, Op::lt, Op::le, Op::gt, Op::ge};
  const Op unary[] = {Op::neg, Op::abs, Op::logical_not};
  std::mt19937_64 random(3);
  for (DType dtype : {DType::i64, DType::i32, DType::i8}) {
    const int64_t least = dtype == DType::i64 ? INT64_MIN : dtype == DType::i32 ? INT32_MIN : INT8_MIN;
    auto scene_of = [&](int kinds, Op op, DType result, bool two) {
      Scene scene;
      scene.scores.assign(kExtent, 0);
      const int table = scene.add(dtype, {kExtent}, Layout::contiguous, random);
      const int second = scene.add(dtype, {kExtent}, Layout::gapped, random);
      for (int64_t i = 0; i < kExtent; ++i) {
        const int64_t values[] = {least, least + 1, -1 - least, -1, 0, 1, 2, -2, 3, 7, -7, 63, 64, 100, -100};
        auto put = [&](TestTensor& t, int64_t value) {
          void* p = static_cast<char*>(t.view().data) + i * t.view().strides[0] * size_of(dtype);
          if (dtype == DType::i64) *static_cast<int64_t*>(p) = value;
          if (dtype == DType::i32) *static_cast<int32_t*>(p) = static_cast<int32_t>(value);
          if (dtype == DType::i8) *static_cast<int8_t*>(p) = static_cast<int8_t>(value);
        };
        put(scene.tensors[0], values[random() % 15]);
        put(scene.tensors[1], values[random() % 15]);
      }
      Expr& e = scene.expr;
      ExprId kv = e.index(Axis::kv), q = e.index(Axis::q);
      auto operand = [&](int kind, int t) {
        switch (kind) {
          case 0: return e.load(t, dtype, {kv}, true);
          case 1: return e.load(t, dtype, {q}, false);  // uniform
          case 2: return dtype == DType::i8 ? e.load(t, dtype, {kv}, true) : e.index(Axis::kv, dtype);
          case 3: return e.constant_int(t == 0 ? 100 : 8, dtype);
          case 4: return e.constant_int(t == 0 ? -5 : 7, dtype);
          default: return e.constant_int(t == 0 ? least : 0, dtype);
        }
      };
      ExprId a = operand(kinds % 6, table), b2 = operand(kinds / 6, second);
      e.set_root(two ? e.op(op, result, {a, b2}) : e.op(op, result, {a}));
      return scene;
    };
    for (int kinds = static_cast<int>(dtype) % 5; kinds < 36; kinds += 5) {
      for (Op op : binary) {
        SCOPED_TRACE(std::string(info(op).name) + " " + std::string(to_string(dtype)) + " operands " +
                     std::to_string(kinds));
        check_scene(scene_of(kinds, op, dtype, true));
        if (HasFatalFailure()) return;
      }
      if (kinds % 2 == 0)
        for (Op op : comparisons) {
          SCOPED_TRACE(std::string(info(op).name) + " " + std::string(to_string(dtype)) + " operands " +
                       std::to_string(kinds));
          check_scene(scene_of(kinds, op, DType::boolean, true));
          if (HasFatalFailure()) return;
        }
      if (kinds < 12)
        for (Op op : unary) {
          SCOPED_TRACE(std::string(info(op).name) + " " + std::string(to_string(dtype)) + " operands " +
                       std::to_string(kinds));
          check_scene(scene_of(kinds, op, dtype, false));
          if (HasFatalFailure()) return;
        }
    }
    for (DType to : {DType::i64, DType::i32, DType::i8, DType::boolean, DType::f32, DType::f64})
      for (int kinds : {0, 1, 2}) {
        SCOPED_TRACE(std::string("cast ") + std::string(to_string(dtype)) + " to " + std::string(to_string(to)));
        check_scene(scene_of(kinds, Op::cast, to, false), to == DType::f32 ? 6e-8 : to == DType::f64 ? 1.2e-16 : 0);
        if (HasFatalFailure()) return;
      }
  }
}

/// rest ± kv compared with limits from all over the integers.
TEST(ExprEmitter, ThresholdsAreExactForAllBases) {
  std::mt19937_64 random(5);
  const int64_t limits[] = {INT64_MIN,
                            INT64_MIN + 5,
                            -(int64_t{1} << 33),
                            INT32_MIN,
                            -40,
                            -1,
                            0,
                            1,
                            15,
                            16,
                            17,
                            36,
                            37,
                            INT32_MAX - 1,
                            INT32_MAX,
                            int64_t{1} << 31,
                            int64_t{1} << 40,
                            INT64_MAX - 3,
                            INT64_MAX};
  for (int64_t limit : limits)
    for (int64_t rest :
         {int64_t{0}, int64_t{-7}, int64_t{1} << 34, -(int64_t{1} << 34), INT64_MAX - 10, INT64_MIN + 3}) {
      const Op op = std::array{Op::lt, Op::ge, Op::eq, Op::le, Op::gt, Op::ne}[random() % 6];
      Scene scene;
      scene.scores.assign(kExtent, 0);
      Expr& e = scene.expr;
      ExprId kv = e.index(Axis::kv), c = e.constant_int(rest, DType::i64), l = e.constant_int(limit, DType::i64);
      const int shape = static_cast<int>(random() % 4);
      ExprId line = shape % 2 ? e.op(Op::sub, DType::i64, {c, kv}) : e.op(Op::add, DType::i64, {kv, c});
      e.set_root(shape < 2 ? e.op(op, DType::boolean, {line, l}) : e.op(op, DType::boolean, {l, line}));
      SCOPED_TRACE("limit " + std::to_string(limit) + " rest " + std::to_string(rest) + " shape " +
                   std::to_string(shape));
      check_scene(scene);
      if (HasFatalFailure()) return;
    }
}

}  // namespace
}  // namespace tilewright::testing
