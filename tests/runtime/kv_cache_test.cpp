// A KV cache as an inout parameter: rows appended in place, attention over past and new.
#include <gtest/gtest.h>

#include <random>

#include "ir/text.h"
#include "runtime/engine.h"
#include "tests/support/kernel_check.h"

namespace tilewright {
namespace {

using testing::variants_of_both_tiers;

constexpr const char* kStep = R"(
graph @step(%q: f32[B,4,Sq,16], %new_k: f32[B,2,Sq,16], %new_v: f32[B,2,Sq,16], %past: i64[B],
            inout %k: f32[B,2,N,16], inout %v: f32[B,2,N,16]) -> f32[B,4,Sq,16] {
  %kc = update %k, %new_k, %past, axis=2   : f32[B,2,N,16]
  %vc = update %v, %new_v, %past, axis=2   : f32[B,2,N,16]
  %kh = repeat_heads %kc, times=2          : f32[B,4,N,16]
  %vh = repeat_heads %vc, times=2          : f32[B,4,N,16]
  %s  = matmul_nt %q, %kh                  : f32[B,4,Sq,N]
  %a  = mul %s, 0.25                       : f32[B,4,Sq,N]
  %e  = mask_causal %a, q_offset=%past     : f32[B,4,Sq,N]
  %p  = softmax %e, axis=3                 : f32[B,4,Sq,N]
  %o  = matmul %p, %vh                     : f32[B,4,Sq,16]
  return %o
})";

// The parser's line breaks end statements, but not signatures.
Graph parsed(std::string text) {
  auto graph = parse_graph(text);
  EXPECT_TRUE(graph) << to_string(graph.error());
  return *graph;
}

Kernel compiled(const Graph& graph, const testing::KernelVariant& variant) {
  CompileOptions options = variant.options();
  auto kernel = testing::engine_for(variant.isa).compile(graph, options);
  EXPECT_TRUE(kernel) << to_string(kernel.error());
  return *kernel;
}

/// Sequences of different lengths fed in pieces; every row must equal causal attention over the whole sequence.
TEST(KvCache, PiecesEqualTheWholeSequence) {
  constexpr int64_t kBatch = 2, kTotal = 41, kCapacity = 48;
  std::mt19937_64 random(3);
  std::normal_distribution<float> gaussian;
  const auto noise = [&](int64_t count) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = gaussian(random);
    return values;
  };
  std::vector<float> q = noise(kBatch * 4 * kTotal * 16), k = noise(kBatch * 2 * kTotal * 16),
                     v = noise(kBatch * 2 * kTotal * 16);
  const auto rows = [&](std::vector<float>& all, int64_t heads, int64_t first, int64_t count) {
    TensorView view = TensorView::contiguous(all.data(), DType::f32, {kBatch, heads, kTotal, 16});
    view.data = all.data() + first * 16;
    view.shape[2] = count;
    return view;
  };
  const Graph whole = parsed(R"(
graph @whole(%q: f32[B,4,S,16], %k: f32[B,2,S,16], %v: f32[B,2,S,16]) -> f32[B,4,S,16] {
  %kh = repeat_heads %k, times=2         : f32[B,4,S,16]
  %vh = repeat_heads %v, times=2         : f32[B,4,S,16]
  %s  = matmul_nt %q, %kh                : f32[B,4,S,S]
  %a  = mul %s, 0.25                     : f32[B,4,S,S]
  %e  = mask_causal %a, align=top_left   : f32[B,4,S,S]
  %p  = softmax %e, axis=3               : f32[B,4,S,S]
  %o  = matmul %p, %vh                   : f32[B,4,S,16]
  return %o
})");
  for (const auto& variant : variants_of_both_tiers()) {
    const Kernel kernel = compiled(parsed(kStep), variant);
    std::vector<float> cache_k(kBatch * 2 * kCapacity * 16, NAN), cache_v = cache_k, o(q.size());
    int64_t past = 0;
    for (const int64_t count : {17, 1, 1, 9, 1, 12}) {
      std::vector<int64_t> offsets(kBatch, past);
      const std::vector<TensorView> inputs = {
          rows(q, 4, past, count),
          rows(k, 2, past, count),
          rows(v, 2, past, count),
          TensorView::contiguous(offsets.data(), DType::i64, {kBatch}),
          TensorView::contiguous(cache_k.data(), DType::f32, {kBatch, 2, kCapacity, 16}),
          TensorView::contiguous(cache_v.data(), DType::f32, {kBatch, 2, kCapacity, 16})};
      const std::vector<TensorView> outputs = {rows(o, 4, past, count)};
      const auto ok = kernel.run(inputs, outputs);
      ASSERT_TRUE(ok) << to_string(ok.error());
      past += count;
    }
    ASSERT_EQ(past, kTotal);
    for (int64_t row = 0; row < kBatch * 2; ++row)
      for (int64_t i = 0; i < kCapacity * 16; ++i) {
        const float found = cache_k[static_cast<size_t>(row * kCapacity * 16 + i)];
        if (i < kTotal * 16)
          ASSERT_EQ(found, k[static_cast<size_t>(row * kTotal * 16 + i)]);
        else
          ASSERT_TRUE(std::isnan(found)) << "written behind the new rows";
      }
    const std::vector<TensorView> inputs = {rows(q, 4, 0, kTotal), rows(k, 2, 0, kTotal), rows(v, 2, 0, kTotal)};
    const std::vector<TensorView> outputs = {rows(o, 4, 0, kTotal)};
    const auto reports = verify_outputs(whole, {{"B", kBatch}, {"S", kTotal}}, inputs, outputs);
    ASSERT_TRUE(reports) << to_string(reports.error());
    for (const AccuracyReport& report : *reports) EXPECT_TRUE(report.pass) << variant.text() << ": " << report.failure;
  }
}

TEST(KvCache, PositionsAreClampedToTheCache) {
  const Graph graph = parsed(R"(
graph @store(%rows: i32[3], %at: i32[], inout %cache: i32[N]) -> i32[N] {
  %c = update %cache, %rows, %at, axis=0 : i32[N]
  return %c
})");
  for (const auto& variant : variants_of_both_tiers())
    for (const auto& [at, begin] : {std::pair<int32_t, size_t>{-7, 0}, {2, 2}, {4, 2}, {1 << 30, 2}}) {
      std::vector<int32_t> cache = {0, 1, 2, 3, 4}, rows = {10, 11, 12}, result(5), expected = cache;
      std::copy(rows.begin(), rows.end(), expected.begin() + static_cast<int64_t>(begin));
      int32_t position = at;
      const std::vector<TensorView> inputs = {TensorView::contiguous(rows.data(), DType::i32, {3}),
                                              TensorView::contiguous(&position, DType::i32, {}),
                                              TensorView::contiguous(cache.data(), DType::i32, {5})};
      const std::vector<TensorView> outputs = {TensorView::contiguous(result.data(), DType::i32, {5})};
      const auto ok = compiled(graph, variant).run(inputs, outputs);
      ASSERT_TRUE(ok) << to_string(ok.error());
      EXPECT_EQ(cache, expected);
      EXPECT_EQ(result, expected);
    }
}

TEST(KvCache, AWrittenParameterMustBeItsOwnMemory) {
  const Graph graph = parsed(R"(
graph @store(%rows: f32[3], inout %cache: f32[N]) -> f32[N] {
  %c = update %cache, %rows, 0, axis=0 : f32[N]
  return %c
})");
  const Kernel kernel = compiled(graph, variants_of_both_tiers().front());
  std::vector<float> memory(8), result(5);
  const auto run = [&](TensorView rows, TensorView cache) {
    const auto ok = kernel.run(std::vector<TensorView>{rows, cache},
                               std::vector<TensorView>{TensorView::contiguous(result.data(), DType::f32, {5})});
    return ok ? "" : to_string(ok.error());
  };
  const TensorView cache = TensorView::contiguous(memory.data(), DType::f32, {5});
  EXPECT_NE(run(TensorView::contiguous(memory.data() + 2, DType::f32, {3}), cache)
                .find("%cache: this inout parameter is written, but overlaps the input %rows in memory"),
            std::string::npos);
  TensorView folded = cache;
  folded.strides[0] = 0;
  EXPECT_NE(
      run(TensorView::contiguous(memory.data() + 5, DType::f32, {3}), folded).find("its strides make elements overlap"),
      std::string::npos);
  EXPECT_EQ(run(TensorView::contiguous(memory.data() + 5, DType::f32, {3}), cache), "");
}

}  // namespace
}  // namespace tilewright
