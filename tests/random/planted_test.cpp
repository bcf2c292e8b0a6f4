// Faults planted into what the random tests run: their judges see them.
#include <gtest/gtest.h>

#include "ir/accuracy.h"
#include "ir/text.h"
#include "tests/support/random_graph.h"
#include "tests/support/random_run.h"

namespace tilewright::testing {
namespace {

/// Past + new: the new rows go to `row`, the mask says 4.
Graph step(int row) {
  const auto graph = parse_graph(fmt::format(R"(
    graph @step(%q: f32[B,2,Sq,16], inout %k: f32[B,2,N,16], %new: f32[B,2,Sq,16]) -> f32[B,2,Sq,16] {{
      %c = update %k, %new, {}, axis=2      : f32[B,2,N,16]
      %s = matmul_nt %q, %c                 : f32[B,2,Sq,N]
      %e = mask_causal %s, q_offset=4       : f32[B,2,Sq,N]
      %p = softmax %e, axis=3               : f32[B,2,Sq,N]
      %o = matmul %p, %c                    : f32[B,2,Sq,16]
      return %o
    }})",
                                             row));
  EXPECT_TRUE(graph) << to_string(graph.error());
  return *graph;
}

TEST(RandomPlanted, AnUpdateOfTheWrongRowIsSeen) {
  const Graph right = step(4), wrong = step(5);
  const DimBindings dims = {{"B", 2}, {"Sq", 3}, {"N", 9}};
  std::mt19937_64 random(1);
  RandomCase drawn;
  drawn.graph = right;
  drawn.dims = dims;
  drawn.fills.resize(right.params.size());
  const std::vector<TestTensor> inputs = draw_inputs(drawn, random);
  auto judge = OutputJudge::create(right, dims, views_of(inputs));
  ASSERT_TRUE(judge) << to_string(judge.error());
  for (const Way& way : all_ways())
    for (const Graph* run : {&right, &wrong}) {
      const auto kernel = way.engine.compile(*run, way.options);
      ASSERT_TRUE(kernel) << to_string(kernel.error());
      const auto written = run_on_poison(*kernel, dims, inputs, random);
      ASSERT_TRUE(written) << to_string(written.error());
      EXPECT_EQ(check_written_params(right, dims, inputs, written->params).empty(), run == &right) << way.name;
      const auto reports = judge->judge(views_of(written->outputs));
      ASSERT_TRUE(reports) << to_string(reports.error());
      EXPECT_EQ(reports->at(0).pass, run == &right) << way.name;
    }
}

}  // namespace
}  // namespace tilewright::testing
