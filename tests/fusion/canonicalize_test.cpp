// Sugar expands to what the semantics page says; no-ops, duplicates and dead nodes go; softmax is raised.
#include <gtest/gtest.h>

#include <algorithm>

#include "compiler/passes.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "tests/support/fusion_case.h"

namespace tilewright::testing {
namespace {

Graph canonical(const std::string& source) {
  auto graph = parse_graph(source);
  EXPECT_TRUE(graph.ok()) << (graph ? "" : to_string(graph.error()));
  if (!graph) return {};
  EXPECT_EQ(to_string(verify(*graph)), "");
  auto out = canonicalize(*graph);
  EXPECT_TRUE(out.ok());
  EXPECT_EQ(to_string(verify(*out)), "") << print(*out);
  return std::move(*out);
}

int count(const Graph& graph, Op op) {
  return static_cast<int>(
      std::count_if(graph.nodes.begin(), graph.nodes.end(), [op](const Node& node) { return node.op == op; }));
}

TEST(Canonicalize, SugarMeansTheSame) {
  for (const char* op :
       {"mask_causal %s, align=top_left", "mask_causal %s, align=bottom_right", "mask_causal %s, q_offset=%off",
        "mask_causal %s, q_offset=%one", "mask_window %s, left=2, right=0, align=bottom_right",
        "mask_window %s, left=1, right=1, align=top_left", "mask_window %s, left=-1, right=1, q_offset=%off",
        "mask_window %s, left=-1, right=-1, align=top_left", "alibi %s, align=bottom_right",
        "alibi %s, slopes=%m, q_offset=%off", "softcap %s, cap=3.0", "softcap %s, cap=0.0"}) {
    for (const char* heads : {"1", "4", "6", "12"}) {
      const std::string h = heads;
      const Program program = fuse_and_check(
          "graph @g(%s: f32[B," + h + ",Sq,Sk], %off: i32[B], %one: i64[], %m: f32[" + h + "]) -> f32[B," + h +
              ",Sq,Sk] {\n  %x = " + op + " : f32[B," + h + ",Sq,Sk]\n  return %x\n}\n",
          {{"B", 2}, {"Sq", 4}, {"Sk", 6}});
      EXPECT_EQ(program.steps.size(), 1u) << op;
    }
  }
}

TEST(Canonicalize, NoSugarIsLeft) {
  const Graph g = canonical(
      "graph @g(%s: f32[B,4,Sq,Sk]) -> f32[B,4,Sq,Sk] {\n  %a = softcap %s, cap=5 : f32[B,4,Sq,Sk]\n"
      "  %b = alibi %a, align=top_left : f32[B,4,Sq,Sk]\n  %c = mask_causal %b, align=top_left : f32[B,4,Sq,Sk]\n"
      "  return %c\n}\n");
  for (const Node& node : g.nodes) EXPECT_NE(info(node.op).group, OpGroup::sugar);
  EXPECT_EQ(count(g, Op::index), 3);  // q, kv and the head, each once
}

TEST(Canonicalize, NoOpsDuplicatesAndDeadNodesGo) {
  const Graph g = canonical(
      "graph @g(%a: bf16[B,4,S]) -> bf16[B,4,S] {\n  %dead = exp %a : bf16[B,4,S]\n"
      "  %up = cast %a : f32[B,4,S]\n  %down = cast %up : bf16[B,4,S]\n  %same = cast %down : bf16[B,4,S]\n"
      "  %t = transpose %same, perm=[1,0,2] : bf16[4,B,S]\n  %u = transpose %t, perm=[1,0,2] : bf16[B,4,S]\n"
      "  %r = reshape %u : bf16[B,2,2,S]\n  %w = reshape %r : bf16[B,4,S]\n"
      "  %sl = slice %w, axis=2, begin=0, end=S : bf16[B,4,S]\n  %rep = repeat_heads %sl, times=1 : bf16[B,4,S]\n"
      "  %x = neg %rep : bf16[B,4,S]\n  %y = neg %a : bf16[B,4,S]\n  %z = add %x, %y : bf16[B,4,S]\n  return %z\n}\n");
  EXPECT_EQ(g.nodes.size(), 3u) << print(g);
}

TEST(Canonicalize, RoundingCastsStay) {
  const Graph g = canonical(
      "graph @g(%a: f32[N]) -> f32[N] {\n  %d = cast %a : bf16[N]\n  %u = cast %d : f32[N]\n  return %u\n}\n");
  EXPECT_EQ(count(g, Op::cast), 2);
}

TEST(Canonicalize, ConstantsFold) {
  const Graph g = canonical(
      "graph @g(%a: f32[N]) -> f32[N] {\n  %r = sqrt 64.0 : f32[]\n  %c = div 1.0, %r : f32[]\n"
      "  %x = mul %a, %c : f32[N]\n  return %x\n}\n");
  EXPECT_EQ(g.nodes.size(), 3u) << print(g);
  EXPECT_NE(print(g).find("mul %a, 0.125"), std::string::npos) << print(g);
}

TEST(Canonicalize, RaisesOnlyCompleteSoftmax) {
  const std::string head = "graph @g(%s: f32[N,M]) -> f32[N,M] {\n  %m = reduce_max %s, axis=";
  const std::string tail =
      "  %d = sub %s, %m : f32[N,M]\n  %e = exp %d : f32[N,M]\n  %l = reduce_sum %e, axis=1 : f32[N,1]\n"
      "  %p = div %e, %l : f32[N,M]\n  return %p\n}\n";
  EXPECT_EQ(count(canonical(head + "1 : f32[N,1]\n" + tail), Op::softmax), 1);
  EXPECT_EQ(count(canonical(head + "0 : f32[1,M]\n" + tail), Op::softmax), 0);
}

TEST(Canonicalize, RowMaximumOfAnotherRowIsNoSoftmax) {
  // A square score whose column maximum is read along the rows.
  const Graph g = canonical(
      "graph @g(%s: f32[N,N]) -> f32[N,N] {\n  %m = reduce_max %s, axis=1, keepdims=false : f32[N]\n"
      "  %d = sub %s, %m : f32[N,N]\n  %e = exp %d : f32[N,N]\n  %l = reduce_sum %e, axis=1 : f32[N,1]\n"
      "  %p = div %e, %l : f32[N,N]\n  return %p\n}\n");
  EXPECT_EQ(count(g, Op::softmax), 0);
}

TEST(Canonicalize, KeepsParametersResultsAndNames) {
  const Graph g = canonical(
      "graph @g(%a: f32[N], inout %unused: f32[M]) -> (f32[N], f32[N]) {\n  %x = neg %a : f32[N]\n  return %x, "
      "%a\n}\n");
  ASSERT_EQ(g.params.size(), 2u);
  EXPECT_TRUE(g[g.params[1]].inout);
  EXPECT_EQ(g.results[1], g.params[0]);
  EXPECT_EQ(g[g.results[0]].name, "x");
}

}  // namespace
}  // namespace tilewright::testing
