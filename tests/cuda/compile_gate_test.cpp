// The compile gate: what NVRTC makes of every template, dtype, head dim and architecture fits, spills nothing, and has
// the instructions that the template is made of.
#include <set>
#include <thread>

#include "bench/gpu_compile.h"
#include "tests/cuda/cuda_support.h"
#include "tests/support/paths.h"
#include "tests/support/variant_case.h"

namespace tilewright {
namespace {

void expect_clean(const std::vector<bench::GpuCompileCase>& cases) {
  const auto threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  for (const bench::GpuCompiled& compiled : bench::compile_all(cases, *nvrtc(), threads)) {
    SCOPED_TRACE(compiled.compiled->name + " " + compiled.compiled->target.architecture());
    EXPECT_TRUE(compiled.report) << to_string(compiled.report.error());
    if (!compiled.report) continue;
    for (const std::string& complaint : compiled.report->complaints) ADD_FAILURE() << complaint;
  }
}

void expect_clean(const bench::GpuCompileOptions& options) {
  const auto cases = bench::gpu_compile_cases(options);
  ASSERT_TRUE(cases) << to_string(cases.error());
  ASSERT_FALSE(cases->empty());
  expect_clean(*cases);
}

/// Those that this NVRTC knows; older ones lack the newest.
std::vector<CudaTarget> known_targets() {
  std::vector<CudaTarget> targets;
  for (const CudaTarget& target : cuda_targets())
    if (nvrtc()->check(target)) targets.push_back(target);
  return targets;
}

TEST(CompileGate, EveryHeadDimAndDtypeOnTheArchitecturesWithTemplatesOfTheirOwn) {
  TILEWRIGHT_NEEDS_NVRTC();
  bench::GpuCompileOptions options = bench::whole_compile_gate();
  options.targets.clear();
  for (const CudaTarget& target : known_targets())
    if (target.capability == 80 || target.capability == 90) options.targets.push_back(target);
  expect_clean(options);
}

TEST(CompileGate, TheUsualAndTheWidestHeadDimsOnEveryArchitecture) {
  TILEWRIGHT_NEEDS_NVRTC();
  bench::GpuCompileOptions options = bench::whole_compile_gate();
  options.head_dims = {{64, 64}, {128, 128}, {256, 256}};
  options.graphs.clear();
  options.targets.clear();
  for (const CudaTarget& target : known_targets())
    if (target.capability != 80 && target.capability != 90) options.targets.push_back(target);
  expect_clean(options);
}

/// Without a mask other blocks of keys and other registers are dealt out.
TEST(CompileGate, WithoutAMask) {
  TILEWRIGHT_NEEDS_NVRTC();
  bench::GpuCompileOptions options;
  options.head_dims = {{32, 32}, {64, 64}, {96, 96}, {128, 128}, {192, 128}, {256, 256}};
  options.targets = {*parse_cuda_target("sm_80"), *parse_cuda_target("sm_90a")};
  options.dtypes = {DType::bf16};
  options.causal = false;
  expect_clean(options);
}

/// Scores, masks and captured tensors of the suite, on the tensor cores of two architectures. (Those of all variants
/// and architectures: `bench --compile`.)
TEST(CompileGate, VariantsOnTheFastTemplates) {
  TILEWRIGHT_NEEDS_NVRTC();
  bench::GpuCompileOptions options;
  for (const testing::Variant& variant : testing::all_variants(testing::source_dir() + "/examples/variants"))
    if (std::set{4, 5, 8, 10, 13, 14, 18, 24, 25, 27}.contains(variant.number)) {
      options.graphs.push_back(testing::respell(variant.graph, testing::Numbers::bf16, 64, 64));
      options.graphs.back().name = variant.stem;
    }
  for (const CudaTarget& target : known_targets())
    if (target.capability == 80 || target.capability == 90) options.targets.push_back(target);
  auto cases = bench::gpu_compile_cases(options);
  ASSERT_TRUE(cases) << to_string(cases.error());
  // Hopper's own template there, the other one where it is all that there is.
  std::erase_if(*cases, [](const bench::GpuCompileCase& one) {
    const CudaTemplate kernel = one.source.launch.schedule.kernel;
    return kernel != (one.target.has_wgmma() ? CudaTemplate::sm90_prefill : CudaTemplate::sm80_prefill);
  });
  EXPECT_GE(cases->size(), 18u);
  expect_clean(*cases);
}

/// What a tuner may try on Hopper spills no more than the rules do: the legal space ends where registers do. Every head
/// dim has the widest blocks of keys; stages change no register.
TEST(CompileGate, TheEndsOfTheLegalSpaceOfSm90) {
  TILEWRIGHT_NEEDS_NVRTC();
  bench::GpuCompileOptions options;
  options.head_dims = {{64, 64}, {128, 128}, {192, 128}, {256, 256}};
  options.targets = {*parse_cuda_target("sm_90a")};
  options.dtypes = {DType::bf16};
  options.every_schedule = true;
  auto cases = bench::gpu_compile_cases(options);
  ASSERT_TRUE(cases) << to_string(cases.error());
  std::map<std::tuple<int64_t, int64_t, int64_t>, bench::GpuCompileCase> widest;  // by head dims and rows
  for (bench::GpuCompileCase& one : *cases) {
    const CudaSchedule& schedule = one.source.launch.schedule;
    if (schedule.kernel != CudaTemplate::sm90_prefill) continue;
    const auto [at, is_new] = widest.try_emplace({one.head_dim, one.value_dim, schedule.block_q}, one);
    if (!is_new && at->second.source.launch.schedule.block_kv < schedule.block_kv) at->second = std::move(one);
  }
  cases->clear();
  for (auto& [key, one] : widest) cases->push_back(std::move(one));
  EXPECT_EQ(cases->size(), 10u);  // of head dim 256 two warpgroups alone have registers
  expect_clean(*cases);
}

TEST(CompileGate, ComplainsOfSpillsLocalMemoryCodesAndMissingInstructions) {
  TILEWRIGHT_NEEDS_NVRTC();
  constexpr const char* kBad = R"(
extern "C" __global__ void __launch_bounds__(512, 3) kernel(float* x, int n) {
  float a[64];
#pragma unroll
  for (int i = 0; i < 64; ++i) asm volatile("ld.global.f32 %0, [%1];" : "=f"(a[i]) : "l"(x + i * n));
#pragma unroll
  for (int i = 63; i >= 0; --i) asm volatile("st.global.f32 [%0], %1;" ::"l"(x + i), "f"(a[i]));
})";
  const CudaTarget target = *parse_cuda_target("sm_80");
  auto binary = compile_cuda_text(kBad, target, *nvrtc());
  ASSERT_TRUE(binary) << to_string(binary.error());
  binary->log += "ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized\n";
  CudaLaunch launch;
  launch.schedule.kernel = CudaTemplate::sm80_prefill;
  launch.phases.push_back({"kernel", {}, 512, 200 << 10, {}});
  const auto report = report_compile(*binary, launch, target);
  ASSERT_TRUE(report) << to_string(report.error());
  std::string all;
  for (const std::string& complaint : report->complaints) all += complaint + "\n";
  for (const char* part : {"spills", "local memory", "LDL", "STL", "C7510", "does not fit a multiprocessor",
                           "bytes of shared memory per block", "has no HMMA", "has no LDSM", "has no LDGSTS"})
    EXPECT_NE(all.find(part), std::string::npos) << part << " is not in\n" << all;
  launch.phases[0].symbol = "another";
  EXPECT_FALSE(report_compile(*binary, launch, target));
}

}  // namespace
}  // namespace tilewright
