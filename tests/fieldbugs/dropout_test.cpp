// R17: dropout in the backward pass that is not the forward's. Flash backward draws the bits again; another offset, or
// another order of batch and head in the counter, gives gradients of another function.
#include <gtest/gtest.h>

#include <algorithm>

#include "compiler/gradient.h"
#include "compiler/passes.h"
#include "ir/text.h"
#include "tests/support/gradient_case.h"
#include "tests/support/kernel_check.h"

namespace tilewright::testing {
namespace {

/// Causal attention whose weights pass `dropout`, statements that define %d.
Graph attention(const std::string& dropout) {
  const auto graph = parse_graph(R"(
graph @dropped(%q: f32[2,4,Sq,16], %k: f32[2,4,Sk,16], %v: f32[2,4,Sk,16], %seed: i64[], %offset: i64[])
    -> f32[2,4,Sq,16] {
  %s = matmul_nt %q, %k : f32[2,4,Sq,Sk]
  %a = mul %s, 0.25 : f32[2,4,Sq,Sk]
  %e = mask_causal %a, align=bottom_right : f32[2,4,Sq,Sk]
  %p = softmax %e, axis=3 : f32[2,4,Sq,Sk]
)" + dropout + R"(
  %o = matmul %d, %v : f32[2,4,Sq,16]
  return %o
})");
  EXPECT_TRUE(graph) << to_string(graph.error());
  return *graph;
}

/// The same with the bits spelled out: counter word 2 is `high` · `stride` + `low`, word 3 is the offset plus `shift`.
Graph spelled(const std::string& high, int64_t stride, const std::string& low, int64_t shift) {
  return attention(fmt::format(R"(
  %b = index axis=0 : i64[2,1,1,1]
  %h = index axis=1 : i64[1,4,1,1]
  %i = index axis=2 : i64[1,1,Sq,1]
  %j = index axis=3 : i64[1,1,1,Sk]
  %x = mul %{0}, {1} : i64[{3}]
  %bh = add %x, %{2} : i64[2,4,1,1]
  %draw = add %offset, {4} : i64[]
  %bits = random_bits %seed, %draw, %bh, %i, %j : i64[2,4,Sq,Sk]
  %keep = ge %bits, 1288490188 : bool[2,4,Sq,Sk]
  %c = mul %p, 1.4285714285714286 : f32[2,4,Sq,Sk]
  %d = select %keep, %c, 0 : f32[2,4,Sq,Sk]
)",
                               high, stride, low, high == "b" ? "2,1,1,1" : "1,4,1,1", shift));
}

const std::string kSugar = "  %d = dropout %p, seed=%seed, offset=%offset, rate=0.3 : f32[2,4,Sq,Sk]";

Graph backward_of(const Graph& graph) {
  GradientRequest request;
  request.wrt = {"q", "k", "v"};
  request.recompute = true;  // the same parameters for every spelling
  const auto pass = gradient(graph, request);
  EXPECT_TRUE(pass) << to_string(pass.error());
  return pass->backward;
}

TEST(R17, TheGraphOfTheGradientIsThatOfTheDroppedForward) {
  check_gradient(in_f64(attention(kSugar)), {{"Sq", 5}, {"Sk", 7}});
}

TEST(R17, FusedBackwardDrawsTheForwardsBits) {
  const Graph backward = backward_of(attention(kSugar));
  const auto canonical = canonicalize(backward);
  ASSERT_TRUE(canonical) << to_string(canonical.error());
  const auto program = fuse(*canonical);
  ASSERT_TRUE(program) << to_string(program.error());
  EXPECT_TRUE(std::ranges::any_of(program->steps, [](const Step& step) {
    return std::holds_alternative<BackwardStep>(step.what);
  })) << print(*program);

  KernelCheck check(backward, {{"Sq", 37}, {"Sk", 70}});
  check.input("seed").set(0, 123456789.0);
  check.input("offset").set(0, 3);
  check.run();
  if (::testing::Test::HasFailure()) return;
  check.expect_caught(backward_of(spelled("b", 4, "h", 1)));  // the step's offset advanced between the two passes
  check.expect_caught(backward_of(spelled("h", 2, "b", 0)));  // batch and head swapped
}

TEST(R17, TheSpelledBitsWithoutAFaultAreTheSame) {
  // So that what the faults above are caught by is the fault.
  KernelCheck sugar(backward_of(attention(kSugar)), {{"Sq", 37}, {"Sk", 70}});
  KernelCheck own(backward_of(spelled("b", 4, "h", 0)), {{"Sq", 37}, {"Sk", 70}});
  for (KernelCheck* check : {&sugar, &own}) {
    check->input("seed").set(0, 123456789.0);
    check->input("offset").set(0, 3);
    check->run();
  }
  std::vector<TensorView> found;
  for (const TestTensor& output : own.outputs) found.push_back(output.view());
  EXPECT_TRUE(sugar.accepts(found));
}

}  // namespace
}  // namespace tilewright::testing
