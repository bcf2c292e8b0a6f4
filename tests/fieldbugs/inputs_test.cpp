// Field bug R23: data-dependent faults that Gaussian inputs hide.
#include <gtest/gtest.h>

#include "tests/support/input_family.h"
#include "tests/support/kernel_check.h"

namespace tilewright {
namespace {

using testing::AttentionGraph;
using testing::Family;
using testing::KernelCheck;

void check_families(const AttentionGraph& graph, int64_t sq) {
  for (Family family : testing::kFamilies) {
    SCOPED_TRACE(fmt::format("{} {} Sq {}", testing::to_string(family), to_string(graph.dtype), sq));
    KernelCheck check(graph.build(), {{"B", 1}, {"Sq", sq}, {"Sk", 333}}, testing::Layout::gapped, 5);
    std::mt19937_64 random(11);
    for (const char* name : {"q", "k", "v"}) testing::fill_family(check.input(name), family, random);
    check.run();
  }
}

TEST(R23, InputFamilies) {
  for (DType dtype : {DType::f32, DType::bf16, DType::f16, DType::f64}) {
    AttentionGraph graph;
    graph.dtype = dtype;
    graph.lse = true;
    graph.modify = [](GraphBuilder& g, ValueId s) { return g.mask_causal(s, CausalAlign::bottom_right); };
    check_families(graph, 70);
    graph.heads = 4;
    check_families(graph, 1);
  }
}

TEST(R23, OnlySomeFamiliesShowAMissingMaximum) {
  // The fault: exp(s) / sum(exp(s)) without subtracting the maximum is right for tame scores.
  AttentionGraph right;
  GraphBuilder g("unsafe");
  const Dim b = Dim::named("B"), sq = Dim::named("Sq"), sk = Dim::named("Sk");
  const ValueId q = g.param("q", {DType::f32, {b, 2, sq, 16}}), k = g.param("k", {DType::f32, {b, 2, sk, 16}});
  const ValueId v = g.param("v", {DType::f32, {b, 2, sk, 16}});
  const ValueId e = g.unary(Op::exp, g.binary(Op::mul, g.matmul_nt(q, k), g.constant(0.25, DType::f32)));
  g.result(g.named(g.matmul(g.binary(Op::div, e, g.reduce(Op::reduce_sum, e, 3)), v), "o"));
  KernelCheck check(right.build(), {{"B", 1}, {"Sq", 33}, {"Sk", 70}});
  std::mt19937_64 random(11);
  for (const char* name : {"q", "k", "v"}) testing::fill_family(check.input(name), Family::huge_logits, random);
  check.run();
  check.expect_caught(g.graph());
}

TEST(R23, InputFamiliesThroughSoftcap) {
  AttentionGraph graph;
  graph.modify = [](GraphBuilder& g, ValueId s) { return g.softcap(s, 30); };
  check_families(graph, 70);
}

}  // namespace
}  // namespace tilewright
