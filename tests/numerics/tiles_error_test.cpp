// Six products of three bf16 parts are more exact than f32 itself: over several draws the largest error on tiles is
// below that of naive f32, and that of three products is above it.
#include <gtest/gtest.h>

#include "ir/accuracy.h"
#include "runtime/cpu_detect.h"
#include "tests/support/input_family.h"
#include "tests/support/kernel_check.h"

namespace tilewright::testing {
namespace {

/// Largest errors of a kernel by this policy over those of naive f32, of each of a few draws.
std::vector<double> error_ratios(int64_t head_dim, bool causal, PrecisionPolicy policy) {
  AttentionGraph attention;
  attention.heads = attention.kv_heads = 1;
  attention.dqk = attention.dv = head_dim;
  if (causal) attention.modify = [](GraphBuilder& g, ValueId s) { return g.mask_causal(s, CausalAlign::bottom_right); };
  Graph graph = attention.build();
  graph.precision = policy;
  const auto kernel = engine_for(CpuIsa::amx_emulated).compile(graph);
  EXPECT_TRUE(kernel) << to_string(kernel.error());
  EXPECT_EQ(kernel->stats().step_reports[0].schedules.back().kernel, CpuTemplate::amx_prefill);
  graph.precision = PrecisionPolicy::f32;  // of the judge
  std::vector<double> ratios;
  for (const uint64_t seed : {1, 2, 3}) {
    std::mt19937_64 random(seed);
    std::vector<TestTensor> in;
    for (int i = 0; i < 3; ++i)
      fill_family(in.emplace_back(DType::f32, std::vector<int64_t>{1, 1, 256, head_dim}, Layout::contiguous, random),
                  Family::gaussian, random);
    TestTensor out(DType::f32, {1, 1, 256, head_dim}, Layout::contiguous, random);
    const std::vector<TensorView> inputs{in[0].view(), in[1].view(), in[2].view()}, outputs{out.view()};
    EXPECT_TRUE(kernel->run(inputs, outputs));
    const auto reports = verify_outputs(graph, {{"B", 1}, {"Sq", 256}, {"Sk", 256}}, inputs, outputs);
    EXPECT_TRUE(reports) << to_string(reports.error());
    ratios.push_back(reports->front().max_error / reports->front().naive_max_error);
  }
  return ratios;
}

TEST(TilesError, OfF32IsNoLargerThanNaiveF32s) {
  if (detect_cpu().isa < CpuIsa::avx512) GTEST_SKIP() << "tiles are emulated with AVX-512";
  for (const int64_t head_dim : {64, 128})
    for (const bool causal : {false, true}) {
      SCOPED_TRACE(fmt::format("d{}{}", head_dim, causal ? " causal" : ""));
      for (const double ratio : error_ratios(head_dim, causal, PrecisionPolicy::f32)) EXPECT_LE(ratio, 1);
      // Three products are not that exact, so that the bar can be missed.
      for (const double ratio : error_ratios(head_dim, causal, PrecisionPolicy::f32_x3)) EXPECT_GT(ratio, 1);
    }
}

}  // namespace
}  // namespace tilewright::testing
