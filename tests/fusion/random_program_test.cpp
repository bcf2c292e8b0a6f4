// Any verified graph runs: random graphs of all ops with no attention in mind, program = oracle.
#include "tests/support/random_program.h"

#include <gtest/gtest.h>

#include "ir/text.h"
#include "tests/support/fusion_case.h"

namespace tilewright::testing {
namespace {

TEST(RandomPrograms, AnyVerifiedGraphRuns) {
  int with_attention = 0;
  for (uint64_t seed = 0; seed < 1500; ++seed) {
    const Graph graph = random_program(seed);
    const Program program = fuse_and_check(graph, {{"N", 2}, {"M", 3}});
    with_attention += !attentions(program).empty();
    if (HasFailure()) FAIL() << "seed " << seed << "\n" << print(graph);
  }
  EXPECT_GT(with_attention, 200);
}

}  // namespace
}  // namespace tilewright::testing
