#include <gtest/gtest.h>

#include "ir/verify.h"
#include "tests/support/random_graph.h"

namespace tilewright::testing {
namespace {

TEST(RandomGraphs, AllVerify) {
  for (uint64_t seed = 0; seed < 3000; ++seed) {
    const RandomCase c = random_attention(seed);
    ASSERT_EQ(c.fills.size(), c.graph.params.size());
    const Diagnostics wrong = verify(c.graph);
    ASSERT_TRUE(wrong.empty()) << "seed " << seed << ": " << to_string(wrong);
  }
}

}  // namespace
}  // namespace tilewright::testing
