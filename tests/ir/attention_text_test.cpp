#include "tests/ir/spec_text_case.h"

namespace tilewright {
namespace {

constexpr std::string_view kWindowed = R"(attention @windowed(
    %q: bf16[B,32,Sq,64],
    %k: bf16[B,8,Sk,64],
    %v: bf16[B,8,Sk,64],
    %slope: f32[32],
    %doc: i32[B,Sk],
    %sink: f32[32],
    out %o: bf16[B,32,Sq,64],
    out %lse: f32[B,32,Sq]) {
  batch      [B]
  heads      [32] group 4
  q_len      Sq
  kv_len     Sk
  accumulate f32
  dot 64 {
    query %q[b, h, q, d]
    key   %k[b, div(h, 4), kv, d]
  }
  value      64 %v[b, div(h, 4), kv, d]
  score(s; b, h, q, kv) {
    add(mul(s, 0.125), mul(%slope[h], cast(sub(kv, add(q, dim(Sk-Sq))), f32)))
  }
  keep(b, h, q, kv) {
    let x0 = add(q, dim(Sk-Sq));
    logical_and(logical_and(le(kv, x0), lt(sub(x0, kv), 128)), gt(clamped %doc[b, kv], 0))
  }
  keep_kv(b, h, kv) {
    gt(clamped %doc[b, kv], 0)
  }
  kv_range(b, h, q_lo, q_hi) {
    begin max(0, sub(add(q_lo, dim(Sk-Sq)), 127))
    end   add(q_hi, dim(Sk-Sq+1))
  }
  block(b, h, q_lo, q_hi, kv_lo, kv_hi) {
    skip le(load_max %doc[b:b, kv_lo:kv_hi], 0)
    full false
  }
  normaliser softmax
  sink(b, h, q) {
    %sink[h]
  }
  output     %o[b, h, q, d]
  logsumexp  %lse[b, h, q]
}
)";

constexpr testing::SpecText<AttentionSpec> kAttentionText{kWindowed, &parse_attention};

TEST(AttentionText, PrintsWhatItParsesToTheByte) { kAttentionText.expect_round_trip(); }

TEST(AttentionText, VerifierNamesWhatIsWrong) {
  EXPECT_EQ(kAttentionText.errors_of_replaced("[32] group 4", "[32] group 5"),
            "%windowed: 32 query heads are not a multiple of group 5");
  EXPECT_EQ(kAttentionText.errors_of_replaced("key   %k[b, div(h, 4), kv, d]", "key   %k[b, div(h, 2), kv, d]"),
            "%windowed: key %k depends on h other than through div(h, 4)");
  EXPECT_EQ(kAttentionText.errors_of_replaced("query %q[b, h, q, d]", "query %q[b, h, kv, d]"),
            "%windowed: query %q axis 2 must not depend on kv");
  EXPECT_EQ(kAttentionText.errors_of_replaced("query %q[b, h, q, d]", "query %q[b, h, mul(q, q), d]"),
            "%windowed: query %q axis 2: q does not enter affinely, so that it has no stride");
  EXPECT_EQ(kAttentionText.errors_of_replaced("query %q[b, h, q, d]", "query %q[b, h, q]"),
            "%windowed: query gives 3 indices, but %q is bf16[B,32,Sq,64]");
  EXPECT_EQ(kAttentionText.errors_of_replaced("full false", "full 1"), "line 37: the literal 1 is no bool");
  EXPECT_EQ(kAttentionText.errors_of_replaced("gt(clamped %doc[b, kv], 0)\n  }\n  kv_range",
                                              "gt(clamped %doc[b, q], 0)\n  }\n  kv_range"),
            "%windowed: keep_kv must not depend on q");
  EXPECT_EQ(kAttentionText.errors_of_replaced("accumulate f32", "accumulate f16"),
            "%windowed: accumulate is f16, but must be f32 or f64");
  EXPECT_EQ(kAttentionText.errors_of_replaced("dot 64", "dot 65"),
            "%windowed: query %q axis 3: 65 columns are read, but %q is bf16[B,32,Sq,64]\n"
            "%windowed: key %k axis 3: 65 columns are read, but %k is bf16[B,8,Sk,64]");
  EXPECT_EQ(kAttentionText.errors_of_replaced("q_len      Sq", "q_len      Sz"),
            "%windowed: q_len: dim Sz is in no tensor's shape");
}

TEST(AttentionText, ParserNamesLineAndToken) {
  EXPECT_EQ(kAttentionText.errors_of(""), "line 1: expected 'attention' at the start, found the end of the text");
  EXPECT_EQ(kAttentionText.errors_of_replaced("mul(s, 0.125)", "mull(s, 0.125)"), "line 21: 'mull' is no pointwise op");
  EXPECT_EQ(kAttentionText.errors_of_replaced("mul(s, 0.125)", "mul(s)"), "line 21: mul takes 2 operands, found 1");
  EXPECT_EQ(kAttentionText.errors_of_replaced("%slope[h]", "%slop[h]"), "line 21: %slop is no tensor of the signature");
  EXPECT_EQ(kAttentionText.errors_of_replaced("lt(sub(x0", "lt(sub(x1"),
            "line 25: 'x1' is neither an axis nor a name given by let");
  EXPECT_EQ(kAttentionText.errors_of_replaced("normaliser softmax", "normalizer softmax"),
            "line 38: there is no section 'normalizer'");
  EXPECT_EQ(kAttentionText.errors_of_replaced("  normaliser softmax\n", ""),
            "line 43: attention @windowed has no section 'normaliser'");
}

TEST(AttentionText, HostileTextNeverCrashes) {
  kAttentionText.expect_survives_damage();
  std::string deep;
  for (int i = 0; i < 50000; ++i) deep += "neg(";
  EXPECT_EQ(kAttentionText.errors_of_replaced("mul(s, 0.125)", deep),
            "line 21: this nests more than 64 levels; name parts of it with let");
}

TEST(ExprText, SharedAndDeepPartsAreNamed) {
  Expr expr;
  ExprId x = expr.score(DType::f32);
  for (int i = 0; i < 40; ++i) x = expr.op(Op::mul, DType::f32, {x, x});
  expr.set_root(x);
  const std::string text = print(expr, {});
  EXPECT_EQ(text.substr(0, 50), "let x0 = mul(s, s); let x1 = mul(x0, x0); let x2 =");
  EXPECT_LT(text.size(), 2000u);
}

TEST(ExprText, TypesAreWrittenWhereTheyDoNotFollow) {
  Expr expr;
  const ExprId half = expr.constant(0.5, DType::f64), two = expr.constant(2, DType::f64);
  const ExprId sum = expr.op(Op::add, DType::f64, {half, two});
  const ExprId q = expr.op(Op::cast, DType::f64, {expr.index(Axis::q, DType::i32)});
  expr.set_root(expr.op(Op::mul, DType::f32, {sum, q}));
  EXPECT_EQ(print(expr, {}), "mul(add(f64(0.5), f64(2)), cast(index(q, i32), f64), f32)");
}

}  // namespace
}  // namespace tilewright
