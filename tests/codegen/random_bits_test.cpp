// Philox as the emitter writes it, against the oracle's.
#include <gtest/gtest.h>

#include "tests/support/expr_scene.h"

namespace tilewright::testing {
namespace {

/// Philox along the lanes: aligned and not, scaled positions, other operands that vary, with wide and narrow consumers.
TEST(ExprEmitter, RandomBits) {
  std::mt19937_64 random(11);
  const auto i64 = [](Expr& e, int64_t value) { return e.constant_int(value, DType::i64); };
  const auto binary = [](Expr& e, Op op, ExprId a, ExprId b) { return e.op(op, DType::i64, {a, b}); };
  for (int shape = 0; shape < 8; ++shape)
    for (int consumer = 0; consumer < 5; ++consumer) {
      Scene scene;
      const int seed = scene.add(DType::i64, {}, Layout::contiguous, random);
      scene.tensors[0].set(0, -123456789012345.0);
      scene.scores.assign(kExtent + 64, 0);
      Expr& e = scene.expr;
      const ExprId key = e.load(seed, DType::i64, {}, true), q = e.index(Axis::q), kv = e.index(Axis::kv);
      std::vector<ExprId> args{key, i64(e, 3), binary(e, Op::add, e.index(Axis::h), e.index(Axis::b)), q, kv};
      if (shape == 1) args[4] = binary(e, Op::add, kv, i64(e, 4));
      if (shape == 2) args[4] = binary(e, Op::add, kv, q);
      if (shape == 3) args[4] = binary(e, Op::mul, kv, i64(e, 2));
      if (shape == 4) std::swap(args[3], args[4]);
      if (shape == 5) args[0] = kv, args[4] = q;
      if (shape == 6) args[4] = binary(e, Op::sub, i64(e, 5), kv);
      if (shape == 7) args[4] = q;
      ExprId bits = e.op(Op::random_bits, DType::i64, args);
      const auto test = [&](Op op, int64_t limit) { return e.op(op, DType::boolean, {bits, i64(e, limit)}); };
      if (consumer == 1) bits = test(Op::ge, 0x80000001);
      if (consumer == 2) bits = test(Op::lt, 0x19999999);
      if (consumer == 3) bits = test(Op::gt, -1);
      if (consumer == 4) bits = binary(e, Op::shr, bits, i64(e, 9));
      e.set_root(bits);
      check_scene(scene, 0, true);
      if (HasFatalFailure() || HasFailure()) FAIL() << "shape " << shape << " consumer " << consumer;
    }
}

}  // namespace
}  // namespace tilewright::testing
