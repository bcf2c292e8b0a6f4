// Random attention graphs, every spelling that the generator knows, forward and backward, against differences in f64.
#include <gtest/gtest.h>

#include "ir/text.h"
#include "tests/support/gradient_case.h"
#include "tests/support/random_graph.h"

namespace tilewright::testing {
namespace {

GradientCase attention_case(const RandomCase& drawn, const Graph& graph) {
  GradientCase test;
  test.graph = graph;
  test.dims = drawn.dims;
  test.seed = drawn.seed;
  test.request.wrt = differentiable_params(graph);
  test.request.recompute = drawn.seed % 2 == 0;
  std::mt19937_64 random(drawn.seed);
  for (size_t i = 0; i < graph.params.size(); ++i) {
    const TensorType& type = graph.type(graph.params[i]);
    test.inputs.emplace_back(type.dtype, concrete_shape(type, drawn.dims), Layout::gapped, random);
    fill(test.inputs.back(), drawn.fills[i], random);
  }
  return test;
}

TEST(RandomAttention, MatchesDifferences) {
  int checked = 0;
  for (uint64_t seed = 1; checked < 500; ++seed) {
    const RandomCase drawn = random_attention(seed);
    if (multiplications(drawn) > 300'000) continue;
    SCOPED_TRACE("seed " + std::to_string(seed));
    GradientCase test = attention_case(drawn, in_f64(drawn.graph));
    ASSERT_TRUE(run_backward(test)) << print(test.graph) << print(test.gradient.backward);
    ++checked;
    // Weights that a single product consumes come from the LSE; only others would be normalised again.
    for (const Node& node : test.gradient.backward.nodes)
      EXPECT_TRUE(test.request.recompute || node.op != Op::softmax) << print(test.gradient.backward);
    expect_joint_difference(test);
    ASSERT_FALSE(HasFailure()) << print(test.graph) << print(test.gradient.backward);
  }
}

}  // namespace
}  // namespace tilewright::testing
