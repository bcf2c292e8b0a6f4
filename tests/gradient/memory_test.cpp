// Backward passes take O(S) memory: what a kernel says that it needs, for sizes that no test runs.
#include <gtest/gtest.h>

#include "compiler/gradient.h"
#include "ir/text.h"
#include "runtime/engine.h"

namespace tilewright::testing {
namespace {

TEST(BackwardMemory, IsLinearInTheSequence) {
  auto graph = parse_graph(R"(
graph @attention(%q: f32[B,1,S,64], %k: f32[B,1,S,64], %v: f32[B,1,S,64]) -> f32[B,1,S,64] {
  %s = matmul_nt %q, %k                : f32[B,1,S,S]
  %a = mul %s, 0.125                   : f32[B,1,S,S]
  %e = mask_causal %a, align=top_left  : f32[B,1,S,S]
  %p = softmax %e, axis=3              : f32[B,1,S,S]
  %o = matmul %p, %v                   : f32[B,1,S,64]
  return %o
})");
  ASSERT_TRUE(graph) << to_string(graph.error());
  const auto engine = Engine::create({.threads = 2});
  ASSERT_TRUE(engine);
  for (const bool recompute : {false, true}) {
    SCOPED_TRACE(recompute ? "recompute" : "saved");
    const auto gradients = gradient(*graph, {{"q", "k", "v"}, recompute});
    ASSERT_TRUE(gradients) << to_string(gradients.error());
    const auto kernel = engine->compile(gradients->backward);
    ASSERT_TRUE(kernel) << to_string(kernel.error());
    ASSERT_EQ(kernel->stats().fused_backwards, 1);
    const auto bytes = [&](int64_t size) {
      const auto estimate = kernel->memory_estimate({{"B", 1}, {"S", size}}, 2);
      EXPECT_TRUE(estimate);
      return estimate->scratch + estimate->workspace;
    };
    // Recomputing keeps O of the forward pass beside what saving needs.
    const int64_t recomputed = recompute ? int64_t{65536} * 64 * 4 : 0;
    EXPECT_LE(bytes(65536), (int64_t{16} << 20) + recomputed);
    EXPECT_LE(bytes(131072) - bytes(65536), bytes(65536));
    EXPECT_EQ(bytes(131072) - bytes(65536), (bytes(196608) - bytes(131072)));
  }
}

}  // namespace
}  // namespace tilewright::testing
