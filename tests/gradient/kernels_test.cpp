// Backward graphs compiled, one op a step and fused, and run, judged by the accuracy rule against the f64 oracle of the
// backward graph, on what the forward really saves.
#include <gtest/gtest.h>

#include "ir/text.h"
#include "runtime/cpu_detect.h"
#include "tests/support/gradient_case.h"
#include "tests/support/kernel_check.h"
#include "tests/support/paths.h"
#include "tests/support/random_program.h"
#include "tests/support/variant_case.h"

namespace tilewright::testing {
namespace {

enum class How : uint8_t { materialised, fused, tiles };  // tiles: fused, AMX emulated

void run_kernels(GradientCase& test, How how = How::materialised) {
  ASSERT_TRUE(run_backward(test));
  const Graph& backward = test.gradient.backward;
  KernelCheck check(backward, test.dims, Layout::gapped, test.seed);
  for (size_t i = 0; i < backward.params.size(); ++i) {
    TestTensor& to = check.input(backward[backward.params[i]].name);
    for (int64_t k = 0; k < to.size(); ++k) to.set(k, test.backward_inputs[i].get(k));
  }
  check.materialise = how == How::materialised;
  check.variants = {};
  if (how == How::tiles) check.variants = {{CpuIsa::amx_emulated}};
  for (const KernelVariant& variant : how == How::tiles
                                          ? std::vector<KernelVariant>{}
                                          : kernel_variants())  // where no template is involved, AVX2 now and then
    if (!variant.force_generic && (check.variants.empty() || test.seed % 4 == 0)) check.variants.push_back(variant);
  check.run();
}

class VariantKernels : public ::testing::TestWithParam<Variant> {
 protected:
  GradientCase variant_case(Numbers numbers, int64_t head_dim, const Sizes& sizes) const {
    const int number = GetParam().number;
    const bool fixed = number == 20 || number == 26;
    GradientCase test;
    test.graph = respell(GetParam().graph, numbers, fixed ? 64 : head_dim, fixed ? 64 : number == 24 ? 128 : head_dim);
    test.dims = bind_sizes(test.graph, sizes);
    test.seed = static_cast<uint64_t>(number);
    std::mt19937_64 random(test.seed);
    test.inputs = variant_inputs(test.graph, test.dims, random, Hidden::finite);
    return test;
  }
};

// Every variant in f32 and one narrow type; fused in all of them.
TEST_P(VariantKernels, MatchTheOracle) {
  for (Numbers numbers : {Numbers::f32, GetParam().number % 2 ? Numbers::bf16_cast : Numbers::f16_cast}) {
    SCOPED_TRACE(to_string(numbers));
    GradientCase test = variant_case(numbers, 16, {"ragged", 2, 9, 21});
    run_kernels(test);
  }
}

TEST_P(VariantKernels, MatchTheOracleFused) {
  for (Numbers numbers : {Numbers::f32, Numbers::bf16_cast, Numbers::f16_cast}) {
    const bool recompute = (GetParam().number + static_cast<int>(numbers)) % 2;
    SCOPED_TRACE(std::string(to_string(numbers)) + (recompute ? ", recompute" : ", save"));
    GradientCase test = variant_case(numbers, 16, {"ragged", 2, 9, 21});
    test.request.recompute = recompute;
    run_kernels(test, How::fused);
  }
}

// P and dS rounded to bf16, as bf16 graphs round them, and long enough for the bound of the mean.
TEST_P(VariantKernels, MatchTheOracleOnTiles) {
  if (detect_cpu().isa < CpuIsa::avx512) GTEST_SKIP() << "this CPU lacks AVX-512, on which tiles are emulated";
  const int number = GetParam().number;
  const bool typed_wide = number >= 23 && number <= 26 && number != 25;  // their products do not type in bf16
  GradientCase test = variant_case(typed_wide ? Numbers::bf16_cast : Numbers::bf16, 32, {"square", 1, 150, 150});
  test.request.recompute = number % 2 == 0;
  run_kernels(test, How::tiles);
  const auto kernel = engine_for(CpuIsa::amx_emulated).compile(test.gradient.backward, {});
  ASSERT_TRUE(kernel) << to_string(kernel.error());
  bool on_tiles = false;
  for (const StepReport& step : kernel->stats().step_reports)
    for (const CpuSchedule& schedule : step.schedules) on_tiles |= schedule.kernel == CpuTemplate::amx_backward;
  EXPECT_TRUE(on_tiles || number > 6);
}

// Long enough for the bound of the mean, which sees what the LSE and the recomputed scores do not round alike.
TEST_P(VariantKernels, MatchTheOracleOnAverage) {
  GradientCase test = variant_case(Numbers::f32, 32, {"square", 1, 150, 150});
  test.request.recompute = true;
  run_kernels(test, How::fused);
}

INSTANTIATE_TEST_SUITE_P(Suite, VariantKernels,
                         ::testing::ValuesIn(all_variants(testing::source_dir() + "/examples/variants")),
                         [](const auto& variant) { return "v" + variant.param.stem; });

TEST(RandomKernels, MatchTheOracle) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    GradientCase test = make_gradient_case(random_program(seed), {{"N", 2}, {"M", 3}}, seed);
    test.request.recompute = seed % 2 == 0;
    run_kernels(test);
    ASSERT_FALSE(HasFailure()) << print(test.gradient.backward);
  }
}

// The loop kernel of scatter_add: by element and by row, clamped, of integers, of a table without elements.
TEST(ScatterAdd, MatchesTheOracle) {
  const char* const graphs[] = {
      "%i: i32[N,7]) -> f32[5,3] {\n %j = index axis=1 : i64[1,7]\n %k = mul %i, 9 : i32[N,7]\n"
      "%l = add %k, -2 : i32[N,7]\n %d = cast %l : f32[N,7]\n %m = mod %j, 3 : i64[1,7]\n"
      "%z = scatter_add %d, %l, %m : f32[5,3]\n return %z\n}",
      "%x: f64[N,37], %i: i64[N,1]) -> f64[2,37] {\n %j = index axis=1 : i64[1,37]\n"
      "%z = scatter_add %x, %i, %j : f64[2,37]\n return %z\n}",
      "%x: f32[N,37], %i: i64[N,1]) -> f32[37,2,2] {\n %j = index axis=1 : i64[1,37]\n %t = tanh %x : f32[N,37]\n"
      "%z = scatter_add %t, %j, 1, %i : f32[37,2,2]\n return %z\n}",
      "%x: i32[N,3], %i: i64[N,1]) -> i32[2] {\n %z = scatter_add %x, %i : i32[2]\n return %z\n}",
      "%x: f32[N,3]) -> f32[] {\n %z = scatter_add %x : f32[]\n return %z\n}",
      "%x: f32[N,3], %i: i64[N,1], %e: f32[M]) -> f32[M] {\n %z = scatter_add %x, %i : f32[M]\n return %z\n}",
  };
  for (const char* text : graphs) {
    SCOPED_TRACE(text);
    auto graph = parse_graph(std::string("graph @g(") + text);
    ASSERT_TRUE(graph.ok()) << to_string(graph.error());
    KernelCheck(*graph, {{"N", 5}, {"M", 0}}).run();
    KernelCheck(*graph, {{"N", 0}, {"M", 2}}).run();
  }
}

}  // namespace
}  // namespace tilewright::testing
