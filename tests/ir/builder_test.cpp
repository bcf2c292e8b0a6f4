#include <gtest/gtest.h>

#include "ir/verify.h"
#include "tests/ir/spec_text_case.h"

namespace tilewright {
namespace {

using testing::kB;
using testing::kSk;
using testing::kSq;

TEST(GraphBuilder, BuildsAGraphThatVerifies) {
  GraphBuilder b("causal");
  const ValueId q = b.param("q", {DType::bf16, {kB, 32, kSq, 128}});
  const ValueId k = b.param("k", {DType::bf16, {kB, 8, kSk, 128}});
  const ValueId v = b.param("v", {DType::bf16, {kB, 8, kSk, 128}});
  ValueId s = b.named(b.matmul_nt(q, b.repeat_heads(k, 4)), "s");
  EXPECT_EQ(to_string(b.graph().type(s)), "f32[B,32,Sq,Sk]");
  s = b.binary(Op::mul, s, b.constant(0.125, DType::f32));
  s = b.mask_causal(s, CausalAlign::bottom_right);
  const ValueId p = b.cast(b.softmax(s, 3), DType::bf16);
  b.result(b.cast(b.matmul(p, b.repeat_heads(v, 4)), DType::bf16));
  const Graph graph = b.take();
  EXPECT_EQ(to_string(verify(graph)), "");
  EXPECT_EQ(to_string(graph.type(graph.results[0])), "bf16[B,32,Sq,128]");
}

TEST(GraphBuilder, MakesNamesUnique) {
  GraphBuilder b("names");
  const ValueId x = b.param("x", {DType::f32, {4}});
  const ValueId y = b.named(b.unary(Op::exp, x), "x");
  const ValueId z = b.unary(Op::exp, y);
  EXPECT_EQ(b.graph()[y].name, "x_1");
  EXPECT_EQ(b.graph()[z].name, "2");
}

TEST(GraphBuilder, WrongCombinationsAreReportedByVerifyOnly) {
  GraphBuilder b("wrong");
  const ValueId x = b.param("x", {DType::f32, {4}});
  const ValueId y = b.param("y", {DType::f16, {4}});
  b.result(b.named(b.binary(Op::add, x, y), "sum"));
  EXPECT_EQ(to_string(verify(b.graph())),
            "%sum: add needs operands of one dtype, but %x is f32[4] and %y is f16[4]; insert a cast");
}

}  // namespace
}  // namespace tilewright
