// Semantics 20: bitwise equal results for the same kernel at any thread count, whoever provides the threads.
#include <gtest/gtest.h>

#include <cstring>

#include "ir/text.h"
#include "runtime/engine.h"
#include "tests/support/random_graph.h"

namespace tilewright::testing {
namespace {

std::vector<std::vector<char>> run_with(const Kernel& kernel, const Graph& graph, const DimBindings& dims,
                                        const std::vector<TensorView>& inputs, int threads) {
  std::vector<std::vector<char>> bytes;
  std::vector<TensorView> views;
  for (ValueId result : graph.results) {
    const TensorType& type = graph.type(result);
    const auto shape = concrete_shape(type, dims);
    TensorView view = TensorView::contiguous(nullptr, type.dtype, shape);
    bytes.emplace_back(static_cast<size_t>(view.element_count() * size_of(type.dtype)), '\xff');
    view.data = bytes.back().data();
    views.push_back(view);
  }
  RunOptions options;
  options.executor = make_thread_pool(threads);
  auto done = kernel.run(inputs, views, options);
  EXPECT_TRUE(done) << to_string(done.error());
  return bytes;
}

void expect_deterministic(const Graph& graph, const DimBindings& dims, const std::vector<Fill>& fills, uint64_t seed) {
  auto engine = Engine::create();
  ASSERT_TRUE(engine);
  std::mt19937_64 random(seed);
  std::vector<TestTensor> tensors;
  std::vector<TensorView> inputs;
  for (size_t i = 0; i < graph.params.size(); ++i) {
    const TensorType& type = graph.type(graph.params[i]);
    tensors.emplace_back(type.dtype, concrete_shape(type, dims), Layout::gapped, random);
    fill(tensors.back(), i < fills.size() ? fills[i] : Fill{}, random);
    inputs.push_back(tensors.back().view());
  }
  for (bool generic : {false, true}) {
    CompileOptions options;
    options.force_generic = generic;
    auto kernel = engine->compile(graph, options);
    ASSERT_TRUE(kernel) << to_string(kernel.error());
    const auto alone = run_with(*kernel, graph, dims, inputs, 1);
    for (int threads : {2, 3, 7})
      EXPECT_EQ(run_with(*kernel, graph, dims, inputs, threads), alone) << threads << " threads";
  }
}

TEST(Determinism, RandomGraphsAreBitwiseEqualAtAnyThreadCount) {
  for (uint64_t seed = 5000; seed < 5030; ++seed) {
    const RandomCase c = random_attention(seed);
    SCOPED_TRACE(print(c.graph));
    expect_deterministic(c.graph, c.dims, c.fills, seed);
  }
}

constexpr const char* kCausal = R"(
  graph @causal(%q: f32[B,4,Sq,64], %k: f32[B,2,Sk,64], %v: f32[B,2,Sk,64]) -> (f32[B,4,Sq,64], f32[B,4,Sq]) {
    %kh = repeat_heads %k, times=2 : f32[B,4,Sk,64]
    %vh = repeat_heads %v, times=2 : f32[B,4,Sk,64]
    %s = matmul_nt %q, %kh : f32[B,4,Sq,Sk]
    %a = mul %s, 0.125 : f32[B,4,Sq,Sk]
    %e = mask_causal %a, align=bottom_right : f32[B,4,Sq,Sk]
    %p = softmax %e, axis=3 : f32[B,4,Sq,Sk]
    %l = logsumexp %e, axis=3, keepdims=false : f32[B,4,Sq]
    %o = matmul %p, %vh : f32[B,4,Sq,64]
    return %o, %l
  })";

TEST(Determinism, PrefillAndSplitDecodeAreBitwiseEqualAtAnyThreadCount) {
  const auto graph = parse_graph(kCausal);
  ASSERT_TRUE(graph) << to_string(graph.error());
  expect_deterministic(*graph, {{"B", 2}, {"Sq", 700}, {"Sk", 900}}, {}, 1);  // prefill, many blocks
  expect_deterministic(*graph, {{"B", 1}, {"Sq", 2}, {"Sk", 5000}}, {}, 2);   // decode, many splits
}

}  // namespace
}  // namespace tilewright::testing
