#include <gtest/gtest.h>

#include "ir/text.h"
#include "ir/verify.h"
#include "tests/ir/spec_text_case.h"

namespace tilewright {
namespace {

std::string reprint(std::string_view text) {
  const auto graph = parse_graph(text);
  if (!graph) return to_string(graph.error());
  const Diagnostics errors = verify(*graph);
  return errors.empty() ? print(*graph) : "verify: " + to_string(errors);
}

constexpr std::string_view kPrefill =
    R"(graph @prefill(%q: bf16[B,32,Sq,128], %k: bf16[B,8,Sk,128], %v: bf16[B,8,Sk,128]) -> bf16[B,32,Sq,128] {
  %kh = repeat_heads %k, times=4             : bf16[B,32,Sk,128]
  %vh = repeat_heads %v, times=4             : bf16[B,32,Sk,128]
  %s  = matmul_nt %q, %kh                    : f32[B,32,Sq,Sk]
  %a  = mul %s, 0.08838834764831845          : f32[B,32,Sq,Sk]
  %e  = mask_causal %a, align=bottom_right   : f32[B,32,Sq,Sk]
  %p  = softmax %e, axis=3                   : f32[B,32,Sq,Sk]
  %pb = cast %p                              : bf16[B,32,Sq,Sk]
  %o  = matmul %pb, %vh                      : bf16[B,32,Sq,128]
  return %o
}
)";

TEST(GraphText, PrintsWhatItParses) {
  const std::string once = reprint(kPrefill);
  EXPECT_EQ(once.substr(0, 9), "graph @pr") << once;
  EXPECT_EQ(reprint(once), once);
}

TEST(GraphText, EveryOpRoundTrips) {
  const std::string text = R"(
graph @all(%q: f32[B,8,Sq,64], inout %k: f32[B,8,Sk,64], %t: i32[B,Sk], %m: bool[Sq,Sk], %h: f32[8], %off: i64[B]) -> (f32[B,8,Sq,64], f32[B,8,Sq]) {
  %c = constant -0.1 : f32[]
  %i = index axis=2 : i64[1,1,Sq,1]
  %j = index axis=3 : i64[1,1,1,Sk]
  %b = index axis=0 : i64[B,1,1,1]
  %n = dim Sk-Sq : i64[]
  %s = matmul_nt %q, %k : f32[B,8,Sq,Sk]
  %a0 = add %s, %c : f32[B,8,Sq,Sk]
  %a1 = sub 1, %a0 : f32[B,8,Sq,Sk]
  %a2 = mul %a1, 1e-5 : f32[B,8,Sq,Sk]
  %a3 = div %a2, -0 : f32[B,8,Sq,Sk]
  %a4 = mod %a3, inf : f32[B,8,Sq,Sk]
  %a5 = min %a4, -inf : f32[B,8,Sq,Sk]
  %a6 = max %a5, nan : f32[B,8,Sq,Sk]
  %i1 = shl %j, 2 : i64[1,1,1,Sk]
  %i2 = shr %i1, 1 : i64[1,1,1,Sk]
  %i3 = logical_and %i2, %i : i64[1,1,Sq,Sk]
  %i4 = logical_or %i3, 7 : i64[1,1,Sq,Sk]
  %i5 = logical_xor %i4, -9223372036854775808 : i64[1,1,Sq,Sk]
  %i6 = logical_not %i5 : i64[1,1,Sq,Sk]
  %l = load %t[%b, %i6] : i32[B,1,Sq,Sk]
  %c0 = eq %l, 3 : bool[B,1,Sq,Sk]
  %c1 = ne %i, %j : bool[1,1,Sq,Sk]
  %c2 = lt %a6, 3 : bool[B,8,Sq,Sk]
  %c3 = le f32(1), 2.5 : bool[]
  %c4 = gt %a6, 0.5 : bool[B,8,Sq,Sk]
  %c5 = ge 1, %i : bool[1,1,Sq,1]
  %d0 = logical_and %c0, %m : bool[B,1,Sq,Sk]
  %d1 = select %d0, %a6, -inf : f32[B,8,Sq,Sk]
  %u0 = neg %d1 : f32[B,8,Sq,Sk]
  %u1 = abs %u0 : f32[B,8,Sq,Sk]
  %u2 = exp %u1 : f32[B,8,Sq,Sk]
  %u3 = exp2 %u2 : f32[B,8,Sq,Sk]
  %u4 = log %u3 : f32[B,8,Sq,Sk]
  %u5 = tanh %u4 : f32[B,8,Sq,Sk]
  %u6 = sigmoid %u5 : f32[B,8,Sq,Sk]
  %u7 = erf %u6 : f32[B,8,Sq,Sk]
  %u8 = sqrt %u7 : f32[B,8,Sq,Sk]
  %u9 = rsqrt %u8 : f32[B,8,Sq,Sk]
  %w0 = floor %u9 : f32[B,8,Sq,Sk]
  %w1 = cast %c0 : i8[B,1,Sq,Sk]
  %x0 = transpose %w0, perm=[0,2,1,3] : f32[B,Sq,8,Sk]
  %x1 = reshape %x0 : f32[B,Sq,2,4,Sk]
  %x2 = slice %x1, axis=3, begin=1, end=3 : f32[B,Sq,2,2,Sk]
  %x3 = concat %x2, %x2, %x2, axis=3 : f32[B,Sq,2,6,Sk]
  %x4 = broadcast %h : f32[B,1,Sq,8]
  %x5 = repeat_heads %x4, times=8 : f32[B,8,Sq,8]
  %r0 = reduce_sum %w0, axis=3 : f32[B,8,Sq,1]
  %r1 = reduce_max %w0, axis=3, keepdims=false : f32[B,8,Sq]
  %r2 = reduce_min %w0, axis=0 : f32[1,8,Sq,Sk]
  %r3 = reduce_mean %w0, axis=2 : f32[B,8,1,Sk]
  %y0 = mask_causal %w0, align=top_left : f32[B,8,Sq,Sk]
  %y1 = mask_causal %y0, q_offset=%off : f32[B,8,Sq,Sk]
  %y2 = mask_window %y1, left=127, right=-1, align=bottom_right : f32[B,8,Sq,Sk]
  %y3 = mask_window %y2, left=127, right=0, q_offset=16 : f32[B,8,Sq,Sk]
  %y4 = alibi %y3, slopes=%h, align=top_left : f32[B,8,Sq,Sk]
  %y5 = alibi %y4, q_offset=%off : f32[B,8,Sq,Sk]
  %y6 = softcap %y5, cap=50 : f32[B,8,Sq,Sk]
  %rb = random_bits 7, -1, 0, %i, %j : i64[1,1,Sq,Sk]
  %y7 = dropout %y6, seed=12, offset=0, rate=0.1 : f32[B,8,Sq,Sk]
  %p = softmax %y6, axis=3, sink=%h : f32[B,8,Sq,Sk]
  %p2 = softmax %y6, axis=3, sink=0 : f32[B,8,Sq,Sk]
  %lse = logsumexp %y6, axis=3, keepdims=false, sink=%h : f32[B,8,Sq]
  %lse1 = logsumexp %y6, axis=3 : f32[B,8,Sq,1]
  %sc = scatter_add %h, 0 : f32[8]
  %up = update %q, %q, 0, axis=2 : f32[B,8,Sq,64]
  %o = matmul %p, %k : f32[B,8,Sq,64]
  return %o, %lse
}
)";
  const std::string once = reprint(text);
  EXPECT_EQ(once.substr(0, 11), "graph @all(") << once;
  EXPECT_EQ(reprint(once), once);
  for (int i = 0; i < op_count(); ++i) {
    const Op op = static_cast<Op>(i);
    if (op == Op::param) continue;
    EXPECT_NE(once.find(fmt::format("= {} ", info(op).name)), std::string::npos) << info(op).name;
  }
  for (const char* piece :
       {"inout %k: f32[B,8,Sk,64]", "div %a2, -0 ", "1e-05", "le f32(1), 2.5", "-9223372036854775808"})
    EXPECT_NE(once.find(piece), std::string::npos) << piece << " in\n" << once;
}

TEST(GraphText, BuilderGraphsPrintAndParseBack) {
  GraphBuilder b("built");
  const ValueId x = b.param("x", {DType::f16, {4, 5}});
  const ValueId two = b.constant(2, DType::f16);
  const ValueId y = b.binary(Op::mul, b.binary(Op::add, x, two), two);
  const ValueId both = b.binary(Op::add, b.constant_int(1, DType::i32), b.constant_int(2, DType::i32));
  b.result(b.binary(Op::mul, y, b.cast(both, DType::f16)));
  const std::string text = print(b.graph());
  EXPECT_EQ(reprint(text), text);
  EXPECT_NE(text.find("add 1, 2 "), std::string::npos) << text;
}

TEST(GraphText, ErrorsNameTheLine) {
  EXPECT_EQ(testing::errors_of(""), "line 1: expected 'graph' at the start, found the end of the text");
  EXPECT_EQ(testing::errors_of("\n\ngraph @g(%x: f32[4]) -> f32[4] {\n  %y = expp %x : f32[4]\n  return %y\n}"),
            "line 4: %y: there is no op 'expp'; did you mean 'exp'?");
}

TEST(GraphText, HostileTextNeverCrashes) {
  const std::string good(kPrefill);
  for (size_t cut = 0; cut < good.size(); ++cut)
    EXPECT_FALSE(parse_graph(good.substr(0, cut)) && cut + 2 < good.size()) << cut;
  for (size_t at = 0; at < good.size(); ++at)
    for (const char c : {'\0', '"', '\x80', '(', '%', '9', '-', '}', '\n', '*'}) {
      std::string bad = good;
      bad[at] = c;
      if (const auto graph = parse_graph(bad)) (void)verify(*graph), (void)print(*graph);
    }
  for (const char* open : {"(", "[", "{", "f32(", "%q: f32[", "-", "@", "graph @g(", "1*", "B+"}) {
    std::string deep;
    for (int i = 0; i < 20000; ++i) deep += open;
    EXPECT_FALSE(parse_graph(deep));
    EXPECT_FALSE(parse_graph("graph @g(%x: f32[" + deep));
    EXPECT_FALSE(parse_graph("graph @g(%x: f32[4]) -> f32[4] {\n %y = add %x, " + deep));
  }
}

}  // namespace
}  // namespace tilewright
