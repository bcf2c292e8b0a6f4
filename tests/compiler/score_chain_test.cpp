// The chains of additions that scores are sums of: long with the usual scale, short where nothing scales, and the same
// forward and backward.
#include "compiler/score_chain.h"

#include <gtest/gtest.h>

#include "compiler/gradient.h"
#include "compiler/passes.h"
#include "ir/text.h"
#include "tests/support/paths.h"
#include "tests/support/variant_case.h"

namespace tilewright::testing {
namespace {

template <class Step>
std::vector<int64_t> chains_of(const Graph& graph) {
  std::vector<int64_t> chains;
  const auto canonical = canonicalize(graph);
  EXPECT_TRUE(canonical) << to_string(canonical.error());
  const auto program = fuse(*canonical);
  EXPECT_TRUE(program) << to_string(program.error());
  for (const auto& step : program->steps)
    if (const auto* fused = std::get_if<Step>(&step.what)) chains.push_back(score_chain(fused->spec));
  return chains;
}

int64_t chain(const std::string& scores, int64_t columns) {
  const auto graph = parse_graph(fmt::format(R"(
    graph @g(%q: f32[Sq,{0}], %k: f32[Sk,{0}], %v: f32[Sk,8], %c: f32[]) -> f32[Sq,8] {{
      %s = matmul_nt %q, %k   : f32[Sq,Sk]
      {1}
      %p = softmax %e, axis=1 : f32[Sq,Sk]
      %o = matmul %p, %v      : f32[Sq,8]
      return %o
    }})",
                                             columns, scores));
  EXPECT_TRUE(graph) << to_string(graph.error());
  const auto chains = chains_of<AttentionStep>(*graph);
  EXPECT_EQ(chains.size(), 1u);
  return chains.empty() ? 0 : chains[0];
}

TEST(ScoreChain, IsShortWhereScoresSpread) {
  EXPECT_EQ(chain("%e = mul %s, 0.125 : f32[Sq,Sk]", 64), kLongestChain);
  EXPECT_EQ(chain("%e = mul %s, -0.125 : f32[Sq,Sk]", 64), kLongestChain);
  EXPECT_EQ(chain("%e = div %s, 8 : f32[Sq,Sk]", 64), kLongestChain);
  EXPECT_EQ(chain("%e = mul %s, 0.0442 : f32[Sq,Sk]", 512), kLongestChain);
  EXPECT_EQ(chain("%e = mul %s, 0.125 : f32[Sq,Sk]", 512), 32);
  EXPECT_EQ(chain("%e = mul %s, -1.5 : f32[Sq,Sk]", 64), 32);
  EXPECT_EQ(chain("%e = add %s, %c : f32[Sq,Sk]", 64), 32);
  EXPECT_EQ(chain("%e = mul %s, %c : f32[Sq,Sk]", 64), 32);  // nobody knows
  EXPECT_EQ(chain("%e = add %s, 0 : f32[Sq,Sk]", 64), 32);   // the bare score
  EXPECT_EQ(chain("%e = add %s, 0 : f32[Sq,Sk]", 4), kLongestChain);
  EXPECT_EQ(chain("%a = mul %s, 0.01 : f32[Sq,Sk]\n %b = mul %s, 2 : f32[Sq,Sk]\n %e = max %a, %b : f32[Sq,Sk]", 64),
            32);
}

TEST(ScoreChain, ForwardAndBackwardAgree) {
  for (const Variant& variant : variants(source_dir() + "/examples/variants")) {
    SCOPED_TRACE(variant.stem);
    const auto passes = gradient(variant.graph);
    ASSERT_TRUE(passes) << to_string(passes.error());
    const auto forward = chains_of<AttentionStep>(passes->forward),
               backward = chains_of<BackwardStep>(passes->backward);
    ASSERT_EQ(forward.size(), 1u);
    ASSERT_EQ(backward.size(), 1u);
    EXPECT_EQ(forward, backward);
    EXPECT_EQ(forward[0], variant.number == 10 ? 32 : kLongestChain);
  }
}

}  // namespace
}  // namespace tilewright::testing
