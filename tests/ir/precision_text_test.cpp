// Precision policies in text: of graphs and of fused attentions.
#include "tests/ir/spec_text_case.h"

namespace tilewright {
namespace {

std::string graph_text(const std::string& precision) {
  return "graph @g(%x: f32[N,8], %y: f32[M,8]) -> f32[N,M]" + precision +
         " {\n  %z = matmul_nt %x, %y : f32[N,M]\n  return %z\n}\n";
}

std::string errors_of_graph(const std::string& precision) {
  const auto graph = parse_graph(graph_text(precision));
  return graph ? "" : to_string(graph.error());
}

TEST(PrecisionText, EveryPolicyOfAGraphPrintsWhatItParses) {
  EXPECT_EQ(parse_graph(graph_text(""))->precision, std::nullopt);
  EXPECT_EQ(print(*parse_graph(graph_text(""))), graph_text(""));
  for (const PrecisionPolicy policy : kPrecisionPolicies) {
    const std::string text = graph_text(" precision=" + std::string(to_string(policy)));
    const auto graph = parse_graph(text);
    ASSERT_TRUE(graph) << to_string(graph.error());
    EXPECT_EQ(graph->precision, policy);
    EXPECT_EQ(print(*graph), text);
    EXPECT_EQ(to_string(verify(*graph)), "");
    EXPECT_EQ(*parse_precision_policy(to_string(policy)), policy);
  }
}

TEST(PrecisionText, StandsBehindSeveralAndLongResults) {
  GraphBuilder g("several");
  const Dim rows = Dim::named("a_long_name_of_a_dim");
  const ValueId a = g.param("first_operand", {DType::f32, {rows, 16}});
  const ValueId b = g.param("second_operand", {DType::f32, {rows, 16}});
  g.precision(PrecisionPolicy::f32_x3);
  g.result(g.named(g.matmul_nt(a, b), "o"));
  g.result(g.named(g.binary(Op::add, a, b), "sum"));
  const Graph graph = g.take();
  const std::string text = print(graph);
  EXPECT_NE(text.find(",16]) precision=f32_x3 {\n"), std::string::npos) << text;
  const auto again = parse_graph(text);
  ASSERT_TRUE(again) << to_string(again.error());
  EXPECT_EQ(again->precision, PrecisionPolicy::f32_x3);
  EXPECT_EQ(print(*again), text);
}

TEST(PrecisionText, AnUnknownPolicyIsOneSentence) {
  EXPECT_EQ(errors_of_graph(" precision=f16"),
            "line 1: there is no precision policy 'f16'; f32, f32_fma, f32_x3 and bf16 are");
  EXPECT_EQ(errors_of_graph(" precision=3"),
            "line 1: expected a precision policy (f32, f32_fma, f32_x3 or bf16), found '3'");
  EXPECT_EQ(errors_of_graph(" precision f32"), "line 1: expected '=' after precision, found 'f32'");
  EXPECT_EQ(errors_of_graph(" exact=f32"), "line 1: expected '{' before the statements, found 'exact'");
}

constexpr std::string_view kAttention =
    R"(attention @narrow(%q: f32[B,4,S,8], %k: f32[B,4,S,8], %v: f32[B,4,S,8], out %o: f32[B,4,S,8]) {
  batch      [B]
  heads      [4]
  q_len      S
  kv_len     S
  accumulate f32
  precision  f32_x3
  dot 8 {
    query bf16 row(s, t; b, h, q, d) {
      let x0 = mul(%q[b, h, q, d], 3);
      columns 0:8 x0
    }
    key   %k[b, h, kv, d]
  }
  value      8 %v[b, h, kv, d]
  weights    bf16
  score(s; b, h, q, kv) {
    s
  }
  keep(b, h, q, kv) {
    true
  }
  normaliser softmax
  output     %o[b, h, q, d]
}
)";
constexpr testing::SpecText<AttentionSpec> kPrecisionText{kAttention, &parse_attention};

TEST(PrecisionText, SpecsPrintWhatTheyParse) {
  kPrecisionText.expect_round_trip();
  const AttentionSpec spec = *parse_attention(kAttention);
  EXPECT_EQ(spec.precision, PrecisionPolicy::f32_x3);
  EXPECT_EQ(spec.weights, DType::bf16);
  EXPECT_EQ(spec.dots[0].query_row->dtype, DType::bf16);
  EXPECT_EQ(parse_attention(kPrecisionText.replaced("  precision  f32_x3\n", ""))->precision, PrecisionPolicy::f32);
  kPrecisionText.expect_survives_damage();
}

TEST(PrecisionText, SpecsThatCannotBeAreNamed) {
  EXPECT_EQ(kPrecisionText.errors_of_replaced("f32_x3", "tf32"),
            "line 7: there is no precision policy 'tf32'; f32, f32_fma, f32_x3 and bf16 are");
  EXPECT_EQ(kPrecisionText.errors_of_replaced("weights    bf16", "weights    i32"),
            "%narrow: weights may be rounded to i32; f16 and bf16 are what values are rounded to, f32 is for none");
  EXPECT_EQ(
      kPrecisionText.errors_of_replaced("query bf16 row", "query f64 row"),
      "%narrow: the query row may be rounded to f64; f16 and bf16 are what values are rounded to, f32 is for none");
  EXPECT_NE(kPrecisionText.errors_of_replaced("accumulate f32", "accumulate f64")
                .find("precision is f32_x3, but products are accumulated in f64, which no policy narrows"),
            std::string::npos);
}

}  // namespace
}  // namespace tilewright
