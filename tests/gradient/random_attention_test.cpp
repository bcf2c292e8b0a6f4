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
  test.request.recompute = drawn.seed % 2 == 0;
  std::mt19937_64 random(drawn.seed);
  for (size_t i = 0; i < graph.params.size(); ++i) {
    const TensorType& type = graph.type(graph.params[i]);
    test.inputs.emplace_back(type.dtype, concrete_shape(type, drawn.dims), Layout::gapped, random);
    fill(test.inputs.back(), drawn.fills[i], random);
  }
  return test;
}

/// Multiplications of all products: what interpreting costs.
int64_t products(const RandomCase& drawn) {
  int64_t sum = 0;
  for (const Node& node : drawn.graph.nodes) {
    if (info(node.op).group != OpGroup::contract) continue;
    int64_t count = 1;
    for (int64_t size : concrete_shape(node.type, drawn.dims)) count *= size;
    sum += count * *drawn.graph.type(node.operands[0]).shape.back().evaluate(drawn.dims);
  }
  return sum;
}

TEST(RandomAttention, MatchesDifferences) {
  int checked = 0;
  for (uint64_t seed = 1; checked < 500; ++seed) {
    const RandomCase drawn = random_attention(seed);
    if (products(drawn) > 300'000) continue;
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
