// Every load form of the emitter against the oracle's evaluate: dtypes, layouts, indices out of range, boxes.
#include <gtest/gtest.h>

#include "tests/support/expr_scene.h"

namespace tilewright::testing {
namespace {

TEST(ExprEmitter, LoadsOfEveryTypeAndLayout) {
  std::mt19937_64 random(11);
  const auto c = [](Expr& e, int64_t v) { return e.constant_int(v, DType::i64); };
  for (DType dtype :
       {DType::f64, DType::f32, DType::f16, DType::bf16, DType::i64, DType::i32, DType::i8, DType::boolean})
    for (Layout layout : {Layout::contiguous, Layout::permuted, Layout::gapped, Layout::reversed})
      for (int form = 0; form < 8; ++form) {
        if (layout == Layout::permuted && form % 2) continue;
        Scene scene;
        scene.scores.assign(kExtent, 0);
        const int t = scene.add(dtype, form == 6 ? std::vector<int64_t>{1, kExtent} : std::vector<int64_t>{6, kExtent},
                                layout, random);
        const int empty = scene.add(dtype, {0, 4}, Layout::contiguous, random);
        for (int64_t i = 0; i < scene.tensors[0].size(); ++i)
          scene.tensors[0].set(i, is_float(dtype)           ? static_cast<double>(i) / 8 - 9
                                  : dtype == DType::boolean ? i % 3 == 0
                                                            : static_cast<double>(i % 100 - 50));
        Expr& e = scene.expr;
        ExprId kv = e.index(Axis::kv), q = e.index(Axis::q);
        auto op = [&](Op o, ExprId a, ExprId b) { return e.op(o, DType::i64, {a, b}); };
        ExprId value{};
        switch (form) {
          case 0: value = e.load(t, dtype, {q, kv}, true); break;
          case 1: value = e.load(t, dtype, {q, op(Op::sub, kv, c(e, 9))}, false); break;
          case 2: value = e.load(t, dtype, {op(Op::mod, kv, c(e, 5)), op(Op::mul, kv, kv)}, false); break;
          case 3: value = e.load(t, dtype, {op(Op::sub, q, c(e, 100)), op(Op::div, kv, c(e, 2))}, false); break;
          case 4: value = e.load(t, dtype, {q, op(Op::sub, c(e, kExtent - 1), kv)}, true); break;
          case 5: value = e.load(t, dtype, {c(e, INT64_MAX), c(e, INT64_MIN)}, false); break;
          case 6: value = e.load(t, dtype, {c(e, 0), op(Op::shl, kv, c(e, 40))}, false); break;
          default: value = e.load(empty, dtype, {kv, q}, false); break;
        }
        e.set_root(value);
        SCOPED_TRACE(std::string(to_string(dtype)) + " layout " + std::to_string(static_cast<int>(layout)) + " form " +
                     std::to_string(form));
        check_scene(scene);
        if (HasFatalFailure()) return;
      }
}

TEST(ExprEmitter, BoxMinimaAndMaxima) {
  std::mt19937_64 random(13);
  for (DType dtype : {DType::i32, DType::i64, DType::f32, DType::boolean})
    for (Layout layout : {Layout::contiguous, Layout::gapped})
      for (ExprKind kind : {ExprKind::load_min, ExprKind::load_max}) {
        Scene scene;
        scene.scores.assign(kExtent, 0);
        const int t = scene.add(dtype, {6, 50}, layout, random);
        for (int64_t i = 0; i < scene.tensors[0].size(); ++i)
          scene.tensors[0].set(i, dtype == DType::boolean ? random() % 2 : static_cast<double>(random() % 2000) - 1000);
        Expr& e = scene.expr;
        ExprNode node;
        node.kind = kind, node.dtype = dtype, node.tensor = t;
        node.args = {e.index(Axis::q_lo), e.index(Axis::kv_lo), e.index(Axis::q_hi),
                     e.op(Op::add, DType::i64, {e.index(Axis::kv_hi), e.constant_int(100, DType::i64)})};
        e.set_root(e.add(node));
        check_scene(scene);
        if (HasFatalFailure()) return;
      }
}

}  // namespace
}  // namespace tilewright::testing
