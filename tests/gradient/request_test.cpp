// What gradient() takes, refuses, saves and calls things.
#include <gtest/gtest.h>

#include "ir/text.h"
#include "tests/support/gradient_case.h"

namespace tilewright::testing {
namespace {

Graph parsed(const std::string& text) {
  auto graph = parse_graph(text);
  EXPECT_TRUE(graph.ok()) << (graph ? "" : to_string(graph.error()));
  return graph ? *graph : Graph{};
}

const char* const kCausal = R"(
  graph @attention(%q: f32[B,8,Sq,64], %k: f32[B,2,Sk,64], %v: f32[B,2,Sk,64]) -> f32[B,8,Sq,64] {
    %kh = repeat_heads %k, times=4 : f32[B,8,Sk,64]
    %vh = repeat_heads %v, times=4 : f32[B,8,Sk,64]
    %s = matmul_nt %q, %kh : f32[B,8,Sq,Sk]
    %a = mul %s, 0.125 : f32[B,8,Sq,Sk]
    %e = mask_causal %a, align=bottom_right : f32[B,8,Sq,Sk]
    %p = softmax %e, axis=3 : f32[B,8,Sq,Sk]
    %o = matmul %p, %vh : f32[B,8,Sq,64]
    return %o
  })";

std::string message(const Graph& graph, const GradientRequest& request) {
  const auto made = gradient(graph, request);
  EXPECT_FALSE(made.ok());
  return made ? "" : to_string(made.error());
}

std::vector<std::string> names(const Graph& graph, const std::vector<ValueId>& ids) {
  std::vector<std::string> out;
  for (ValueId id : ids) out.push_back(graph[id].name);
  return out;
}

using Names = std::vector<std::string>;

TEST(Request, WrongOnesNameTheValue) {
  const Graph graph = parsed("graph @g(%x: f32[N], %i: i32[N]) -> f32[N] {\n %y = load %x[%i] : f32[N]\n return %y\n}");
  EXPECT_EQ(message(graph, {{"z"}}),
            "%z: its gradient is asked for, but graph @g has no such parameter; it has %x, %i");
  EXPECT_EQ(message(graph, {{"i"}}),
            "line 1: %i: its gradient is asked for, but it is i32[N]; only floats have gradients");
  EXPECT_EQ(message(graph, {{"x", "x"}}), "line 1: %x: its gradient is asked for twice");
  const Graph integers = parsed("graph @g(%i: i32[N]) -> i32[N] {\n %y = add %i, 1 : i32[N]\n return %y\n}");
  EXPECT_EQ(message(integers, {}), "graph @g has no float parameter to differentiate by");
  Graph wrong = graph;
  wrong.nodes.back().type.shape.push_back(3);
  EXPECT_FALSE(gradient(wrong).ok());
}

TEST(Request, AnOpWithoutAGradientIsNamed) {
  const Graph graph = parsed(R"(
    graph @g(%x: f32[1,4], inout %cache: f32[S,4], %at: i64[]) -> f32[S,4] {
      %y = update %cache, %x, %at, axis=0 : f32[S,4]
      return %y
    })");
  EXPECT_NE(message(graph, {{"x"}}).find("%y: update has no gradient"), std::string::npos);
}

TEST(Request, ForwardAndBackwardSayWhatTheyTakeAndGive) {
  const Graph graph = parsed(kCausal);
  const auto made = gradient(graph);
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(names(made->forward, made->forward.results), (Names{"o", "lse"}));
  EXPECT_EQ(made->saved, (Names{"o", "lse"}));
  EXPECT_EQ(names(made->backward, made->backward.params), (Names{"q", "k", "v", "o", "lse", "d_o"}));
  EXPECT_EQ(names(made->backward, made->backward.results), (Names{"d_q", "d_k", "d_v"}));
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(made->backward.type(made->backward.results[i]), graph.type(graph.params[i]));

  const auto again = gradient(graph, {{"v", "q"}, true});
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(print(again->forward), print(graph));
  EXPECT_TRUE(again->saved.empty());
  EXPECT_EQ(names(again->backward, again->backward.params), (Names{"q", "k", "v", "d_o"}));
  EXPECT_EQ(names(again->backward, again->backward.results), (Names{"d_v", "d_q"}));
}

TEST(Request, SpellsFlashBackward) {
  const auto made = gradient(parsed(kCausal));
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(print(made->backward), R"(graph @attention_backward(
    %q: f32[B,8,Sq,64],
    %k: f32[B,2,Sk,64],
    %v: f32[B,2,Sk,64],
    %o: f32[B,8,Sq,64],
    %lse: f32[B,8,Sq],
    %d_o: f32[B,8,Sq,64]) -> (f32[B,8,Sq,64], f32[B,2,Sk,64], f32[B,2,Sk,64]) {
  %kh       = repeat_heads %k, times=4                  : f32[B,8,Sk,64]
  %vh       = repeat_heads %v, times=4                  : f32[B,8,Sk,64]
  %s        = matmul_nt %q, %kh                         : f32[B,8,Sq,Sk]
  %a        = mul %s, 0.125                             : f32[B,8,Sq,Sk]
  %e        = index axis=3                              : i64[1,1,1,Sk]
  %e_1      = index axis=2                              : i64[1,1,Sq,1]
  %e_2      = dim Sk-Sq                                 : i64[]
  %e_3      = add %e_1, %e_2                            : i64[1,1,Sq,1]
  %e_4      = le %e, %e_3                               : bool[1,1,Sq,Sk]
  %e_5      = select %e_4, %a, -inf                     : f32[B,8,Sq,Sk]
  %d_p      = matmul_nt %d_o, %vh                       : f32[B,8,Sq,Sk]
  %lse_rows = reshape %lse                              : f32[B,8,Sq,1]
  %safe_1   = eq %lse_rows, -inf                        : bool[B,8,Sq,1]
  %safe     = select %safe_1, 0, %lse_rows              : f32[B,8,Sq,1]
  %p_1      = sub %e_5, %safe                           : f32[B,8,Sq,Sk]
  %p        = exp %p_1                                  : f32[B,8,Sq,Sk]
  %d_vh_1   = transpose %p, perm=[0,1,3,2]              : f32[B,8,Sk,Sq]
  %d_vh     = matmul %d_vh_1, %d_o                      : f32[B,8,Sk,64]
  %delta_1  = mul %d_o, %o                              : f32[B,8,Sq,64]
  %delta    = reduce_sum %delta_1, axis=3               : f32[B,8,Sq,1]
  %d_e_5_1  = sub %d_p, %delta                          : f32[B,8,Sq,Sk]
  %d_e_5    = mul %p, %d_e_5_1                          : f32[B,8,Sq,Sk]
  %d_a      = select %e_4, %d_e_5, 0                    : f32[B,8,Sq,Sk]
  %d_s      = mul %d_a, 0.125                           : f32[B,8,Sq,Sk]
  %d_q      = matmul %d_s, %kh                          : f32[B,8,Sq,64]
  %d_kh_1   = transpose %d_s, perm=[0,1,3,2]            : f32[B,8,Sk,Sq]
  %d_kh     = matmul %d_kh_1, %q                        : f32[B,8,Sk,64]
  %d_v_1    = reshape %d_vh                             : f32[B,2,4,Sk,64]
  %d_v      = reduce_sum %d_v_1, axis=2, keepdims=false : f32[B,2,Sk,64]
  %d_k_1    = reshape %d_kh                             : f32[B,2,4,Sk,64]
  %d_k      = reduce_sum %d_k_1, axis=2, keepdims=false : f32[B,2,Sk,64]
  return %d_q, %d_k, %d_v
}
)");
}

TEST(Request, UnreachedParametersHaveZeros) {
  GradientCase test = make_gradient_case(
      parsed("graph @g(%x: f64[N], %y: f64[N,M], %s: f64[]) -> f64[N] {\n %z = exp %x : f64[N]\n return %z\n}"));
  ASSERT_TRUE(run_backward(test));
  EXPECT_EQ(test.gradients[1], std::vector<long double>(9, 0));
  EXPECT_EQ(test.gradients[2], std::vector<long double>(1, 0));
}

TEST(Request, ReturnedParametersAndRepeatedResults) {
  const Graph graph = parsed(
      "graph @g(%x: f64[N], %y: f64[N]) -> (f64[N], f64[N], f64[N]) {\n %z = add %x, %y : f64[N]\n return %x, %z, "
      "%z\n}");
  check_gradient(graph);
  const auto made = gradient(graph);
  EXPECT_EQ(made->backward.params.size(), 3u);
}

TEST(Request, InoutIsAPlainInput) {
  const Graph graph = parsed("graph @g(inout %x: f64[N]) -> f64[N] {\n %z = mul %x, %x : f64[N]\n return %z\n}");
  check_gradient(graph);
  const auto made = gradient(graph);
  for (ValueId id : made->backward.params) EXPECT_FALSE(made->backward[id].inout);
}

TEST(Request, NamesThatAreTakenGetASuffix) {
  check_gradient(parsed(R"(
    graph @g(%x: f64[N,2], %d_z: f64[N,2]) -> f64[N,2] {
      %d_x = mul %x, %d_z : f64[N,2]
      %lse = logsumexp %d_x, axis=1 : f64[N,1]
      %z = mul %d_x, %lse : f64[N,2]
      return %z
    })"));
}

// The output of attention is returned transposed and merged; backward reads that rather than have O twice.
TEST(Saved, IsReadThroughTheResultsViews) {
  const Graph graph = parsed(R"(
    graph @g(%q: f64[B,2,S,4], %k: f64[B,2,S,4], %v: f64[B,2,S,4]) -> f64[B,S,8] {
      %s = matmul_nt %q, %k : f64[B,2,S,S]
      %p = softmax %s, axis=3 : f64[B,2,S,S]
      %o = matmul %p, %v : f64[B,2,S,4]
      %t = transpose %o, perm=[0,2,1,3] : f64[B,S,2,4]
      %m = reshape %t : f64[B,S,8]
      return %m
    })");
  const auto made = gradient(graph);
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(made->saved, (Names{"m", "lse"}));
  check_gradient(graph);
}

// Projections are saved, scores are not.
TEST(Saved, HoldsProductsButNoScores) {
  const Graph graph = parsed(R"(
    graph @g(%x: f64[B,S,6], %wq: f64[6,8], %wk: f64[6,8], %wv: f64[6,8], %wo: f64[8,6], %w1: f64[6,12],
             %w2: f64[12,6]) -> f64[B,S,6] {
      %q = matmul %x, %wq : f64[B,S,8]
      %k = matmul %x, %wk : f64[B,S,8]
      %v = matmul %x, %wv : f64[B,S,8]
      %q4 = reshape %q : f64[B,S,2,4]
      %k4 = reshape %k : f64[B,S,2,4]
      %v4 = reshape %v : f64[B,S,2,4]
      %qh = transpose %q4, perm=[0,2,1,3] : f64[B,2,S,4]
      %kh = transpose %k4, perm=[0,2,1,3] : f64[B,2,S,4]
      %vh = transpose %v4, perm=[0,2,1,3] : f64[B,2,S,4]
      %s = matmul_nt %qh, %kh : f64[B,2,S,S]
      %e = mask_causal %s, align=top_left : f64[B,2,S,S]
      %p = softmax %e, axis=3 : f64[B,2,S,S]
      %o = matmul %p, %vh : f64[B,2,S,4]
      %ot = transpose %o, perm=[0,2,1,3] : f64[B,S,2,4]
      %om = reshape %ot : f64[B,S,8]
      %y = matmul %om, %wo : f64[B,S,6]
      %r = add %x, %y : f64[B,S,6]
      %h = matmul %r, %w1 : f64[B,S,12]
      %g = sigmoid %h : f64[B,S,12]
      %u = mul %h, %g : f64[B,S,12]
      %f = matmul %u, %w2 : f64[B,S,6]
      %z = add %r, %f : f64[B,S,6]
      return %z
    })");
  const auto made = gradient(graph);
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(made->saved, (Names{"q", "k", "v", "om", "y", "h", "lse"}));
  check_gradient(graph, {{"B", 2}, {"S", 4}});
}

}  // namespace
}  // namespace tilewright::testing
