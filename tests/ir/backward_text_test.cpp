#include "tests/ir/spec_text_case.h"

namespace tilewright {
namespace {

constexpr std::string_view kBiased = R"(backward @biased(
    %q: bf16[B,32,Sq,64],
    %k: bf16[B,8,Sk,64],
    %v: bf16[B,8,Sk,80],
    %table: f32[32,128],
    %do: bf16[B,32,Sq,80],
    %lse: f32[B,32,Sq],
    %delta: f32[B,32,Sq],
    out %dq: f32[B,32,Sq,64],
    out %dk: f32[B,8,Sk,64],
    out %dv: f32[B,8,Sk,80],
    out %dtable: f32[32,128],
    out %dscale: f32[]) {
  batch      [B]
  heads      [32] group 4
  q_len      Sq
  kv_len     Sk
  accumulate f32
  dot 64 {
    query %q[b, h, q, d]
    key   %k[b, div(h, 4), kv, d]
  }
  output_gradient 80 {
    query %do[b, h, q, d]
    key   %v[b, div(h, 4), kv, d]
  }
  keep(b, h, q, kv) {
    le(kv, add(q, dim(Sk-Sq)))
  }
  kv_range(b, h, q_lo, q_hi) {
    end   add(q_hi, dim(Sk-Sq+1))
  }
  weights(s, t; b, h, q, kv) {
    let x0 = sub(q, kv);
    let x1 = %lse[b, h, q];
    let x2 = exp(sub(add(mul(s, 0.125), clamped %table[h, x0]), select(eq(x1, -inf), 0, x1)));
    let x3 = mul(x2, sub(t, %delta[b, h, q]));
    let x4 = mul(x3, 0.125);
    let x5 = mul(x3, s);
  }
  row 64 {
    weight  x4
    operand %k[b, div(h, 4), kv, d]
    output  %dq[b, h, q, d]
  }
  column 64 {
    weight  x4
    operand %q[b, h, q, d]
    output  %dk[b, div(h, 4), kv, d]
  }
  column 80 {
    weight  x2
    operand %do[b, h, q, d]
    output  %dv[b, div(h, 4), kv, d]
  }
  captured {
    weight  x3
    output  clamped %dtable[h, x0]
  }
  captured {
    weight  x5
    output  %dscale[]
  }
}
)";

constexpr testing::SpecText<BackwardSpec> kBackwardText{kBiased, &parse_backward};

TEST(BackwardText, PrintsWhatItParsesToTheByte) {
  kBackwardText.expect_round_trip();
  const auto spec = parse_backward(kBiased);
  ASSERT_TRUE(spec);
  EXPECT_EQ(spec->rows[0].weight, spec->columns[0].weight);
  EXPECT_TRUE(spec->captured[1].in_bounds);
  EXPECT_FALSE(spec->captured[0].in_bounds);
}

TEST(BackwardText, NamesAreTheReadersOwnAndTermsMayStandInPlace) {
  std::string text = kBackwardText.replaced("weight  x5", "weight  mul(x3, s)");
  const size_t let = text.find("    let x5");
  text.erase(let, text.find('\n', let) + 1 - let);
  for (size_t at = 0; (at = text.find("x2", at)) != std::string::npos;) text.replace(at, 2, "p");
  const auto spec = parse_backward(text);
  ASSERT_TRUE(spec) << to_string(spec.error());
  EXPECT_EQ(print(*spec), kBiased);
}

TEST(BackwardText, LeavesAreRootsWithoutALet) {
  const auto spec = parse_backward(kBackwardText.replaced("weight  x5", "weight  t"));
  ASSERT_TRUE(spec) << to_string(spec.error());
  EXPECT_NE(print(*spec).find("weight  t\n"), std::string::npos);
  EXPECT_EQ(print(*spec).find("x5"), std::string::npos) << "what no root reaches is dropped";
  const auto constant = parse_backward(kBackwardText.replaced("weight  x5", "weight  1"));
  ASSERT_TRUE(constant) << to_string(constant.error());
  EXPECT_EQ(to_string(verify(*constant)), "");
  EXPECT_NE(print(*constant).find("weight  1\n"), std::string::npos);
  EXPECT_EQ(*parse_backward(print(*constant)), *constant);
}

TEST(BackwardText, VerifierNamesWhatIsWrong) {
  EXPECT_EQ(kBackwardText.errors_of_replaced("[32] group 4", "[32] group 5"),
            "%biased: 32 query heads are not a multiple of group 5");
  EXPECT_EQ(kBackwardText.errors_of_replaced("row 64", "row 0"), "%biased: row width 0 is not a positive number");
  EXPECT_EQ(kBackwardText.errors_of_replaced("output_gradient 80", "output_gradient 81"),
            "%biased: output gradient %do axis 3: 81 columns are read, but %do is bf16[B,32,Sq,80]\n"
            "%biased: value %v axis 3: 81 columns are read, but %v is bf16[B,8,Sk,80]");
  EXPECT_EQ(kBackwardText.errors_of_replaced("operand %k[b, div(h, 4), kv, d]", "operand %q[b, h, q, d]"),
            "%biased: row operand %q axis 2 must not depend on q");
  EXPECT_EQ(kBackwardText.errors_of_replaced("output  %dk[b, div(h, 4), kv, d]", "output  %dk[b, div(h, 8), kv, d]"),
            "");
  EXPECT_EQ(kBackwardText.errors_of_replaced("output  %dk[b, div(h, 4), kv, d]", "output  %dk[b, h, kv, d]"),
            "%biased: column output %dk depends on h other than through div(h, 4)");
  EXPECT_EQ(kBackwardText.errors_of_replaced("output  %dk[b, div(h, 4), kv, d]", "output  %dk[b, div(h, 4), q, d]"),
            "%biased: column output %dk axis 2 must not depend on q\n%biased: the output %dk is never written");
  EXPECT_EQ(kBackwardText.errors_of_replaced("output  %dk[b, div(h, 4), kv, d]", "output  %k[b, div(h, 4), kv, d]"),
            "%biased: column output %k is not marked out\n%biased: the output %dk is never written");
  EXPECT_EQ(kBackwardText.errors_of_replaced("weight  x5\n    output  %dscale[]",
                                             "weight  x5\n    output  clamped %dtable[h, q]"),
            "%biased: the output %dtable is written 2 times\n%biased: the output %dscale is never written");
  EXPECT_EQ(kBackwardText.errors_of_replaced("clamped %dtable[h, x0]", "clamped %dtable[h]"),
            "%biased: a captured sum gives 1 indices, but %dtable is f32[32,128]\n"
            "%biased: the output %dtable is never written");
  EXPECT_EQ(kBackwardText.errors_of_replaced("clamped %dtable[h, x0]", "clamped %dtable[h, x1]"),
            "%biased: captured sum %dtable axis 1 is f32, but must be an integer");
  EXPECT_EQ(kBackwardText.errors_of_replaced("clamped %dtable[h, x0]", "clamped %dtable[h, cast(s, i64)]"),
            "%biased: captured sum %dtable axis 1 must not depend on the score");
  EXPECT_EQ(kBackwardText.errors_of_replaced("weight  x5", "weight  x0"),
            "%biased: captured weight is i64, but must be f32");
  EXPECT_EQ(kBackwardText.errors_of_replaced("weight  x5", "weight  mul(x3, cast(q_lo, f32))"),
            "%biased: captured weight must not depend on q_lo");
  EXPECT_EQ(kBackwardText.errors_of_replaced("sub(t, %delta", "sub(s, %delta"),
            "%biased: there is an output_gradient, but no weight reads t");
  std::string without = kBackwardText.replaced(
      "output_gradient 80 {\n    query %do[b, h, q, d]\n    key   %v[b, div(h, 4), kv, d]\n  }\n", "");
  EXPECT_EQ(kBackwardText.errors_of(without),
            "%biased: row weight reads t, but there is no output_gradient\n"
            "%biased: column weight reads t, but there is no output_gradient\n"
            "%biased: captured weight reads t, but there is no output_gradient\n"
            "%biased: captured weight reads t, but there is no output_gradient");
  EXPECT_EQ(kBackwardText.errors_of_replaced("le(kv, add(q", "le(cast(t, i64), add(q"),
            "%biased: keep must not depend on the score");
  EXPECT_EQ(kBackwardText.errors_of_replaced("mul(s, 0.125)", "mul(s(f64), 0.125)"),
            "%biased: weights: s is f64, but accumulate is f32");
  EXPECT_EQ(kBackwardText.errors_of_replaced("clamped %table[h, x0]", "%dscale[]"),
            "%biased: weights: %dscale is an output and cannot be loaded");
  EXPECT_EQ(kBackwardText.errors_of(std::string(kBiased.substr(0, kBiased.find("  row 64"))) + "}\n")
                .find("%biased: there is an output_gradient, but no weight reads t\n%biased: nothing is summed"),
            0u);
}

TEST(BackwardText, AttentionsHaveNoT) {
  constexpr std::string_view kWithT = R"(attention @a(%q: f32[S,4], %k: f32[S,4], %v: f32[S,4], out %o: f32[S,4]) {
  batch [] heads [] q_len S kv_len S accumulate f32
  dot 4 { query %q[q, d] key %k[kv, d] }
  value 4 %v[kv, d]
  score(s) { add(s, t) }
  keep() { true }
  normaliser softmax
  output %o[q, d]
})";
  const auto spec = parse_attention(kWithT);
  ASSERT_TRUE(spec) << to_string(spec.error());
  EXPECT_EQ(to_string(verify(*spec)), "%a: score reads t, which only a backward pass has");
}

TEST(BackwardText, ParserNamesLineAndToken) {
  EXPECT_EQ(kBackwardText.errors_of(""), "line 1: expected 'backward' at the start, found the end of the text");
  EXPECT_EQ(kBackwardText.errors_of_replaced("weight  x5", "weight  x9"),
            "line 61: 'x9' is neither an axis nor a name given by let");
  EXPECT_EQ(kBackwardText.errors_of_replaced("let x5", "let t"), "line 39: the name 't' after let is taken");
  EXPECT_EQ(kBackwardText.errors_of_replaced("%dscale[]", "%dscal[]"), "line 62: %dscal is no tensor of the signature");
  EXPECT_EQ(kBackwardText.errors_of_replaced("  q_len      Sq\n", ""),
            "line 63: backward @biased has no section 'q_len'");
  EXPECT_EQ(kBackwardText.errors_of_replaced("  batch      [B]\n", "  normaliser softmax\n"),
            "line 14: there is no section 'normaliser'");
}

TEST(BackwardText, HostileTextNeverCrashes) { kBackwardText.expect_survives_damage(); }

TEST(Expr, ProductsAreDistinctNodes) {
  Expr expr;
  const ExprId s = expr.score(DType::f32), t = expr.score(DType::f32, 1);
  EXPECT_NE(s, t);
  EXPECT_EQ(expr.score(DType::f32, 1), t);
  const ExprId unused = expr.constant(7, DType::f32);
  ExprId first = expr.op(Op::mul, DType::f32, {t, s}), second = expr.op(Op::neg, DType::f32, {s});
  const std::vector<uint32_t> on = dependencies(expr);
  EXPECT_EQ(on[static_cast<size_t>(raw(first))], kDependsOnScore | kDependsOnT);
  EXPECT_EQ(on[static_cast<size_t>(raw(second))], kDependsOnScore);
  EXPECT_EQ(on[static_cast<size_t>(raw(unused))], 0u);
  ExprId* const roots[] = {&second, &first};
  const Expr pruned = expr.pruned(roots);
  EXPECT_EQ(pruned.nodes().size(), 4u);
  EXPECT_EQ(pruned[second].op, Op::neg);
  EXPECT_EQ(pruned[first].op, Op::mul);
  EXPECT_EQ(pruned[pruned[first].args[0]].product, 1);
}

}  // namespace
}  // namespace tilewright
