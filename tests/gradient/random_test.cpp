// Random programs of all ops, forward and backward, against differences of the oracle.
#include <gtest/gtest.h>

#include <cmath>

#include "ir/text.h"
#include "tests/support/gradient_case.h"
#include "tests/support/random_program.h"

namespace tilewright::testing {
namespace {

/// Finite and moderate, so that differences mean something.
bool is_tame(const GradientCase& test) {
  for (size_t i = 0; i < test.graph.results.size(); ++i) {
    const auto values = interpret(test.graph, test.dims, views_of(test.inputs), i, std::nullopt, Precision::oracle);
    for (long double x : values->values)
      if (!(std::abs(x) < 1e4)) return false;
  }
  for (const auto& gradient : test.gradients)
    for (long double g : gradient)
      if (!(std::abs(g) < 1e6)) return false;
  return true;
}

TEST(RandomPrograms, MatchDifferences) {
  int checked = 0, with_softmax = 0, with_load = 0;
  for (uint64_t seed = 1; seed <= 260; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    GradientCase test = make_gradient_case(random_program(seed), {{"N", 2}, {"M", 3}}, seed);
    test.request.recompute = seed % 2 == 0;
    ASSERT_TRUE(run_backward(test)) << print(test.graph) << print(test.gradient.backward);
    if (!is_tame(test)) continue;
    ++checked;
    for (const Node& node : test.gradient.backward.nodes) {
      with_softmax += node.name == "safe";
      with_load += node.op == Op::scatter_add;
    }
    expect_differences(test, 1);
    ASSERT_FALSE(HasFailure()) << print(test.graph) << print(test.gradient.backward);
  }
  EXPECT_GE(checked, 200);
  EXPECT_GE(with_softmax, 20);
  EXPECT_GE(with_load, 20);
}

}  // namespace
}  // namespace tilewright::testing
