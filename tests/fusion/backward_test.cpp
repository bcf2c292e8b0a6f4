// Flash backward in graphs spelled by hand: what joins one backward pass, what it means, and what stays out.
#include <gtest/gtest.h>

#include "ir/text.h"
#include "tests/support/fusion_case.h"

namespace tilewright::testing {
namespace {

/// Statements between the scores %s: f32[B,4,Sq,Sk] and the gradients: `score` makes %e of %s, `back` makes %ds of %de.
struct BackwardText {
  std::string params, results, returned;
  std::string score = "%e = mul %s, 0.25 : f32[B,4,Sq,Sk]\n";
  std::string back = "%ds = mul %de, 0.25 : f32[B,4,Sq,Sk]\n";
  std::string more;
};

std::string softmax_backward(const BackwardText& parts) {
  std::string text =
      "graph @g(%q: f32[B,4,Sq,16], %k: f32[B,4,Sk,16], %v: f32[B,4,Sk,8], %o: f32[B,4,Sq,8], %lse: f32[B,4,Sq],\n"
      "         %d_o: f32[B,4,Sq,8]" +
      parts.params + ") -> (f32[B,4,Sq,16], f32[B,4,Sk,16], f32[B,4,Sk,8]" + parts.results + ") {\n";
  text += "%i = index axis=2 : i64[1,1,Sq,1]\n%j = index axis=3 : i64[1,1,1,Sk]\n";
  text += "%s = matmul_nt %q, %k : f32[B,4,Sq,Sk]\n" + parts.score;
  text += R"(
    %none  = eq %lse, -inf                           : bool[B,4,Sq]
    %safe  = select %none, 0, %lse                   : f32[B,4,Sq]
    %row   = reshape %safe                           : f32[B,4,Sq,1]
    %shift = sub %e, %row                            : f32[B,4,Sq,Sk]
    %p     = exp %shift                              : f32[B,4,Sq,Sk]
    %oo    = mul %d_o, %o                            : f32[B,4,Sq,8]
    %delta = reduce_sum %oo, axis=3, keepdims=true   : f32[B,4,Sq,1]
    %pt    = transpose %p, perm=[0,1,3,2]            : f32[B,4,Sk,Sq]
    %d_v   = matmul %pt, %d_o                        : f32[B,4,Sk,8]
    %dp    = matmul_nt %d_o, %v                      : f32[B,4,Sq,Sk]
    %dpd   = sub %dp, %delta                         : f32[B,4,Sq,Sk]
    %de    = mul %p, %dpd                            : f32[B,4,Sq,Sk]
  )" + parts.back +
          R"(
    %d_q   = matmul %ds, %k                          : f32[B,4,Sq,16]
    %dst   = transpose %ds, perm=[0,1,3,2]           : f32[B,4,Sk,Sq]
    %d_k   = matmul %dst, %q                         : f32[B,4,Sk,16]
  )" + parts.more +
          "return %d_q, %d_k, %d_v" + parts.returned + "\n}\n";
  return text;
}

const BackwardSpec& only_backward(const Program& program) {
  static const BackwardSpec kNone;
  const auto found = backwards(program);
  EXPECT_TRUE(found.size() == 1 && attentions(program).empty()) << print(program);
  EXPECT_TRUE(program.not_fused.empty()) << print(program);
  return found.size() == 1 ? *found[0] : kNone;
}

std::string dag_text(const BackwardSpec& spec, ExprId id) {
  Expr expr;
  expr.set_root(expr.import(spec.weights, id));
  return print(expr, spec.tensors);
}

size_t count(const BackwardSpec& spec, Op op) {
  size_t n = 0;
  for (const ExprNode& node : spec.weights.nodes()) n += node.kind == ExprKind::op && node.op == op;
  return n;
}

TEST(Backward, SoftmaxIsOnePass) {
  const Program program = fuse_and_check(softmax_backward({}));
  const BackwardSpec& spec = only_backward(program);
  EXPECT_EQ(program.steps.size(), 2u) << print(program);  // delta is a step of its own
  EXPECT_EQ(spec.rows.size(), 1u);
  EXPECT_EQ(spec.columns.size(), 2u);
  EXPECT_EQ(count(spec, Op::exp), 1u) << print(spec);
  EXPECT_TRUE(spec.keep.is_constant_true());
}

TEST(Backward, TheMaskLeavesTheWeights) {
  BackwardText parts;
  parts.score =
      "%scaled = mul %s, 0.25 : f32[B,4,Sq,Sk]\n%keep = le %j, %i : bool[1,1,Sq,Sk]\n"
      "%e = select %keep, %scaled, -inf : f32[B,4,Sq,Sk]\n";
  parts.back = "%dc = select %keep, %de, 0 : f32[B,4,Sq,Sk]\n%ds = mul %dc, 0.25 : f32[B,4,Sq,Sk]\n";
  const Program program = fuse_and_check(softmax_backward(parts));
  const BackwardSpec& spec = only_backward(program);
  EXPECT_EQ(print(spec.keep, spec.tensors), "le(kv, q)");
  EXPECT_EQ(count(spec, Op::exp), 1u) << print(spec);
  EXPECT_EQ(dag_text(spec, spec.rows.at(0).weight).find("kv, q"), std::string::npos) << print(spec);
}

TEST(Backward, AnAdditiveMaskIsTheSame) {
  BackwardText parts;
  parts.score =
      "%scaled = mul %s, 0.25 : f32[B,4,Sq,Sk]\n%keep = le %j, %i : bool[1,1,Sq,Sk]\n"
      "%m = select %keep, 0, -inf : f32[1,1,Sq,Sk]\n%e = add %scaled, %m : f32[B,4,Sq,Sk]\n";
  const Program program = fuse_and_check(softmax_backward(parts));
  const BackwardSpec& spec = only_backward(program);
  EXPECT_EQ(print(spec.keep, spec.tensors), "le(kv, q)");
  EXPECT_EQ(count(spec, Op::exp), 1u) << print(spec);
}

TEST(Backward, SoftcapShares) {
  BackwardText parts;
  parts.score = "%a = div %s, 5 : f32[B,4,Sq,Sk]\n%t = tanh %a : f32[B,4,Sq,Sk]\n%e = mul %t, 5 : f32[B,4,Sq,Sk]\n";
  parts.back =
      "%tt = mul %t, %t : f32[B,4,Sq,Sk]\n%one = sub 1, %tt : f32[B,4,Sq,Sk]\n%ds = mul %de, %one : "
      "f32[B,4,Sq,Sk]\n";
  const BackwardSpec spec = only_backward(fuse_and_check(softmax_backward(parts)));
  EXPECT_EQ(count(spec, Op::tanh), 1u) << print(spec);
}

TEST(Backward, ABiasOfEveryShapeIsACapturedSum) {
  for (const auto& [shape, sums] : std::vector<std::pair<std::string, std::vector<int>>>{{"B,4,Sq,Sk", {}},
                                                                                         {"1,4,Sq,Sk", {0}},
                                                                                         {"B,1,1,Sk", {1, 2}},
                                                                                         {"1,4,1,1", {0, 2, 3}},
                                                                                         {"1,1,Sq,1", {0, 1, 3}}}) {
    BackwardText parts;
    parts.params = ", %bias: f32[" + shape + "]";
    parts.score = "%scaled = mul %s, 0.25 : f32[B,4,Sq,Sk]\n%e = add %scaled, %bias : f32[B,4,Sq,Sk]\n";
    std::vector<std::string> dims{"B", "4", "Sq", "Sk"};
    std::string last = "%de";
    for (int axis : sums) {
      dims[static_cast<size_t>(axis)] = "1";
      const std::string next = "%r" + std::to_string(axis);
      parts.more += next + " = reduce_sum " + last + ", axis=" + std::to_string(axis) + ", keepdims=true : f32[" +
                    dims[0] + "," + dims[1] + "," + dims[2] + "," + dims[3] + "]\n";
      last = next;
    }
    parts.results = ", f32[" + shape + "]";
    parts.returned = ", " + last;
    const Program program = fuse_and_check(softmax_backward(parts));
    const BackwardSpec& spec = only_backward(program);
    ASSERT_EQ(spec.captured.size(), 1u) << print(program);
    EXPECT_EQ(program.steps.size(), 2u) << print(program);
  }
}

TEST(Backward, SlopesOfAlibi) {
  BackwardText parts;
  parts.params = ", %slope: f32[4]";
  parts.results = ", f32[4]";
  parts.score =
      "%d = sub %j, %i : i64[1,1,Sq,Sk]\n%dist = cast %d : f32[1,1,Sq,Sk]\n%sl = reshape %slope : f32[1,4,1,1]\n"
      "%bias = mul %sl, %dist : f32[1,4,Sq,Sk]\n%scaled = mul %s, 0.25 : f32[B,4,Sq,Sk]\n"
      "%e = add %scaled, %bias : f32[B,4,Sq,Sk]\n";
  parts.more =
      "%r0 = reduce_sum %de, axis=0, keepdims=true : f32[1,4,Sq,Sk]\n%m = mul %r0, %dist : f32[1,4,Sq,Sk]\n"
      "%r2 = reduce_sum %m, axis=2, keepdims=true : f32[1,4,1,Sk]\n"
      "%r3 = reduce_sum %r2, axis=3, keepdims=true : f32[1,4,1,1]\n%d_slope = reshape %r3 : f32[4]\n";
  parts.returned = ", %d_slope";
  const Program program = fuse_and_check(softmax_backward(parts));
  const BackwardSpec& spec = only_backward(program);
  ASSERT_EQ(spec.captured.size(), 1u) << print(program);
  ASSERT_EQ(spec.captured[0].index.size(), 1u);
  EXPECT_EQ(dag_text(spec, spec.captured[0].index[0]), "h");
  EXPECT_EQ(program.steps.size(), 2u) << print(program);
}

TEST(Backward, DeltaInFullIsAPassBefore) {
  std::string source = softmax_backward({});
  const std::string row = "%oo    = mul %d_o, %o                            : f32[B,4,Sq,8]";
  const std::string sum = "%delta = reduce_sum %oo, axis=3, keepdims=true   : f32[B,4,Sq,1]";
  source.erase(source.find(row), row.size());
  source.erase(source.find(sum), sum.size());
  const std::string dp = "%dp    = matmul_nt %d_o, %v                      : f32[B,4,Sq,Sk]";
  source.insert(source.find(dp) + dp.size(),
                "\n%pdp = mul %p, %dp : f32[B,4,Sq,Sk]\n%delta = reduce_sum %pdp, axis=3, keepdims=true : "
                "f32[B,4,Sq,1]\n");
  const Program program = fuse_and_check(source);
  EXPECT_EQ(backwards(program).size(), 2u) << print(program);
  EXPECT_EQ(program.steps.size(), 2u) << print(program);
}

TEST(Backward, ScoresThatAreReadElsewhereStayOut) {
  BackwardText parts;
  parts.results = ", f32[B,4,Sq,1]";
  parts.more = "%top = reduce_max %e, axis=3, keepdims=true : f32[B,4,Sq,1]\n";
  parts.returned = ", %top";
  const Program program = fuse_and_check(softmax_backward(parts));
  EXPECT_TRUE(backwards(program).empty()) << print(program);
  ASSERT_FALSE(program.not_fused.empty());
  EXPECT_EQ(program.not_fused[0].value, "top");
}

TEST(Backward, ForwardAndBackwardInOneGraph) {
  const Program program = fuse_and_check(R"(
    graph @g(%q: f32[B,4,S,16], %k: f32[B,2,S,16], %v: f32[B,2,S,16], %d_o: f32[B,4,S,16])
        -> (f32[B,4,S,16], f32[B,2,S,16], f32[B,2,S,16]) {
      %kr    = repeat_heads %k, times=2                : f32[B,4,S,16]
      %vr    = repeat_heads %v, times=2                : f32[B,4,S,16]
      %s     = matmul_nt %q, %kr                       : f32[B,4,S,S]
      %c     = mul %s, 0.25                            : f32[B,4,S,S]
      %e     = mask_causal %c, align=top_left          : f32[B,4,S,S]
      %w     = softmax %e, axis=3                      : f32[B,4,S,S]
      %lse   = logsumexp %e, axis=3, keepdims=true     : f32[B,4,S,1]
      %o     = matmul %w, %vr                          : f32[B,4,S,16]
      %none  = eq %lse, -inf                           : bool[B,4,S,1]
      %safe  = select %none, 0, %lse                   : f32[B,4,S,1]
      %shift = sub %e, %safe                           : f32[B,4,S,S]
      %p     = exp %shift                              : f32[B,4,S,S]
      %oo    = mul %d_o, %o                            : f32[B,4,S,16]
      %delta = reduce_sum %oo, axis=3, keepdims=true   : f32[B,4,S,1]
      %pt    = transpose %p, perm=[0,1,3,2]            : f32[B,4,S,S]
      %dvr   = matmul %pt, %d_o                        : f32[B,4,S,16]
      %dvg   = reshape %dvr                            : f32[B,2,2,S,16]
      %d_v   = reduce_sum %dvg, axis=2, keepdims=false : f32[B,2,S,16]
      %dp    = matmul_nt %d_o, %vr                     : f32[B,4,S,S]
      %dpd   = sub %dp, %delta                         : f32[B,4,S,S]
      %de    = mul %p, %dpd                            : f32[B,4,S,S]
      %ds    = mul %de, 0.25                           : f32[B,4,S,S]
      %d_q   = matmul %ds, %kr                         : f32[B,4,S,16]
      %dst   = transpose %ds, perm=[0,1,3,2]           : f32[B,4,S,S]
      %dkr   = matmul %dst, %q                         : f32[B,4,S,16]
      %dkg   = reshape %dkr                            : f32[B,2,2,S,16]
      %d_k   = reduce_sum %dkg, axis=2, keepdims=false : f32[B,2,S,16]
      return %d_q, %d_k, %d_v
    })");
  ASSERT_EQ(attentions(program).size(), 1u) << print(program);
  ASSERT_EQ(backwards(program).size(), 1u) << print(program);
  EXPECT_EQ(program.steps.size(), 3u) << print(program);
  EXPECT_TRUE(attentions(program)[0]->logsumexp.has_value());
  EXPECT_EQ(backwards(program)[0]->head_group, 2);
}

TEST(Backward, WithoutNormaliserAndWithoutSomeGradients) {
  const Program program = fuse_and_check(R"(
    graph @g(%q: f32[H,Sq,16], %k: f32[H,Sk,16], %v: f32[H,Sk,8], %d_o: f32[H,Sq,8], %bias: f32[])
        -> (f32[H,Sk,8], f32[H,Sq,16], f32[]) {
      %s   = matmul_nt %q, %k                     : f32[H,Sq,Sk]
      %x   = add %s, %bias                        : f32[H,Sq,Sk]
      %p   = sigmoid %x                           : f32[H,Sq,Sk]
      %pt  = transpose %p, perm=[0,2,1]           : f32[H,Sk,Sq]
      %d_v = matmul %pt, %d_o                     : f32[H,Sk,8]
      %dp  = matmul_nt %d_o, %v                   : f32[H,Sq,Sk]
      %np  = sub 1, %p                            : f32[H,Sq,Sk]
      %pp  = mul %p, %np                          : f32[H,Sq,Sk]
      %ds  = mul %dp, %pp                         : f32[H,Sq,Sk]
      %d_q = matmul %ds, %k                       : f32[H,Sq,16]
      %r0  = reduce_sum %ds, axis=0, keepdims=false : f32[Sq,Sk]
      %r1  = reduce_sum %r0, axis=0, keepdims=false : f32[Sk]
      %r2  = reduce_sum %r1, axis=0, keepdims=false : f32[]
      return %d_v, %d_q, %r2
    })");
  const BackwardSpec& spec = only_backward(program);
  EXPECT_EQ(program.steps.size(), 1u) << print(program);
  EXPECT_EQ(spec.captured.size(), 1u);
  EXPECT_EQ(count(spec, Op::sigmoid), 1u) << print(spec);
}

TEST(Backward, TwoDotTerms) {
  BackwardText parts;
  parts.params = ", %q2: f32[B,4,Sq,8], %k2: f32[B,1,Sk,8]";
  parts.results = ", f32[B,4,Sq,8], f32[B,1,Sk,8]";
  parts.score =
      "%s2 = matmul_nt %q2, %k2 : f32[B,4,Sq,Sk]\n%both = add %s, %s2 : f32[B,4,Sq,Sk]\n"
      "%e = mul %both, 0.25 : f32[B,4,Sq,Sk]\n";
  parts.more =
      "%d_q2 = matmul %ds, %k2 : f32[B,4,Sq,8]\n%dk2 = matmul %dst, %q2 : f32[B,4,Sk,8]\n"
      "%d_k2 = reduce_sum %dk2, axis=1, keepdims=true : f32[B,1,Sk,8]\n";
  parts.returned = ", %d_q2, %d_k2";
  const BackwardSpec spec = only_backward(fuse_and_check(softmax_backward(parts)));
  EXPECT_EQ(spec.dots.size(), 2u);
  EXPECT_EQ(spec.rows.size(), 2u);
  EXPECT_EQ(spec.columns.size(), 3u);
}

TEST(Backward, AStrongerMaskOfOneWeightStaysASelect) {
  std::string source = softmax_backward({});
  const std::string pt = "%pt    = transpose %p,";
  source.replace(source.find(pt), pt.size(),
                 "%odd = mod %j, 2 : i64[1,1,1,Sk]\n%some = eq %odd, 1 : bool[1,1,1,Sk]\n"
                 "%ps = select %some, %p, 0 : f32[B,4,Sq,Sk]\n%pt = transpose %ps,");
  const BackwardSpec spec = only_backward(fuse_and_check(source));
  EXPECT_TRUE(spec.keep.is_constant_true()) << print(spec);
  EXPECT_EQ(count(spec, Op::exp), 1u) << print(spec);
}

TEST(Backward, LayersWithoutAttentionStayOut) {
  const Program program = fuse_and_check(R"(
    graph @mlp(%x: f32[N,64], %w1: f32[64,96], %w2: f32[96,64], %dy: f32[N,64])
        -> (f32[N,64], f32[64,96], f32[96,64]) {
      %h   = matmul %x, %w1                : f32[N,96]
      %a   = sigmoid %h                    : f32[N,96]
      %at  = transpose %a, perm=[1,0]      : f32[96,N]
      %d2  = matmul %at, %dy               : f32[96,64]
      %da  = matmul_nt %dy, %w2            : f32[N,96]
      %n   = sub 1, %a                     : f32[N,96]
      %an  = mul %a, %n                    : f32[N,96]
      %dh  = mul %da, %an                  : f32[N,96]
      %dx  = matmul_nt %dh, %w1            : f32[N,64]
      %xt  = transpose %x, perm=[1,0]      : f32[64,N]
      %d1  = matmul %xt, %dh               : f32[64,96]
      return %dx, %d1, %d2
    })");
  EXPECT_TRUE(backwards(program).empty()) << print(program);
}

}  // namespace
}  // namespace tilewright::testing
