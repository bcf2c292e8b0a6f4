// Faults planted into what fusion made of a graph: the comparison with the oracle sees them.
#include <gtest/gtest.h>

#include <functional>

#include "compiler/gradient.h"
#include "compiler/passes.h"
#include "ir/text.h"
#include "tests/support/fusion_case.h"

namespace tilewright::testing {
namespace {

Graph causal_attention() {
  const auto graph = parse_graph(R"(
    graph @causal(%q: f64[B,4,Sq,4], %k: f64[B,2,Sk,4], %v: f64[B,2,Sk,3], %bias: f64[4,1,Sk]) -> f64[B,4,Sq,3] {
      %kh = repeat_heads %k, times=2           : f64[B,4,Sk,4]
      %vh = repeat_heads %v, times=2           : f64[B,4,Sk,3]
      %s  = matmul_nt %q, %kh                  : f64[B,4,Sq,Sk]
      %a  = mul %s, 0.375                      : f64[B,4,Sq,Sk]
      %w  = add %a, %bias                      : f64[B,4,Sq,Sk]
      %e  = mask_causal %w, align=bottom_right : f64[B,4,Sq,Sk]
      %p  = softmax %e, axis=3                 : f64[B,4,Sq,Sk]
      %o  = matmul %p, %vh                     : f64[B,4,Sq,3]
      return %o
    })");
  EXPECT_TRUE(graph) << to_string(graph.error());
  return *graph;
}

/// The DAG with the nodes that `change` touches changed.
Expr changed(const Expr& from, const std::function<void(ExprNode&)>& change) {
  Expr to;
  std::vector<ExprId> at;
  for (ExprNode node : from.nodes()) {
    for (ExprId& arg : node.args) arg = at[static_cast<size_t>(raw(arg))];
    change(node);
    at.push_back(to.add(std::move(node)));
  }
  if (raw(from.root()) >= 0) to.set_root(at[static_cast<size_t>(raw(from.root()))]);
  return to;
}

void align_to_the_top(ScoreSpace& space) {
  space.keep = changed(space.keep, [](ExprNode& node) {
    if (node.kind == ExprKind::dim) node.dim = Dim(0);
  });
  analyze_mask(space);
}

void lose_scale(ExprNode& node) {
  if (node.kind == ExprKind::constant && node.literal.real == 0.375) node.literal.real = 1;
}

/// The program agrees with the oracle before, and does not with the fault in it.
template <class StepKind, class Plant>
void expect_caught(const Graph& graph, const Plant& plant) {
  const auto canonical = canonicalize(graph);
  ASSERT_TRUE(canonical) << to_string(canonical.error());
  auto program = fuse(*canonical);
  ASSERT_TRUE(program) << to_string(program.error());
  const DimBindings dims = {{"B", 2}, {"Sq", 4}, {"Sk", 7}};
  EXPECT_EQ(difference_to_oracle(graph, *canonical, *program, dims), "");
  const std::string before = print(*program);
  for (Step& step : program->steps)
    if (auto* found = std::get_if<StepKind>(&step.what)) plant(found->spec);
  EXPECT_NE(print(*program), before) << "nothing was planted";
  EXPECT_NE(difference_to_oracle(graph, *canonical, *program, dims), "") << "the planted fault went unseen";
}

TEST(FusionPlanted, WrongMaskAlignment) { expect_caught<AttentionStep>(causal_attention(), align_to_the_top); }

TEST(FusionPlanted, LostScale) {
  expect_caught<AttentionStep>(causal_attention(),
                               [](AttentionSpec& spec) { spec.score = changed(spec.score, lose_scale); });
}

TEST(FusionPlanted, AnotherHeadsBias) {
  expect_caught<AttentionStep>(causal_attention(), [](AttentionSpec& spec) {
    spec.score = changed(spec.score, [](ExprNode& node) {
      if (node.kind == ExprKind::index && node.axis == Axis::h) node.axis = Axis::b;
    });
  });
}

class FusionPlantedBackward : public ::testing::TestWithParam<bool> {
 protected:
  static Graph backward() {
    const auto made = gradient(causal_attention(), {{}, GetParam()});
    EXPECT_TRUE(made) << to_string(made.error());
    return made->backward;
  }
};

TEST_P(FusionPlantedBackward, WrongMaskAlignment) { expect_caught<BackwardStep>(backward(), align_to_the_top); }

TEST_P(FusionPlantedBackward, LostScale) {
  expect_caught<BackwardStep>(backward(), [](BackwardSpec& spec) { spec.weights = changed(spec.weights, lose_scale); });
}

TEST_P(FusionPlantedBackward, SwappedColumns) {
  expect_caught<BackwardStep>(backward(), [](BackwardSpec& spec) {
    ASSERT_EQ(spec.columns.size(), 2u);
    std::swap(spec.columns[0].weight, spec.columns[1].weight);
  });
}

INSTANTIATE_TEST_SUITE_P(Modes, FusionPlantedBackward, ::testing::Bool(),
                         [](const auto& mode) { return mode.param ? "recompute" : "save"; });

}  // namespace
}  // namespace tilewright::testing
