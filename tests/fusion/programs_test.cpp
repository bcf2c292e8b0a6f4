// Whole programs: what does not fuse still runs and says why, several attentions, several results, lifetimes.
#include <gtest/gtest.h>

#include "tests/support/fusion_case.h"

namespace tilewright::testing {
namespace {

const std::string kHead = "graph @g(%q: f32[B,4,Sq,8], %k: f32[B,4,Sk,8], %v: f32[B,4,Sk,8]";

std::string expect_one_note(const std::string& graph, const std::string& value, const std::string& reason) {
  const Program program = fuse_and_check(graph);
  EXPECT_TRUE(attentions(program).empty()) << print(program);
  EXPECT_EQ(program.not_fused.size(), 1u) << print(program);
  if (program.not_fused.size() != 1) return {};
  EXPECT_EQ(program.not_fused[0].value, value);
  EXPECT_NE(program.not_fused[0].reason.find(reason), std::string::npos) << program.not_fused[0].reason;
  EXPECT_GT(program.not_fused[0].line, 0);
  return program.not_fused[0].reason;
}

TEST(Unfused, WeightsThatAreReturned) {
  expect_one_note(kHead +
                      ") -> (f32[B,4,Sq,8], f32[B,4,Sq,Sk]) {\n"
                      "  %s = matmul_nt %q, %k : f32[B,4,Sq,Sk]\n  %p = softmax %s, axis=3 : f32[B,4,Sq,Sk]\n"
                      "  %o = matmul %p, %v : f32[B,4,Sq,8]\n  return %o, %p\n}\n",
                  "p", "returned");
}

TEST(Unfused, UnnormalisedWeightsThatAreReturned) {
  expect_one_note(kHead +
                      ") -> (f32[B,4,Sq,8], f32[B,4,Sq,Sk]) {\n"
                      "  %s = matmul_nt %q, %k : f32[B,4,Sq,Sk]\n  %p = sigmoid %s : f32[B,4,Sq,Sk]\n"
                      "  %o = matmul %p, %v : f32[B,4,Sq,8]\n  return %o, %p\n}\n",
                  "p", "returned");
}

TEST(Unfused, WeightsUsedTwice) {
  const Program program = fuse_and_check(
      kHead +
      ", %w: f32[B,4,Sk,8]) -> (f32[B,4,Sq,8], f32[B,4,Sq,8]) {\n"
      "  %s = matmul_nt %q, %k : f32[B,4,Sq,Sk]\n  %p = softmax %s, axis=3 : f32[B,4,Sq,Sk]\n"
      "  %o = matmul %p, %v : f32[B,4,Sq,8]\n  %x = matmul %p, %w : f32[B,4,Sq,8]\n  return %o, %x\n}\n");
  EXPECT_TRUE(attentions(program).empty());
  ASSERT_FALSE(program.not_fused.empty());
  EXPECT_EQ(program.not_fused[0].value, "p");
}

TEST(Unfused, WeightsChangedBeforeV) {
  expect_one_note(kHead +
                      ") -> f32[B,4,Sq,8] {\n"
                      "  %s = matmul_nt %q, %k : f32[B,4,Sq,Sk]\n  %p = softmax %s, axis=3 : f32[B,4,Sq,Sk]\n"
                      "  %x = exp %p : f32[B,4,Sq,Sk]\n  %o = matmul %x, %v : f32[B,4,Sq,8]\n  return %o\n}\n",
                  "p", "no product with V");
}

/// mul, div and select with 0, through casts, all go into the weights' factor.
TEST(Programs, WeightsTimesFactors) {
  const auto spec_of = [](const std::string& params, const std::string& statements) {
    return only_attention(fuse_and_check(kHead + params +
                                         ") -> f32[B,4,Sq,8] {\n  %s = matmul_nt %q, %k : f32[B,4,Sq,Sk]\n" +
                                         "  %p = softmax %s, axis=3 : f32[B,4,Sq,Sk]\n" + statements +
                                         "  %o = matmul %d, %v : f32[B,4,Sq,8]\n  return %o\n}\n"));
  };
  const AttentionSpec gated = spec_of(", %w: f32[Sk], %g: f32[4,1,1], %m: bool[Sq,Sk]",
                                      "  %x = mul %w, %p : f32[B,4,Sq,Sk]\n  %y = div %x, %g : f32[B,4,Sq,Sk]\n"
                                      "  %d = select %m, 0, %y : f32[B,4,Sq,Sk]\n");
  ASSERT_TRUE(gated.weight_factor);
  EXPECT_EQ(text(gated, *gated.weight_factor), "select(%m[q, kv], 0, div(%w[kv], %g[h, 0, 0]))");
  const AttentionSpec dropped =
      spec_of(", %seed: i64[]", "  %d = dropout %p, seed=%seed, offset=7, rate=0.5 : f32[B,4,Sq,Sk]\n");
  ASSERT_TRUE(dropped.weight_factor);
  EXPECT_EQ(text(dropped, *dropped.weight_factor),
            "select(ge(random_bits(%seed[], 7, add(mul(b, 4), h), q, kv), 2147483648), f32(2), f32(0))");
  EXPECT_FALSE(
      spec_of(", %seed: i64[]", "  %d = dropout %p, seed=%seed, offset=7, rate=0 : f32[B,4,Sq,Sk]\n").weight_factor);
}

/// A factor that is computed from scores is none: that is the derivative of a softmax, say.
TEST(Unfused, WeightsTimesScores) {
  const Program program =
      fuse_and_check(kHead +
                     ") -> f32[B,4,Sq,8] {\n  %s = matmul_nt %q, %k : f32[B,4,Sq,Sk]\n"
                     "  %p = softmax %s, axis=3 : f32[B,4,Sq,Sk]\n  %x = mul %p, %s : f32[B,4,Sq,Sk]\n"
                     "  %o = matmul %x, %v : f32[B,4,Sq,8]\n  return %o\n}\n");
  for (const AttentionSpec* spec : attentions(program)) EXPECT_FALSE(spec->weight_factor);
}

TEST(Unfused, SoftmaxOfAParameter) {
  expect_one_note(
      "graph @g(%s: f32[B,4,Sq,Sk], %v: f32[B,4,Sk,8]) -> f32[B,4,Sq,8] {\n"
      "  %p = softmax %s, axis=3 : f32[B,4,Sq,Sk]\n  %o = matmul %p, %v : f32[B,4,Sq,8]\n  return %o\n}\n",
      "s", "no product of queries and keys");
}

std::string two_products(const std::string& scores) {
  return kHead +
         ", %r: f32[B,4,Sq,6], %c: f32[B,1,Sk,6]) -> f32[B,4,Sq,8] {\n"
         "  %a = matmul_nt %q, %k : f32[B,4,Sq,Sk]\n  %b = matmul_nt %r, %c : f32[B,4,Sq,Sk]\n" +
         scores + "  %p = softmax %s, axis=3 : f32[B,4,Sq,Sk]\n  %o = matmul %p, %v : f32[B,4,Sq,8]\n  return %o\n}\n";
}

TEST(Programs, SumOfTwoProducts) {
  for (const char* scores : {"  %t = add %a, %b : f32[B,4,Sq,Sk]\n  %s = mul %t, 0.3 : f32[B,4,Sq,Sk]\n",
                             "  %x = mul %a, 0.3 : f32[B,4,Sq,Sk]\n  %y = mul %b, 0.3 : f32[B,4,Sq,Sk]\n"
                             "  %s = add %y, %x : f32[B,4,Sq,Sk]\n"}) {
    const Program program = fuse_and_check(two_products(scores));
    const AttentionSpec& spec = only_attention(program);
    ASSERT_EQ(spec.dots.size(), 2u);
    EXPECT_EQ(text(spec, spec.score), "mul(s, 0.3)");
  }
}

TEST(Unfused, SeveralProductsThatAreNoPlainSum) {
  expect_one_note(two_products("  %x = tanh %b : f32[B,4,Sq,Sk]\n  %s = add %a, %x : f32[B,4,Sq,Sk]\n"), "b",
                  "several products (%a and this one)");
}

TEST(Unfused, HeadDims) {
  expect_one_note(
      "graph @g(%q: f32[2,Sq,D], %k: f32[2,Sk,D], %v: f32[2,Sk,8]) -> f32[2,Sq,8] {\n"
      "  %s = matmul_nt %q, %k : f32[2,Sq,Sk]\n  %p = softmax %s, axis=2 : f32[2,Sq,Sk]\n"
      "  %o = matmul %p, %v : f32[2,Sq,8]\n  return %o\n}\n",
      "s", "the head dim is D");
  expect_one_note(
      "graph @g(%q: f32[2,Sq,8], %k: f32[2,Sk,8], %v: f32[2,Sk,600]) -> f32[2,Sq,600] {\n"
      "  %s = matmul_nt %q, %k : f32[2,Sq,Sk]\n  %p = softmax %s, axis=2 : f32[2,Sq,Sk]\n"
      "  %o = matmul %p, %v : f32[2,Sq,600]\n  return %o\n}\n",
      "o", "the head dim of V is 600");
}

TEST(Unfused, SoftmaxAlongAnotherAxis) {
  expect_one_note(kHead +
                      ") -> f32[B,4,Sq,8] {\n"
                      "  %s = matmul_nt %q, %k : f32[B,4,Sq,Sk]\n  %p = softmax %s, axis=2 : f32[B,4,Sq,Sk]\n"
                      "  %o = matmul %p, %v : f32[B,4,Sq,8]\n  return %o\n}\n",
                  "p", "axis 2");
}

TEST(Unfused, IncompleteSoftmaxFollowsIeee) {
  const Program program =
      fuse_and_check(kHead +
                     ") -> f32[B,4,Sq,8] {\n"
                     "  %s = matmul_nt %q, %k : f32[B,4,Sq,Sk]\n  %x = exp %s : f32[B,4,Sq,Sk]\n"
                     "  %l = reduce_sum %x, axis=3 : f32[B,4,Sq,1]\n  %p = div %x, %l : f32[B,4,Sq,Sk]\n"
                     "  %o = matmul %p, %v : f32[B,4,Sq,8]\n  return %o\n}\n");
  EXPECT_TRUE(attentions(program).empty());
}

TEST(Programs, TwoAttentionsOneAfterTheOther) {
  const Program program =
      fuse_and_check(kHead +
                     ") -> (f32[B,4,Sq,8], f32[B,4,Sq,8]) {\n"
                     "  %s = matmul_nt %q, %k : f32[B,4,Sq,Sk]\n  %p = softmax %s, axis=3 : f32[B,4,Sq,Sk]\n"
                     "  %o = matmul %p, %v : f32[B,4,Sq,8]\n  %t = matmul_nt %o, %k : f32[B,4,Sq,Sk]\n"
                     "  %u = mul %t, 0.5 : f32[B,4,Sq,Sk]\n  %w = softmax %u, axis=3 : f32[B,4,Sq,Sk]\n"
                     "  %x = matmul %w, %v : f32[B,4,Sq,8]\n  return %x, %o\n}\n");
  ASSERT_EQ(attentions(program).size(), 2u);
  EXPECT_EQ(program.steps.size(), 2u);
  EXPECT_EQ(attentions(program)[0]->name, "g_o");
  EXPECT_EQ(text(*attentions(program)[1], attentions(program)[1]->dots[0].query), "%o[b, h, q, d]");
}

TEST(Programs, DifferentialAttention) {
  const Program program =
      fuse_and_check(kHead +
                     ", %q2: f32[B,4,Sq,8], %k2: f32[B,4,Sk,8], %lambda: f32[4]) -> f32[B,4,Sq,8] {\n"
                     "  %s1 = matmul_nt %q, %k : f32[B,4,Sq,Sk]\n  %p1 = softmax %s1, axis=3 : f32[B,4,Sq,Sk]\n"
                     "  %o1 = matmul %p1, %v : f32[B,4,Sq,8]\n  %s2 = matmul_nt %q2, %k2 : f32[B,4,Sq,Sk]\n"
                     "  %p2 = softmax %s2, axis=3 : f32[B,4,Sq,Sk]\n  %o2 = matmul %p2, %v : f32[B,4,Sq,8]\n"
                     "  %l = reshape %lambda : f32[4,1,1]\n  %x = mul %l, %o2 : f32[B,4,Sq,8]\n"
                     "  %o = sub %o1, %x : f32[B,4,Sq,8]\n  return %o\n}\n");
  EXPECT_EQ(attentions(program).size(), 2u);
  EXPECT_EQ(program.steps.size(), 3u);
  for (const ProgramTensor& tensor : program.tensors) {
    if (tensor.role == TensorRole::temporary) {
      EXPECT_EQ(tensor.last_step, 2);
    }
  }
}

TEST(Programs, ProjectionsAndRotaryAroundAttention) {
  const Program program = fuse_and_check(
      "graph @g(%x: f32[B,S,12], %wq: f32[12,32], %wk: f32[12,16], %wv: f32[12,16], %wo: f32[32,12], "
      "%cos: f32[S,8], %sin: f32[S,8]) -> f32[B,S,12] {\n"
      "  %qp = matmul %x, %wq : f32[B,S,32]\n  %q4 = reshape %qp : f32[B,S,4,8]\n"
      "  %qt = transpose %q4, perm=[0,2,1,3] : f32[B,4,S,8]\n"
      "  %qa = slice %qt, axis=3, begin=0, end=4 : f32[B,4,S,4]\n"
      "  %qb = slice %qt, axis=3, begin=4, end=8 : f32[B,4,S,4]\n  %qn = neg %qb : f32[B,4,S,4]\n"
      "  %qr = concat %qn, %qa, axis=3 : f32[B,4,S,8]\n  %qc = mul %qt, %cos : f32[B,4,S,8]\n"
      "  %qd = mul %qr, %sin : f32[B,4,S,8]\n  %q = add %qc, %qd : f32[B,4,S,8]\n"
      "  %kp = matmul %x, %wk : f32[B,S,16]\n  %k4 = reshape %kp : f32[B,S,2,8]\n"
      "  %kt = transpose %k4, perm=[0,2,1,3] : f32[B,2,S,8]\n  %kh = repeat_heads %kt, times=2 : f32[B,4,S,8]\n"
      "  %vp = matmul %x, %wv : f32[B,S,16]\n  %v4 = reshape %vp : f32[B,S,2,8]\n"
      "  %vt = transpose %v4, perm=[0,2,1,3] : f32[B,2,S,8]\n  %vh = repeat_heads %vt, times=2 : f32[B,4,S,8]\n"
      "  %qs = mul %q, 0.35 : f32[B,4,S,8]\n  %s = matmul_nt %qs, %kh : f32[B,4,S,S]\n"
      "  %e = mask_causal %s, align=top_left : f32[B,4,S,S]\n  %p = softmax %e, axis=3 : f32[B,4,S,S]\n"
      "  %o4 = matmul %p, %vh : f32[B,4,S,8]\n  %ot = transpose %o4, perm=[0,2,1,3] : f32[B,S,4,8]\n"
      "  %o = reshape %ot : f32[B,S,32]\n  %y = matmul %o, %wo : f32[B,S,12]\n  return %y\n}\n",
      {{"B", 2}, {"S", 6}});
  ASSERT_EQ(attentions(program).size(), 1u) << print(program);
  EXPECT_TRUE(program.not_fused.empty()) << print(program);
  const AttentionSpec& spec = *attentions(program)[0];
  EXPECT_TRUE(spec.dots[0].query_row) << print(program);
  EXPECT_EQ(text(spec, spec.dots[0].key), "%kp[b, kv, add(mul(div(h, 2), 8), d)]");
  EXPECT_EQ(text(spec, spec.score), "mul(s, 0.35)");
  EXPECT_EQ(text(spec, spec.output), "%o[b, q, add(mul(h, 8), d)]");
  EXPECT_EQ(program.steps.size(), 5u) << print(program);  // 4 products, attention
}

TEST(Programs, BiasFromAProductIsStoredFirst) {
  const Program program = fuse_and_check(
      kHead +
          ", %z: f32[B,Sq,Sk,3], %w: f32[3,4]) -> f32[B,4,Sq,8] {\n"
          "  %zb = matmul %z, %w : f32[B,Sq,Sk,4]\n  %bias = transpose %zb, perm=[0,3,1,2] : f32[B,4,Sq,Sk]\n"
          "  %s = matmul_nt %q, %k : f32[B,4,Sq,Sk]\n  %e = add %s, %bias : f32[B,4,Sq,Sk]\n"
          "  %p = softmax %e, axis=3 : f32[B,4,Sq,Sk]\n  %o = matmul %p, %v : f32[B,4,Sq,8]\n  return %o\n}\n",
      {{"Sq", 3}, {"Sk", 4}});
  ASSERT_EQ(attentions(program).size(), 1u);
  EXPECT_EQ(text(*attentions(program)[0], attentions(program)[0]->score), "add(s, %zb[b, q, kv, h])");
}

TEST(Programs, SecondLogSumExpStillRuns) {
  const Program program = fuse_and_check(
      kHead +
      ") -> (f32[B,4,Sq,8], f32[B,4,Sq,1], f32[B,4,Sq]) {\n"
      "  %s = matmul_nt %q, %k : f32[B,4,Sq,Sk]\n  %p = softmax %s, axis=3 : f32[B,4,Sq,Sk]\n"
      "  %o = matmul %p, %v : f32[B,4,Sq,8]\n  %l = logsumexp %s, axis=3, keepdims=true : f32[B,4,Sq,1]\n"
      "  %m = logsumexp %s, axis=3, keepdims=false : f32[B,4,Sq]\n  return %o, %l, %m\n}\n");
  EXPECT_EQ(attentions(program).size(), 1u);
}

TEST(Programs, LogSumExpThatTheValuesNeedIsComputedApart) {
  const Program program = fuse_and_check(
      "graph @g(%q: f32[6,8], %k: f32[6,8]) -> f32[6,1] {\n"
      "  %s = matmul_nt %q, %k : f32[6,6]\n  %p = softmax %s, axis=1 : f32[6,6]\n"
      "  %l = logsumexp %s, axis=1 : f32[6,1]\n  %o = matmul %p, %l : f32[6,1]\n  return %o\n}\n");
  ASSERT_EQ(attentions(program).size(), 1u);
  EXPECT_FALSE(attentions(program)[0]->logsumexp.has_value());
}

TEST(Programs, ResultsThatAreParametersOrRepeated) {
  const Program program = fuse_and_check(
      "graph @g(%a: f32[N], %b: i32[N,2]) -> (f32[N], f32[N], i32[2,N], f32[N]) {\n"
      "  %c = exp %a : f32[N]\n  %t = transpose %b, perm=[1,0] : i32[2,N]\n  return %c, %a, %t, %c\n}\n");
  EXPECT_EQ(program.steps.size(), 4u);
}

TEST(Programs, LoopsOfEveryKind) {
  const Program program = fuse_and_check(
      "graph @g(%a: f32[N,M], %t: f32[7,3], %i: i32[N,1], %b: bool[M]) -> (f32[M], f32[N,M], f32[N,M+3], i64[N,M], "
      "f32[N,M], bool[N]) {\n"
      "  %s = reduce_sum %a, axis=0, keepdims=false : f32[M]\n  %m = reduce_mean %a, axis=1 : f32[N,1]\n"
      "  %d = sub %a, %m : f32[N,M]\n  %sm = softmax %d, axis=0 : f32[N,M]\n  %j = index axis=1 : i64[1,3]\n"
      "  %l = load %t[%i, %j] : f32[N,3]\n  %c = concat %d, %l, axis=1 : f32[N,M+3]\n"
      "  %x = index axis=0 : i64[N,M]\n  %y = dim N+2*M : i64[]\n  %z = add %x, %y : i64[N,M]\n"
      "  %w = select %b, %d, -1.5 : f32[N,M]\n  %mx = reduce_max %a, axis=1, keepdims=false : f32[N]\n"
      "  %g = gt %mx, 0.25 : bool[N]\n  return %s, %sm, %c, %z, %w, %g\n}\n",
      {{"N", 4}, {"M", 5}});
  EXPECT_TRUE(attentions(program).empty());
  for (const Step& step : program.steps) EXPECT_EQ(step.tensors.size(), std::get<LoopStep>(step.what).tensors.size());
}

TEST(Programs, ZeroSizedDims) {
  for (const char* dim : {"B", "Sq", "Sk"}) {
    DimBindings dims{{"B", 2}, {"Sq", 3}, {"Sk", 4}};
    dims.find(dim)->second = 0;
    fuse_and_check(kHead +
                       ") -> f32[B,4,Sq,8] {\n"
                       "  %s = matmul_nt %q, %k : f32[B,4,Sq,Sk]\n  %p = softmax %s, axis=3 : f32[B,4,Sq,Sk]\n"
                       "  %o = matmul %p, %v : f32[B,4,Sq,8]\n  return %o\n}\n",
                   dims);
  }
}

TEST(Programs, TableThatIsAView) {
  const Program program = fuse_and_check(
      kHead +
      ", %t: f32[4,9]) -> f32[B,4,Sq,8] {\n"
      "  %tt = transpose %t, perm=[1,0] : f32[9,4]\n  %i = index axis=1 : i64[1,Sq,1]\n"
      "  %j = index axis=2 : i64[1,1,Sk]\n  %h = index axis=0 : i64[4,1,1]\n  %r = sub %j, %i : i64[1,Sq,Sk]\n"
      "  %bias = load %tt[%r, %h] : f32[4,Sq,Sk]\n  %s = matmul_nt %q, %k : f32[B,4,Sq,Sk]\n"
      "  %e = add %s, %bias : f32[B,4,Sq,Sk]\n  %p = softmax %e, axis=3 : f32[B,4,Sq,Sk]\n"
      "  %o = matmul %p, %v : f32[B,4,Sq,8]\n  return %o\n}\n");
  only_attention(program);
}

TEST(Programs, PerceptronFusesOnlyWhereItIsAPair) {
  const Program program = fuse_and_check(
      "graph @g(%x: f32[S,8], %w1: f32[8,16], %w2: f32[16,8]) -> f32[S,8] {\n"
      "  %h = matmul %x, %w1 : f32[S,16]\n  %a = sigmoid %h : f32[S,16]\n  %g = mul %a, %h : f32[S,16]\n"
      "  %y = matmul %g, %w2 : f32[S,8]\n  return %y\n}\n");
  EXPECT_EQ(attentions(program).size(), 1u);
}

TEST(Programs, PrintsEveryStep) {
  const Program program =
      fuse_and_check(kHead +
                         ") -> (f32[B,4,Sq,8], f32[B,4,Sq,Sk]) {\n"
                         "  %s = matmul_nt %q, %k : f32[B,4,Sq,Sk]\n  %p = softmax %s, axis=3 : f32[B,4,Sq,Sk]\n"
                         "  %o = matmul %p, %v : f32[B,4,Sq,8]\n  return %o, %p\n}\n",
                     {{"Sq", 2}});
  const std::string printed = print(program);
  for (const char* part : {"program @g {", "param %q: f32[B,4,Sq,8]", "temporary %s: f32[B,4,Sq,Sk]  // steps 0 to 1",
                           "step 0: contract %s over [B,4,Sq,Sk,8]", "step 1: softmax %p over [B,4,Sq,Sk]",
                           "// not fused: line 3: %p: the attention weights are returned"})
    EXPECT_NE(printed.find(part), std::string::npos) << part << "\n" << printed;
}

int contractions(const Program& program) {
  int count = 0;
  for (const Step& step : program.steps) {
    const auto* loop = std::get_if<LoopStep>(&step.what);
    count += loop && loop->kind == LoopKind::contract;
  }
  return count;
}

TEST(Epilogues, AnActivationThatReadsTheProductTwice) {
  const Program program = fuse_and_check(
      "graph @g(%x: f32[B,S,6], %w: f32[6,10], %b: f32[10]) -> f32[B,S,10] {\n"
      "  %y = matmul %x, %w : f32[B,S,10]\n  %z = add %y, %b : f32[B,S,10]\n"
      "  %g = sigmoid %z : f32[B,S,10]\n  %o = mul %z, %g : f32[B,S,10]\n  return %o\n}\n");
  ASSERT_EQ(program.steps.size(), 1u) << print(program);
  EXPECT_NE(print(program).find("mul(x0, sigmoid(x0)) with s = sum(axis 3"), std::string::npos) << print(program);
}

TEST(Epilogues, GateAndUp) {
  const Program program = fuse_and_check(
      "graph @g(%x: f32[B,S,6], %gate: f32[6,10], %up: f32[6,10], %down: f32[10,6]) -> f32[B,S,6] {\n"
      "  %y = matmul %x, %gate : f32[B,S,10]\n  %u = matmul %x, %up : f32[B,S,10]\n"
      "  %g = sigmoid %y : f32[B,S,10]\n  %h = mul %y, %g : f32[B,S,10]\n  %a = mul %h, %u : f32[B,S,10]\n"
      "  %o = matmul %a, %down : f32[B,S,6]\n  %r = add %o, %x : f32[B,S,6]\n  return %r\n}\n");
  EXPECT_EQ(program.steps.size(), 3u) << print(program);
  EXPECT_EQ(contractions(program), 3) << print(program);
  EXPECT_TRUE(attentions(program).empty() && program.not_fused.empty()) << print(program);
}

TEST(Epilogues, ValuesThatAreReadElsewhereStayInMemory) {
  const Program program = fuse_and_check(
      "graph @g(%x: f32[S,6], %w: f32[6,10]) -> (f32[S,10], f32[S,1]) {\n"
      "  %y = matmul %x, %w : f32[S,10]\n  %z = tanh %y : f32[S,10]\n  %e = exp %z : f32[S,10]\n"
      "  %m = reduce_sum %z, axis=1 : f32[S,1]\n  return %e, %m\n}\n");
  EXPECT_EQ(contractions(program), 1);
  EXPECT_EQ(program.steps.size(), 3u) << print(program);
}

TEST(Epilogues, TwoProductsAdded) {
  const Program program = fuse_and_check(
      "graph @g(%x: f32[S,6], %w: f32[6,10], %v: f32[6,10]) -> bf16[S,10] {\n"
      "  %y = matmul %x, %w : f32[S,10]\n  %z = matmul %x, %v : f32[S,10]\n  %s = add %y, %z : f32[S,10]\n"
      "  %r = max %s, 0 : f32[S,10]\n  %o = cast %r : bf16[S,10]\n  return %o\n}\n");
  EXPECT_EQ(program.steps.size(), 2u) << print(program);
}

TEST(Unfused, AnMlpIsNoAttention) {
  const std::string body =
      "  %s = matmul %x, %w : f32[B,S,16]\n  %r = max %s, 0 : f32[B,S,16]\n  %o = matmul %r, %v : f32[B,S,8]\n"
      "  return %o\n}\n";
  const Program mlp = fuse_and_check("graph @g(%x: f32[B,S,8], %w: f32[8,16], %v: f32[16,8]) -> f32[B,S,8] {\n" + body);
  EXPECT_TRUE(attentions(mlp).empty() && mlp.not_fused.empty()) << print(mlp);
  EXPECT_EQ(mlp.steps.size(), 2u);
  // Keys and values of every batch make the same ops attention.
  const Program attention =
      fuse_and_check("graph @g(%x: f32[B,S,8], %w: f32[B,8,16], %v: f32[B,16,8]) -> f32[B,S,8] {\n" + body);
  EXPECT_EQ(attentions(attention).size(), 1u) << print(attention);
}

}  // namespace
}  // namespace tilewright::testing
