// Dropout through the whole compiler: the accuracy rule in every template and ISA, and the same bits whatever runs
// them.
#include <gtest/gtest.h>

#include <cmath>

#include "compiler/passes.h"
#include "ir/interp.h"
#include "ir/text.h"
#include "tests/support/kernel_check.h"

namespace tilewright::testing {
namespace {

/// Softmax weights with dropout, and the product with V in the dtype of Q.
Graph attention(const std::string& dropout, const std::string& dtype = "f32", int64_t width = 64) {
  const std::string qkv = fmt::format("{}[B,4,Sq,64]", dtype), kv = fmt::format("{}[B,2,Sk,64]", dtype),
                    v = fmt::format("{}[B,2,Sk,{}]", dtype, width), scores = "f32[B,4,Sq,Sk]";
  const auto graph = parse_graph(fmt::format(R"(
graph @dropped(%q: {0}, %k: {1}, %v: {2}, %seed: i64[], %offset: i64[]) -> ({6}[B,4,Sq,{5}], f32[B,4,Sq]) {{
  %kh = repeat_heads %k, times=2 : {6}[B,4,Sk,64]
  %vh = repeat_heads %v, times=2 : {6}[B,4,Sk,{5}]
  %s = matmul_nt %q, %kh : {3}
  %a = mul %s, 0.125 : {3}
  %e = mask_causal %a, align=bottom_right : {3}
  %l = logsumexp %e, axis=3, keepdims=false : f32[B,4,Sq]
  %p = softmax %e, axis=3 : {3}
  %d = {4} : {3}
  %c = cast %d : {6}[B,4,Sq,Sk]
  %o = matmul %c, %vh : {6}[B,4,Sq,{5}]
  return %o, %l
}}
)",
                                             qkv, kv, v, scores, dropout, width, dtype));
  EXPECT_TRUE(graph) << to_string(graph.error());
  return *graph;
}

const std::string kDropout = "dropout %p, seed=%seed, offset=%offset, rate=";

TEST(Dropout, WithinTheAccuracyRule) {
  for (const char* dtype : {"f32", "bf16"})
    for (const auto& [q_len, kv_len] : {std::pair<int64_t, int64_t>{70, 150}, {2, 333}, {33, 20}}) {
      KernelCheck check(attention(kDropout + "0.3", dtype), {{"B", 2}, {"Sq", q_len}, {"Sk", kv_len}});
      check.input("seed").set(0, 123456789012.0);
      check.input("offset").set(0, 5);
      check.run();
      if (::testing::Test::HasFailure()) return;
      check.expect_caught(attention("dropout %p, seed=%seed, offset=6, rate=0.3", dtype));
      if (::testing::Test::HasFailure()) return;
    }
}

TEST(Dropout, AnotherLayoutOfTheCounterIsCaught) {
  KernelCheck check(attention(kDropout + "0.3"), {{"B", 2}, {"Sq", 40}, {"Sk", 90}});
  check.run();
  if (::testing::Test::HasFailure()) return;
  check.expect_caught(attention(kDropout + "0.31"));
  Graph swapped = attention(kDropout + "0.3");
  for (Node& node : swapped.nodes)
    if (node.op == Op::dropout) std::swap(node.operands[1], node.operands[2]);
  check.input("seed").set(0, 1);
  check.input("offset").set(0, 2);
  check.run();
  check.expect_caught(swapped);
}

TEST(Dropout, RatesAtTheEnds) {
  const auto tile = [](const Graph& graph) {
    const auto canonical = canonicalize(graph);
    EXPECT_TRUE(canonical) << to_string(canonical.error());
    const auto program = fuse(*canonical);
    EXPECT_TRUE(program) << to_string(program.error());
    return print(build_tile_program(std::get<AttentionStep>(program->steps.at(0).what).spec));
  };
  const std::string none = tile(attention(kDropout + "0"));
  EXPECT_EQ(none, tile(attention("cast %p"))) << "rate 0 is free";
  EXPECT_EQ(none.find("weight_factor"), std::string::npos);
  EXPECT_NE(tile(attention(kDropout + "0.5")).find("map_weight"), std::string::npos);

  KernelCheck check(attention(kDropout + "1"), {{"B", 1}, {"Sq", 5}, {"Sk", 9}});
  check.run();
  for (int64_t i = 0; i < check.outputs.at(0).size(); ++i) ASSERT_EQ(check.outputs[0].get(i), 0) << i;
  EXPECT_TRUE(std::isfinite(check.outputs.at(1).get(0))) << "the logsumexp is without dropout";
}

/// With V the identity, O shows each weight: the zeros of two runs are the same exactly if the bits are.
TEST(Dropout, SameBitsForAnyTilesTemplatesThreadsAndIsas) {
  constexpr int64_t kKeys = 256, kHeads = 4;
  for (const int64_t q_len : {3, 61}) {
    const Graph graph = attention(kDropout + "0.4", "f32", kKeys);
    std::mt19937_64 random(3);
    std::vector<float> q(static_cast<size_t>(kHeads * q_len * 64)), k(2 * kKeys * 64), v(2 * kKeys * kKeys, 0);
    std::normal_distribution<float> gauss;
    for (float& x : q) x = gauss(random);
    for (float& x : k) x = gauss(random);
    for (int64_t h = 0; h < 2; ++h)
      for (int64_t i = 0; i < kKeys; ++i) v[static_cast<size_t>((h * kKeys + i) * kKeys + i)] = 1;
    int64_t seed = -77, offset = 12;
    const std::vector<TensorView> in{TensorView::contiguous(q.data(), DType::f32, {1, kHeads, q_len, 64}),
                                     TensorView::contiguous(k.data(), DType::f32, {1, 2, kKeys, 64}),
                                     TensorView::contiguous(v.data(), DType::f32, {1, 2, kKeys, kKeys}),
                                     TensorView::contiguous(&seed, DType::i64, {}),
                                     TensorView::contiguous(&offset, DType::i64, {})};
    const auto oracle =
        interpret(graph, {{"B", 1}, {"Sq", q_len}, {"Sk", kKeys}}, in, 0, std::nullopt, Precision::oracle);
    ASSERT_TRUE(oracle) << to_string(oracle.error());
    for (const KernelVariant& variant : variants_of_both_tiers())
      for (const ScheduleOverride& tiles : {ScheduleOverride{}, ScheduleOverride{24, 96}, ScheduleOverride{48, 192}})
        for (const int threads : {1, 3}) {
          CompileOptions options = variant.options();
          options.tiles = tiles;
          const auto kernel = engine_for(variant.isa).compile(graph, options);
          ASSERT_TRUE(kernel) << to_string(kernel.error());
          std::vector<float> o(static_cast<size_t>(kHeads * q_len * kKeys), 7),
              lse(static_cast<size_t>(kHeads * q_len));
          const std::vector<TensorView> out{TensorView::contiguous(o.data(), DType::f32, {1, kHeads, q_len, kKeys}),
                                            TensorView::contiguous(lse.data(), DType::f32, {1, kHeads, q_len})};
          RunOptions run;
          run.executor = make_thread_pool(threads);
          const auto done = kernel->run(in, out, run);
          ASSERT_TRUE(done) << to_string(done.error());
          for (size_t i = 0; i < o.size(); ++i)
            ASSERT_EQ(o[i] == 0, oracle->values[i] == 0)
                << variant.text() << " tiles " << tiles.block_q << "x" << tiles.block_kv << " at " << i;
        }
  }
}

}  // namespace
}  // namespace tilewright::testing
