// One test per spelling of attention: what the spec must say, and that it computes what the graph says.
#include <gtest/gtest.h>

#include "tests/support/fusion_case.h"

namespace tilewright::testing {
namespace {

/// A graph over q, k, v: f32[B,4,S*,8] with the given statements between them and the result %o.
std::string graph(const std::string& body, const std::string& params = "") {
  return "graph @g(%q: f32[B,4,Sq,8], %k: f32[B,4,Sk,8], %v: f32[B,4,Sk,8]" + params + ") -> f32[B,4,Sq,8] {\n" + body +
         "  return %o\n}\n";
}

const char* const kPlainScore = "  %s = matmul_nt %q, %k : f32[B,4,Sq,Sk]\n";
const char* const kPlainValue = "  %p = softmax %e, axis=3 : f32[B,4,Sq,Sk]\n  %o = matmul %p, %v : f32[B,4,Sq,8]\n";

void expect_plain_accesses(const AttentionSpec& spec) {
  EXPECT_EQ(text(spec, spec.dots[0].query), "%q[b, h, q, d]");
  EXPECT_EQ(text(spec, spec.dots[0].key), "%k[b, h, kv, d]");
  EXPECT_EQ(text(spec, spec.value), "%v[b, h, kv, d]");
  EXPECT_EQ(text(spec, spec.output), "%o[b, h, q, d]");
}

void expect_score(const std::string& body, const std::string& score, const std::string& keep = "true",
                  const std::string& params = "") {
  const Program program = fuse_and_check(graph(body, params), {{"B", 2}, {"Sq", 5}, {"Sk", 7}});
  const AttentionSpec& spec = only_attention(program);
  ASSERT_FALSE(spec.dots.empty());
  expect_plain_accesses(spec);
  EXPECT_EQ(text(spec, spec.score), score);
  EXPECT_EQ(text(spec, spec.keep), keep);
}

TEST(Spellings, ScaleOnScores) {
  expect_score(std::string(kPlainScore) + "  %e = mul %s, 0.5 : f32[B,4,Sq,Sk]\n" + kPlainValue, "mul(s, 0.5)");
  expect_score(std::string(kPlainScore) + "  %e = div %s, 2.0 : f32[B,4,Sq,Sk]\n" + kPlainValue, "div(s, 2)");
}

TEST(Spellings, ScaleOnQueries) {
  expect_score(
      std::string("  %qs = mul %q, 0.5 : f32[B,4,Sq,8]\n  %e = matmul_nt %qs, %k : f32[B,4,Sq,Sk]\n") + kPlainValue,
      "mul(s, 0.5)");
  expect_score(
      std::string("  %qs = div %q, 3.0 : f32[B,4,Sq,8]\n  %e = matmul_nt %qs, %k : f32[B,4,Sq,Sk]\n") + kPlainValue,
      "div(s, 3)");
}

TEST(Spellings, ScaleOnKeysBehindTranspose) {
  expect_score(std::string("  %ks = mul %k, 0.5 : f32[B,4,Sk,8]\n"
                           "  %kt = transpose %ks, perm=[0,1,3,2] : f32[B,4,8,Sk]\n"
                           "  %ku = mul 0.75, %kt : f32[B,4,8,Sk]\n"
                           "  %e = matmul %q, %ku : f32[B,4,Sq,Sk]\n") +
                   kPlainValue,
               "mul(mul(s, 0.5), 0.75)");
}

TEST(Spellings, ScaleFromARankZeroTensor) {
  expect_score(
      std::string("  %qs = mul %q, %c : f32[B,4,Sq,8]\n  %e = matmul_nt %qs, %k : f32[B,4,Sq,Sk]\n") + kPlainValue,
      "mul(s, %c[])", "true", ", %c: f32[]");
}

TEST(Spellings, MaskBySelectEitherWay) {
  const std::string condition =
      std::string(kPlainScore) + "  %i = index axis=2 : i64[1,1,Sq,1]\n  %j = index axis=3 : i64[1,1,1,Sk]\n";
  expect_score(
      condition + "  %c = ge %i, %j : bool[1,1,Sq,Sk]\n  %e = select %c, %s, -inf : f32[B,4,Sq,Sk]\n" + kPlainValue,
      "s", "ge(q, kv)");
  expect_score(
      condition + "  %c = gt %j, %i : bool[1,1,Sq,Sk]\n  %e = select %c, -inf, %s : f32[B,4,Sq,Sk]\n" + kPlainValue,
      "s", "le(kv, q)");
}

TEST(Spellings, MaskByAddition) {
  const std::string head = std::string(kPlainScore) +
                           "  %i = index axis=2 : i64[1,1,Sq,1]\n  %j = index axis=3 : i64[1,1,1,Sk]\n"
                           "  %c = le %j, %i : bool[1,1,Sq,Sk]\n";
  expect_score(
      head + "  %m = select %c, 0.0, -inf : f32[1,1,Sq,Sk]\n  %e = add %s, %m : f32[B,4,Sq,Sk]\n" + kPlainValue, "s",
      "le(kv, q)");
  expect_score(head +
                   "  %m = select %c, 0.0, -inf : f32[1,1,Sq,Sk]\n"
                   "  %w = broadcast %m : f32[B,4,Sq,Sk]\n  %x = mul %s, 0.5 : f32[B,4,Sq,Sk]\n"
                   "  %e = add %w, %x : f32[B,4,Sq,Sk]\n" +
                   kPlainValue,
               "mul(s, 0.5)", "le(kv, q)");
}

TEST(Spellings, MaskCommutesWithWhatKeepsMinusInfinity) {
  const std::string head = std::string(kPlainScore) + "  %m = select %c, %s, -inf : f32[B,4,Sq,Sk]\n";
  const std::string bias = ", %c: bool[Sq,Sk], %bias: f32[4,Sq,Sk]";
  expect_score(head + "  %x = add %bias, %m : f32[B,4,Sq,Sk]\n  %e = mul %x, 0.25 : f32[B,4,Sq,Sk]\n" + kPlainValue,
               "mul(add(%bias[h, q, kv], s), 0.25)", "%c[q, kv]", bias);
}

TEST(Spellings, MaskBeforeTanhStaysInTheScore) {
  expect_score(std::string(kPlainScore) +
                   "  %m = select %c, %s, -inf : f32[B,4,Sq,Sk]\n  %e = tanh %m : f32[B,4,Sq,Sk]\n" + kPlainValue,
               "tanh(select(%c[q, kv], s, -inf))", "true", ", %c: bool[Sq,Sk]");
}

TEST(Spellings, MaskByTheScoreItselfStaysInTheScore) {
  const std::string head = std::string(kPlainScore) + "  %low = lt %s, %t : bool[B,4,Sq,Sk]\n";
  expect_score(head + "  %m = select %c, %s, -inf : f32[B,4,Sq,Sk]\n  %e = select %low, -inf, %m : f32[B,4,Sq,Sk]\n" +
                   kPlainValue,
               "select(lt(s, %t[]), -inf, s)", "%c[q, kv]", ", %t: f32[], %c: bool[Sq,Sk]");
  expect_score(
      head + "  %m = select %low, -inf, 0.0 : f32[B,4,Sq,Sk]\n  %e = add %s, %m : f32[B,4,Sq,Sk]\n" + kPlainValue,
      "add(s, select(lt(s, %t[]), -inf, f32(0)))", "true", ", %t: f32[]");
}

TEST(Spellings, FiniteNegativesAreNoMasks) {
  expect_score(std::string(kPlainScore) + "  %e = select %c, %s, -10000.0 : f32[B,4,Sq,Sk]\n" + kPlainValue,
               "select(%c[q, kv], s, -10000)", "true", ", %c: bool[Sq,Sk]");
}

TEST(Spellings, MaskTensorsFromAnyRank) {
  const std::string select = std::string(kPlainScore) + "  %e = select %c, %s, -inf : f32[B,4,Sq,Sk]\n" + kPlainValue;
  expect_score(select, "s", "%c[kv]", ", %c: bool[Sk]");
  expect_score(select, "s", "%c[h, q, 0]", ", %c: bool[4,Sq,1]");
  expect_score(select, "s", "%c[b, 0, 0, kv]", ", %c: bool[B,1,1,Sk]");
  const std::string add = std::string(kPlainScore) + "  %e = add %s, %c : f32[B,4,Sq,Sk]\n" + kPlainValue;
  expect_score(add, "add(s, %c[0, q, kv])", "true", ", %c: f32[1,Sq,Sk]");
}

TEST(Spellings, NestedMasksBecomeOneKeep) {
  expect_score(std::string(kPlainScore) +
                   "  %x = select %a, %s, -inf : f32[B,4,Sq,Sk]\n  %y = select %c, -inf, %x : f32[B,4,Sq,Sk]\n"
                   "  %e = mask_causal %y, align=bottom_right : f32[B,4,Sq,Sk]\n" +
                   kPlainValue,
               "s", "logical_and(logical_and(%a[q, kv], logical_not(%c[kv])), le(kv, add(q, dim(Sk-Sq))))",
               ", %a: bool[Sq,Sk], %c: bool[Sk]");
}

TEST(Spellings, DecomposedSoftmax) {
  expect_score(std::string(kPlainScore) +
                   "  %m = reduce_max %s, axis=3 : f32[B,4,Sq,1]\n  %d = sub %s, %m : f32[B,4,Sq,Sk]\n"
                   "  %x = exp %d : f32[B,4,Sq,Sk]\n  %l = reduce_sum %x, axis=3, keepdims=false : f32[B,4,Sq]\n"
                   "  %r = reshape %l : f32[B,4,Sq,1]\n  %w = broadcast %r : f32[B,4,Sq,Sk]\n"
                   "  %p = div %x, %w : f32[B,4,Sq,Sk]\n  %o = matmul %p, %v : f32[B,4,Sq,8]\n",
               "s");
}

TEST(Spellings, TransposedValueAndTransposedProduct) {
  expect_score(std::string(kPlainScore) +
                   "  %p = softmax %s, axis=3 : f32[B,4,Sq,Sk]\n  %vt = transpose %v, perm=[0,1,3,2] : f32[B,4,8,Sk]\n"
                   "  %o = matmul_nt %p, %vt : f32[B,4,Sq,8]\n",
               "s");
  expect_score(std::string(kPlainScore) +
                   "  %p = softmax %s, axis=3 : f32[B,4,Sq,Sk]\n  %vt = transpose %v, perm=[0,1,3,2] : f32[B,4,8,Sk]\n"
                   "  %ot = matmul_nt %vt, %p : f32[B,4,8,Sq]\n"
                   "  %o = transpose %ot, perm=[0,1,3,2] : f32[B,4,Sq,8]\n",
               "s");
  expect_score(std::string("  %st = matmul_nt %k, %q : f32[B,4,Sk,Sq]\n"
                           "  %e = transpose %st, perm=[0,1,3,2] : f32[B,4,Sq,Sk]\n") +
                   kPlainValue,
               "s");
}

TEST(Spellings, CastsInBetween) {
  const Program program = fuse_and_check(
      "graph @g(%q: bf16[B,4,Sq,8], %k: bf16[B,4,Sk,8], %v: bf16[B,4,Sk,8]) -> bf16[B,4,Sq,8] {\n"
      "  %qs = mul %q, 0.5 : bf16[B,4,Sq,8]\n  %qf = cast %qs : f32[B,4,Sq,8]\n  %kf = cast %k : f32[B,4,Sk,8]\n"
      "  %s = matmul_nt %qf, %kf : f32[B,4,Sq,Sk]\n  %sb = cast %s : bf16[B,4,Sq,Sk]\n"
      "  %sf = cast %sb : f32[B,4,Sq,Sk]\n  %p = softmax %sf, axis=3 : f32[B,4,Sq,Sk]\n"
      "  %pb = cast %p : bf16[B,4,Sq,Sk]\n  %o = matmul %pb, %v : f32[B,4,Sq,8]\n  %ob = cast %o : bf16[B,4,Sq,8]\n"
      "  return %ob\n}\n");
  const AttentionSpec& spec = only_attention(program);
  EXPECT_EQ(text(spec, spec.dots[0].query), "%q[b, h, q, d]");
  EXPECT_EQ(text(spec, spec.score), "mul(s, 0.5)");
  EXPECT_EQ(text(spec, spec.output), "%ob[b, h, q, d]");
  EXPECT_EQ(spec.accumulate, DType::f32);
}

TEST(Spellings, OperandsOfTwoDtypesMeetAfterTheCast) {
  const Program program = fuse_and_check(
      "graph @g(%q: bf16[2,Sq,8], %k: f32[2,Sk,8], %v: f32[2,Sk,8]) -> f32[2,Sq,8] {\n"
      "  %qf = cast %q : f32[2,Sq,8]\n  %s = matmul_nt %qf, %k : f32[2,Sq,Sk]\n"
      "  %p = softmax %s, axis=2 : f32[2,Sq,Sk]\n  %o = matmul %p, %v : f32[2,Sq,8]\n  return %o\n}\n");
  ASSERT_EQ(attentions(program).size(), 1u);
  const AttentionSpec& spec = *attentions(program)[0];
  EXPECT_EQ(text(spec, spec.dots[0].query), "%qf[h, q, d]");
}

TEST(Spellings, GroupedHeads) {
  const std::string params = "graph @g(%q: f32[B,8,Sq,4], %k: f32[B,2,Sk,4], %v: f32[B,2,Sk,4]) -> f32[B,8,Sq,4] {\n";
  const std::string repeat = params +
                             "  %kh = repeat_heads %k, times=4 : f32[B,8,Sk,4]\n"
                             "  %vh = repeat_heads %v, times=4 : f32[B,8,Sk,4]\n"
                             "  %s = matmul_nt %q, %kh : f32[B,8,Sq,Sk]\n  %p = softmax %s, axis=3 : f32[B,8,Sq,Sk]\n"
                             "  %o = matmul %p, %vh : f32[B,8,Sq,4]\n  return %o\n}\n";
  const std::string broadcast =
      params +
      "  %k5 = reshape %k : f32[B,2,1,Sk,4]\n  %kb = broadcast %k5 : f32[B,2,4,Sk,4]\n"
      "  %kh = reshape %kb : f32[B,8,Sk,4]\n  %v5 = reshape %v : f32[B,2,1,Sk,4]\n"
      "  %vb = broadcast %v5 : f32[B,2,4,Sk,4]\n  %vh = reshape %vb : f32[B,8,Sk,4]\n"
      "  %s = matmul_nt %q, %kh : f32[B,8,Sq,Sk]\n  %p = softmax %s, axis=3 : f32[B,8,Sq,Sk]\n"
      "  %o = matmul %p, %vh : f32[B,8,Sq,4]\n  return %o\n}\n";
  const std::string reshape = params +
                              "  %q5 = reshape %q : f32[B,2,4,Sq,4]\n  %k5 = reshape %k : f32[B,2,1,Sk,4]\n"
                              "  %v5 = reshape %v : f32[B,2,1,Sk,4]\n  %s = matmul_nt %q5, %k5 : f32[B,2,4,Sq,Sk]\n"
                              "  %p = softmax %s, axis=4 : f32[B,2,4,Sq,Sk]\n  %o5 = matmul %p, %v5 : f32[B,2,4,Sq,4]\n"
                              "  %o = reshape %o5 : f32[B,8,Sq,4]\n  return %o\n}\n";
  for (const std::string& source : {repeat, broadcast, reshape}) {
    const Program program = fuse_and_check(source);
    const AttentionSpec& spec = only_attention(program);
    EXPECT_EQ(text(spec, spec.dots[0].query), "%q[b, h, q, d]");
    EXPECT_EQ(text(spec, spec.dots[0].key), "%k[b, div(h, 4), kv, d]");
    EXPECT_EQ(text(spec, spec.value), "%v[b, div(h, 4), kv, d]");
    EXPECT_EQ(text(spec, spec.output), "%o[b, h, q, d]");
    EXPECT_EQ(spec.head_group, 4);
  }
}

TEST(Spellings, QueriesOfAGroupAsRows) {
  const Program program = fuse_and_check(
      "graph @g(%q: f32[B,8,Sq,4], %k: f32[B,2,Sk,4], %v: f32[B,2,Sk,4], %m: bool[Sq,Sk]) -> f32[B,8,Sq,4] {\n"
      "  %qr = reshape %q : f32[B,2,4*Sq,4]\n  %r = matmul_nt %qr, %k : f32[B,2,4*Sq,Sk]\n"
      "  %s = reshape %r : f32[B,8,Sq,Sk]\n  %e = select %m, %s, -inf : f32[B,8,Sq,Sk]\n"
      "  %p = softmax %e, axis=3 : f32[B,8,Sq,Sk]\n  %vh = repeat_heads %v, times=4 : f32[B,8,Sk,4]\n"
      "  %o = matmul %p, %vh : f32[B,8,Sq,4]\n  return %o\n}\n");
  const AttentionSpec& spec = only_attention(program);
  EXPECT_EQ(text(spec, spec.dots[0].query), "%q[b, h, q, d]");
  EXPECT_EQ(text(spec, spec.dots[0].key), "%k[b, div(h, 4), kv, d]");
}

TEST(Spellings, OneKeyHeadForAll) {
  const Program program = fuse_and_check(
      "graph @g(%q: f32[B,8,Sq,4], %k: f32[B,1,Sk,4], %v: f32[B,1,Sk,4]) -> f32[B,8,Sq,4] {\n"
      "  %s = matmul_nt %q, %k : f32[B,8,Sq,Sk]\n  %p = softmax %s, axis=3 : f32[B,8,Sq,Sk]\n"
      "  %o = matmul %p, %v : f32[B,8,Sq,4]\n  return %o\n}\n");
  const AttentionSpec& spec = only_attention(program);
  EXPECT_EQ(text(spec, spec.dots[0].key), "%k[b, 0, kv, d]");
  EXPECT_EQ(spec.head_group, 8);
}

TEST(Spellings, PackedProjectionsAndMergedOutput) {
  const Program program = fuse_and_check(
      "graph @g(%qkv: f32[B,S,96]) -> f32[B,S,32] {\n"
      "  %r = reshape %qkv : f32[B,S,3,4,8]\n  %t = transpose %r, perm=[2,0,3,1,4] : f32[3,B,4,S,8]\n"
      "  %q0 = slice %t, axis=0, begin=0, end=1 : f32[1,B,4,S,8]\n  %q = reshape %q0 : f32[B,4,S,8]\n"
      "  %k0 = slice %t, axis=0, begin=1, end=2 : f32[1,B,4,S,8]\n  %k = reshape %k0 : f32[B,4,S,8]\n"
      "  %v0 = slice %t, axis=0, begin=2, end=3 : f32[1,B,4,S,8]\n  %v = reshape %v0 : f32[B,4,S,8]\n"
      "  %s = matmul_nt %q, %k : f32[B,4,S,S]\n  %e = mask_causal %s, align=top_left : f32[B,4,S,S]\n"
      "  %p = softmax %e, axis=3 : f32[B,4,S,S]\n  %x = matmul %p, %v : f32[B,4,S,8]\n"
      "  %y = transpose %x, perm=[0,2,1,3] : f32[B,S,4,8]\n  %o = reshape %y : f32[B,S,32]\n  return %o\n}\n");
  const AttentionSpec& spec = only_attention(program);
  EXPECT_EQ(text(spec, spec.dots[0].query), "%qkv[b, q, add(mul(h, 8), d)]");
  EXPECT_EQ(text(spec, spec.dots[0].key), "%qkv[b, kv, add(add(mul(h, 8), d), 32)]");
  EXPECT_EQ(text(spec, spec.value), "%qkv[b, kv, add(add(mul(h, 8), d), 64)]");
  EXPECT_EQ(text(spec, spec.output), "%o[b, q, add(mul(h, 8), d)]");
  EXPECT_EQ(spec.tensors.size(), 2u);
}

TEST(Spellings, BatchAndHeadsAsOneAxis) {
  const Program program = fuse_and_check(
      "graph @g(%q: f32[B,4,Sq,8], %k: f32[B,4,Sk,8], %v: f32[B,4,Sk,8], %m: bool[B,1,1,Sk]) -> f32[B,Sq,32] {\n"
      "  %q3 = reshape %q : f32[4*B,Sq,8]\n  %k3 = reshape %k : f32[4*B,Sk,8]\n  %v3 = reshape %v : f32[4*B,Sk,8]\n"
      "  %s3 = matmul_nt %q3, %k3 : f32[4*B,Sq,Sk]\n  %s = reshape %s3 : f32[B,4,Sq,Sk]\n"
      "  %e = select %m, %s, -inf : f32[B,4,Sq,Sk]\n  %p = softmax %e, axis=3 : f32[B,4,Sq,Sk]\n"
      "  %p3 = reshape %p : f32[4*B,Sq,Sk]\n  %o3 = matmul %p3, %v3 : f32[4*B,Sq,8]\n"
      "  %o4 = reshape %o3 : f32[B,4,Sq,8]\n  %ot = transpose %o4, perm=[0,2,1,3] : f32[B,Sq,4,8]\n"
      "  %o = reshape %ot : f32[B,Sq,32]\n  return %o\n}\n");
  const AttentionSpec& spec = only_attention(program);
  EXPECT_EQ(text(spec, spec.dots[0].query), "%q[div(h, 4), mod(h, 4), q, d]");
  EXPECT_EQ(text(spec, spec.keep), "%m[div(h, 4), 0, 0, kv]");
}

TEST(Spellings, LowerRanks) {
  const Program heads = fuse_and_check(
      "graph @g(%q: f32[4,Sq,8], %k: f32[4,Sk,8], %v: f32[4,Sk,8]) -> f32[4,Sq,8] {\n"
      "  %s = matmul_nt %q, %k : f32[4,Sq,Sk]\n  %p = softmax %s, axis=2 : f32[4,Sq,Sk]\n"
      "  %o = matmul %p, %v : f32[4,Sq,8]\n  return %o\n}\n");
  EXPECT_EQ(text(only_attention(heads), only_attention(heads).dots[0].key), "%k[h, kv, d]");
  EXPECT_TRUE(only_attention(heads).batch.empty());
  const Program single = fuse_and_check(
      "graph @g(%q: f32[Sq,8], %k: f32[Sk,8], %v: f32[Sk,3]) -> f32[Sq,3] {\n"
      "  %s = matmul_nt %q, %k : f32[Sq,Sk]\n  %p = softmax %s, axis=1 : f32[Sq,Sk]\n"
      "  %o = matmul %p, %v : f32[Sq,3]\n  return %o\n}\n");
  EXPECT_EQ(text(only_attention(single), only_attention(single).dots[0].key), "%k[kv, d]");
  EXPECT_EQ(only_attention(single).value_dim, 3);
}

TEST(Spellings, TwoBatchAxes) {
  const Program program = fuse_and_check(
      "graph @g(%q: f32[B,R,4,S,8], %k: f32[B,R,4,S,8], %v: f32[B,R,4,S,8], %pair: f32[B,1,4,S,S]) -> "
      "f32[B,R,4,S,8] {\n"
      "  %s = matmul_nt %q, %k : f32[B,R,4,S,S]\n  %e = add %s, %pair : f32[B,R,4,S,S]\n"
      "  %p = softmax %e, axis=4 : f32[B,R,4,S,S]\n  %o = matmul %p, %v : f32[B,R,4,S,8]\n  return %o\n}\n",
      {{"B", 2}, {"R", 3}});
  const AttentionSpec& spec = only_attention(program);
  EXPECT_EQ(spec.batch.size(), 2u);
  EXPECT_EQ(text(spec, spec.dots[0].query), "%q[div(b, dim(R)), mod(b, dim(R)), h, q, d]");
  EXPECT_EQ(text(spec, spec.score), "add(s, %pair[div(b, dim(R)), 0, h, q, kv])");
}

TEST(Spellings, SinkAsConcatenation) {
  for (const bool first : {false, true}) {
    const std::string parts = first ? "%col, %s" : "%s, %col";
    const std::string range = first ? "begin=1, end=Sk+1" : "begin=0, end=Sk";
    const Program program =
        fuse_and_check(graph(std::string(kPlainScore) +
                                 "  %r = reshape %sink : f32[1,4,1,1]\n  %col = broadcast %r : f32[B,4,Sq,1]\n"
                                 "  %z = concat " +
                                 parts +
                                 ", axis=3 : f32[B,4,Sq,Sk+1]\n"
                                 "  %y = softmax %z, axis=3 : f32[B,4,Sq,Sk+1]\n"
                                 "  %p = slice %y, axis=3, " +
                                 range + " : f32[B,4,Sq,Sk]\n  %o = matmul %p, %v : f32[B,4,Sq,8]\n",
                             ", %sink: f32[4]"));
    const AttentionSpec& spec = only_attention(program);
    ASSERT_TRUE(spec.sink.has_value());
    EXPECT_EQ(text(spec, *spec.sink), "%sink[h]");
  }
}

TEST(Spellings, LogSumExpJoins) {
  for (const char* lse : {"  %l = logsumexp %s, axis=3, keepdims=false : f32[B,4,Sq]\n",
                          "  %m = reduce_max %s, axis=3, keepdims=false : f32[B,4,Sq]\n"
                          "  %mk = reshape %m : f32[B,4,Sq,1]\n  %sd = sub %s, %mk : f32[B,4,Sq,Sk]\n"
                          "  %x = exp %sd : f32[B,4,Sq,Sk]\n"
                          "  %sum = reduce_sum %x, axis=3, keepdims=false : f32[B,4,Sq]\n"
                          "  %lg = log %sum : f32[B,4,Sq]\n  %l = add %m, %lg : f32[B,4,Sq]\n"}) {
    const Program program = fuse_and_check(
        "graph @g(%q: f32[B,4,Sq,8], %k: f32[B,4,Sk,8], %v: f32[B,4,Sk,8]) -> (f32[B,4,Sq,8], f32[B,4,Sq]) {\n" +
        std::string(kPlainScore) + lse +
        "  %p = softmax %s, axis=3 : f32[B,4,Sq,Sk]\n  %o = matmul %p, %v : f32[B,4,Sq,8]\n  return %o, %l\n}\n");
    const AttentionSpec& spec = only_attention(program);
    ASSERT_TRUE(spec.logsumexp.has_value());
    EXPECT_EQ(text(spec, *spec.logsumexp), "%l[b, h, q]");
  }
}

TEST(Spellings, WithoutNormaliser) {
  const std::string condition = ", %c: bool[Sq,Sk], %bias: f32[4,1,1]";
  expect_score(std::string(kPlainScore) +
                   "  %x = add %s, %bias : f32[B,4,Sq,Sk]\n  %m = select %c, %x, -inf : f32[B,4,Sq,Sk]\n"
                   "  %p = sigmoid %m : f32[B,4,Sq,Sk]\n  %o = matmul %p, %v : f32[B,4,Sq,8]\n",
               "sigmoid(add(s, %bias[h, 0, 0]))", "%c[q, kv]", condition);
  // x · sigmoid(x), the weights rounded on the way.
  expect_score(std::string(kPlainScore) +
                   "  %x = add %s, %bias : f32[B,4,Sq,Sk]\n  %g = sigmoid %x : f32[B,4,Sq,Sk]\n"
                   "  %y = mul %x, %g : f32[B,4,Sq,Sk]\n  %z = cast %y : bf16[B,4,Sq,Sk]\n"
                   "  %p = cast %z : f32[B,4,Sq,Sk]\n  %o = matmul %p, %v : f32[B,4,Sq,8]\n",
               "let x0 = add(s, %bias[h, 0, 0]); mul(x0, sigmoid(x0))", "true", condition);
  expect_score(std::string(kPlainScore) +
                   "  %x = max %s, 0.0 : f32[B,4,Sq,Sk]\n  %p = select %c, %x, 0.0 : f32[B,4,Sq,Sk]\n"
                   "  %o = matmul %p, %v : f32[B,4,Sq,8]\n",
               "max(s, 0)", "%c[q, kv]", ", %c: bool[Sq,Sk]");
  expect_score(std::string(kPlainScore) +
                   "  %a = mul %s, 0.7071 : f32[B,4,Sq,Sk]\n  %b = erf %a : f32[B,4,Sq,Sk]\n"
                   "  %f = add %b, 1.0 : f32[B,4,Sq,Sk]\n  %g = mul %s, %f : f32[B,4,Sq,Sk]\n"
                   "  %w = cast %c : f32[Sq,Sk]\n  %p = mul %g, %w : f32[B,4,Sq,Sk]\n"
                   "  %o = matmul %p, %v : f32[B,4,Sq,8]\n",
               "mul(s, add(erf(mul(s, 0.7071)), 1))", "%c[q, kv]", ", %c: bool[Sq,Sk]");
}

}  // namespace
}  // namespace tilewright::testing
