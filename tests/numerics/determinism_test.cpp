// Semantics 20: bitwise equal results for the same kernel at any thread count, whoever provides the threads.
#include <gtest/gtest.h>

#include <cstring>

#include "ir/text.h"
#include "runtime/engine.h"
#include "tests/support/random_graph.h"

namespace tilewright::testing {
namespace {

/// Workers one after another, the last one first: nobody works while another waits.
class SerialExecutor final : public Executor {
 public:
  int workers() const override { return 4; }
  void run(const std::function<void(int worker)>& task) override {
    for (int worker = workers(); worker-- > 0;) task(worker);
  }
};

std::vector<std::vector<char>> run_with(const Kernel& kernel, const Graph& graph, const DimBindings& dims,
                                        const std::vector<TensorView>& inputs, std::shared_ptr<Executor> executor) {
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
  options.executor = std::move(executor);
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
    const auto alone = run_with(*kernel, graph, dims, inputs, make_thread_pool(1));
    for (int threads : {2, 3, 7})
      EXPECT_EQ(run_with(*kernel, graph, dims, inputs, make_thread_pool(threads)), alone) << threads << " threads";
    EXPECT_EQ(run_with(*kernel, graph, dims, inputs, std::make_shared<SerialExecutor>()), alone) << "serial";
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

/// dQ, dK, dV, and the gradients of a bias that every b and head shares and of slopes.
constexpr const char* kBackward = R"(
  graph @backward(%q: f32[B,4,S,32], %k: f32[B,2,S,32], %v: f32[B,2,S,32], %bias: f32[S,S], %lse: f32[B,4,S,1], %delta: f32[B,4,S,1], %d_o: f32[B,4,S,32]) -> (f32[B,4,S,32], f32[B,2,S,32], f32[B,2,S,32], f32[S,S], f32[4]) {
    %kr = repeat_heads %k, times=2 : f32[B,4,S,32]
    %vr = repeat_heads %v, times=2 : f32[B,4,S,32]
    %s = matmul_nt %q, %kr : f32[B,4,S,S]
    %a = add %s, %bias : f32[B,4,S,S]
    %i = index axis=2 : i64[1,1,S,1]
    %j = index axis=3 : i64[1,1,1,S]
    %keep = le %j, %i : bool[1,1,S,S]
    %e = select %keep, %a, -inf : f32[B,4,S,S]
    %shift = sub %e, %lse : f32[B,4,S,S]
    %p = exp %shift : f32[B,4,S,S]
    %dp = matmul_nt %d_o, %vr : f32[B,4,S,S]
    %dpd = sub %dp, %delta : f32[B,4,S,S]
    %de = mul %p, %dpd : f32[B,4,S,S]
    %d_q = matmul %de, %kr : f32[B,4,S,32]
    %det = transpose %de, perm=[0,1,3,2] : f32[B,4,S,S]
    %dkr = matmul %det, %q : f32[B,4,S,32]
    %dkg = reshape %dkr : f32[B,2,2,S,32]
    %d_k = reduce_sum %dkg, axis=2, keepdims=false : f32[B,2,S,32]
    %pt = transpose %p, perm=[0,1,3,2] : f32[B,4,S,S]
    %dvr = matmul %pt, %d_o : f32[B,4,S,32]
    %dvg = reshape %dvr : f32[B,2,2,S,32]
    %d_v = reduce_sum %dvg, axis=2, keepdims=false : f32[B,2,S,32]
    %b0 = reduce_sum %de, axis=0, keepdims=false : f32[4,S,S]
    %d_bias = reduce_sum %b0, axis=0, keepdims=false : f32[S,S]
    %h0 = reduce_sum %de, axis=0, keepdims=false : f32[4,S,S]
    %h1 = reduce_sum %h0, axis=2, keepdims=false : f32[4,S]
    %d_slope = reduce_sum %h1, axis=1, keepdims=false : f32[4]
    return %d_q, %d_k, %d_v, %d_bias, %d_slope
  })";

TEST(Determinism, BackwardPassesAreBitwiseEqualWithAnyExecutor) {
  const auto graph = parse_graph(kBackward);
  ASSERT_TRUE(graph) << to_string(graph.error());
  expect_deterministic(*graph, {{"B", 2}, {"S", 1000}}, {}, 1);
}

}  // namespace
}  // namespace tilewright::testing
