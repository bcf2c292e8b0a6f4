// Random graphs, and the attentions they fuse to, print, parse back, and verify as before.
#include <gtest/gtest.h>

#include "compiler/passes.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "tests/support/random_graph.h"

namespace tilewright {
namespace {

constexpr uint64_t kCases = 300;

TEST(RandomText, GraphsRoundTrip) {
  for (uint64_t seed = 0; seed < kCases; ++seed) {
    const Graph graph = testing::random_attention(seed).graph;
    ASSERT_EQ(to_string(verify(graph)), "") << "seed " << seed;
    const std::string once = print(graph);
    const auto again = parse_graph(once);
    ASSERT_TRUE(again) << "seed " << seed << "\n" << to_string(again.error()) << "\n" << once;
    ASSERT_EQ(print(*again), once) << "seed " << seed;
    ASSERT_EQ(to_string(verify(*again)), "") << "seed " << seed;
    ASSERT_EQ(again->params.size(), graph.params.size());
    for (size_t i = 0; i < graph.results.size(); ++i)
      ASSERT_EQ(again->type(again->results[i]), graph.type(graph.results[i])) << "seed " << seed;
  }
}

TEST(RandomText, AttentionsRoundTrip) {
  int attentions = 0;
  for (uint64_t seed = 0; seed < kCases; ++seed) {
    const auto canonical = canonicalize(testing::random_attention(seed).graph);
    ASSERT_TRUE(canonical) << "seed " << seed << "\n" << to_string(canonical.error());
    const auto program = fuse(*canonical);
    ASSERT_TRUE(program) << "seed " << seed << "\n" << to_string(program.error());
    for (const Step& step : program->steps) {
      const auto* attention = std::get_if<AttentionStep>(&step.what);
      if (!attention) continue;
      ++attentions;
      const std::string once = print(attention->spec);
      ASSERT_EQ(to_string(verify(attention->spec)), "") << "seed " << seed << "\n" << once;
      const auto again = parse_attention(once);
      ASSERT_TRUE(again) << "seed " << seed << "\n" << to_string(again.error()) << "\n" << once;
      ASSERT_EQ(print(*again), once) << "seed " << seed;
      ASSERT_EQ(to_string(verify(*again)), "") << "seed " << seed;
    }
  }
  EXPECT_GT(attentions, static_cast<int>(kCases) / 2);
}

}  // namespace
}  // namespace tilewright
