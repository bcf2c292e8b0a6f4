// A policy goes with the products it is about: through canonicalisation, gradient() and fusion, and to no other.
#include <gtest/gtest.h>

#include "compiler/gradient.h"
#include "compiler/passes.h"
#include "ir/text.h"

namespace tilewright {
namespace {

/// Attention of q, k, v of `type`, with P cast to `weights` and V with it, behind a projection of the output.
Graph attention(DType type, DType weights, std::optional<PrecisionPolicy> policy) {
  GraphBuilder g("layer");
  g.precision(policy);
  const Dim b = Dim::named("B"), s = Dim::named("S");
  const TensorType in{type, {b, 2, s, 16}};
  const ValueId q = g.param("q", in), k = g.param("k", in), v = g.param("v", in), w = g.param("w", {type, {16, 24}});
  const ValueId p = g.softmax(g.matmul_nt(q, k), 3);
  const auto as = [&](ValueId x, DType to) { return g.graph().type(x).dtype == to ? x : g.cast(x, to); };
  const ValueId o = as(g.matmul(as(p, weights), as(v, weights)), type);
  g.result(g.named(g.matmul(o, w), "y"));
  return g.take();
}

Program fused(const Graph& graph) {
  auto canonical = canonicalize(graph);
  EXPECT_TRUE(canonical) << to_string(canonical.error());
  EXPECT_EQ(canonical->precision, graph.precision);
  auto program = fuse(*canonical);
  EXPECT_TRUE(program) << to_string(program.error());
  return *program;
}

template <class T>
const T* find_step(const Program& program) {
  for (const Step& step : program.steps)
    if (const auto* found = std::get_if<T>(&step.what)) return found;
  ADD_FAILURE() << print(program);
  return nullptr;
}

TEST(Precision, ReachesEveryKindOfStep) {
  for (const PrecisionPolicy policy : kPrecisionPolicies) {
    const Graph graph = attention(DType::f32, DType::f32, policy);
    const Program program = fused(graph);
    EXPECT_EQ(find_step<AttentionStep>(program)->spec.precision, policy);
    EXPECT_EQ(find_step<LoopStep>(program)->precision, policy);
    const auto gradient = tilewright::gradient(graph);
    ASSERT_TRUE(gradient) << to_string(gradient.error());
    EXPECT_EQ(gradient->forward.precision, policy);
    EXPECT_EQ(gradient->backward.precision, policy);
    EXPECT_EQ(find_step<BackwardStep>(fused(gradient->backward))->spec.precision, policy);
    const bool said = print(program).find(to_string(policy)) != std::string::npos;
    EXPECT_TRUE(said || policy == PrecisionPolicy::f32);
  }
  EXPECT_EQ(find_step<AttentionStep>(fused(attention(DType::f32, DType::f32, {})))->spec.precision,
            PrecisionPolicy::f32);
}

TEST(Precision, TouchesNoProductsOfOtherTypes) {
  for (const DType type : {DType::f64, DType::bf16, DType::f16}) {
    const Program program = fused(attention(type, type, PrecisionPolicy::bf16));
    EXPECT_EQ(find_step<AttentionStep>(program)->spec.precision, PrecisionPolicy::f32);
    EXPECT_EQ(find_step<LoopStep>(program)->precision, PrecisionPolicy::f32);
  }
  // P of f32 meets V cast up: that product is one of f32.
  const AttentionSpec mixed =
      find_step<AttentionStep>(fused(attention(DType::bf16, DType::f32, PrecisionPolicy::f32_x3)))->spec;
  EXPECT_EQ(mixed.precision, PrecisionPolicy::f32_x3);
  EXPECT_EQ(mixed.weights, DType::f32);
}

TEST(Precision, WhatIsDeclaredNarrowMayBeRounded) {
  const Graph graph = attention(DType::bf16, DType::bf16, {});
  EXPECT_EQ(find_step<AttentionStep>(fused(graph))->spec.weights, DType::bf16);
  EXPECT_EQ(find_step<AttentionStep>(fused(attention(DType::f64, DType::f64, {})))->spec.weights, DType::f32);
  const auto gradient = tilewright::gradient(graph);
  ASSERT_TRUE(gradient) << to_string(gradient.error());
  const BackwardSpec spec = find_step<BackwardStep>(fused(gradient->backward))->spec;
  ASSERT_EQ(spec.rows.size() + spec.columns.size(), 3u);
  for (const auto* products : {&spec.rows, &spec.columns})
    for (const BackwardProduct& product : *products) EXPECT_EQ(product.rounding, DType::bf16);
  EXPECT_EQ(spec.precision, PrecisionPolicy::f32);
  EXPECT_EQ(print(*parse_backward(print(spec))), print(spec));
}

TEST(Precision, RotatedRowsAreRoundedAsTheyAreDeclared) {
  GraphBuilder g("rotated");
  const Dim s = Dim::named("S");
  const ValueId q = g.param("q", {DType::bf16, {1, 2, s, 16}}), k = g.param("k", {DType::bf16, {1, 2, s, 16}});
  const ValueId v = g.param("v", {DType::bf16, {1, 2, s, 16}}), angle = g.param("angle", {DType::f32, {s, 16}});
  const auto turned = [&](ValueId x) { return g.binary(Op::mul, g.cast(x, DType::f32), angle); };
  const ValueId scores = g.matmul_nt(g.cast(turned(q), DType::bf16), g.cast(turned(k), DType::bf16));
  g.result(g.named(g.matmul(g.cast(g.softmax(scores, 3), DType::bf16), v), "o"));
  const AttentionSpec spec = find_step<AttentionStep>(fused(g.take()))->spec;
  ASSERT_TRUE(spec.dots[0].query_row && spec.dots[0].key_row) << print(spec);
  EXPECT_EQ(spec.dots[0].query_row->dtype, DType::bf16);
  EXPECT_EQ(spec.dots[0].key_row->dtype, DType::bf16);
  EXPECT_EQ(print(*parse_attention(print(spec))), print(spec));
}

}  // namespace
}  // namespace tilewright
