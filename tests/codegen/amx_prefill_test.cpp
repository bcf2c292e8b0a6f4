// What tiles are planned for, and what the machine code for a CPU with AMX looks like; prefill_test runs the template.
#include <gtest/gtest.h>

#include "compiler/plan_rules.h"
#include "runtime/cpu_detect.h"
#include "tests/codegen/jit_support.h"
#include "tests/codegen/template_cases.h"

namespace tilewright::testing {
namespace {

CpuTarget with_tiles() {
  CpuTarget target;
  target.isa = CpuIsa::amx;
  target.avx512_bf16 = true;
  target.l1_bytes = 48 << 10;
  target.l2_bytes = 2 << 20;
  return target;
}

TileProgram program_of(const CaseOptions& options, PrecisionPolicy precision = PrecisionPolicy::f32) {
  std::mt19937_64 random(1);
  AttentionSpec spec = make_case(options, random).spec;
  spec.precision = precision;
  return build_tile_program(spec);
}

CaseOptions of(DType dtype, int64_t dim = 64) {
  CaseOptions options;
  options.dtype = options.output = dtype;
  options.dqk = options.dv = dim;
  options.sq = options.sk = 256;
  options.heads = 1;
  options.mask = Mask::causal;
  return options;
}

TEST(AmxPlan, ProductsFollowDtypesAndPolicies) {
  struct Row {
    DType dtype;
    PrecisionPolicy precision;
    int64_t products, value_products;
  };
  constexpr Row kRows[] = {{DType::bf16, PrecisionPolicy::f32, 1, 1},
                           {DType::f16, PrecisionPolicy::f32, 4, 3},
                           {DType::f32, PrecisionPolicy::f32, 6, 6},
                           {DType::f32, PrecisionPolicy::f32_x3, 3, 3},
                           {DType::f32, PrecisionPolicy::bf16, 1, 1}};
  for (const Row& row : kRows) {
    const TileProgram program = program_of(of(row.dtype), row.precision);
    ASSERT_EQ(refuse_amx_prefill(program, with_tiles()), "");
    const CpuSchedule schedule = schedule_amx_prefill(program, with_tiles());
    EXPECT_EQ(schedule.products, row.products) << to_string(row.dtype);
    EXPECT_EQ(schedule.value_products, row.value_products) << to_string(row.dtype);
    const CpuPlan plan = plan_cpu(program, with_tiles());
    EXPECT_EQ(plan.choices.back().schedule.kernel, CpuTemplate::amx_prefill);
    EXPECT_NE(plan.choices.back().schedule.arithmetic.find("on tiles"), std::string::npos);
  }
}

TEST(AmxPlan, RefusesInASentence) {
  const auto refusal = [](const CaseOptions& options, const CpuTarget& target,
                          PrecisionPolicy precision = PrecisionPolicy::f32) {
    return refuse_amx_prefill(program_of(options, precision), target);
  };
  CpuTarget without = with_tiles();
  without.isa = CpuIsa::avx512;
  CaseOptions sums = of(DType::f32);
  sums.normaliser = Normaliser::none;
  EXPECT_EQ(refusal(of(DType::bf16), without), "the target has no AMX tiles");
  EXPECT_EQ(refusal(of(DType::f64), with_tiles()), "tiles add in f32, and this accumulates in f64");
  EXPECT_EQ(refusal(of(DType::f32), with_tiles(), PrecisionPolicy::f32_fma), "precision f32_fma asks for FMA of f32");
  EXPECT_NE(refusal(sums, with_tiles()), "");
  const CpuPlan narrow = plan_cpu(program_of(of(DType::f32, 8)), with_tiles());
  EXPECT_EQ(narrow.choices.back().schedule.kernel, CpuTemplate::prefill);
  EXPECT_NE(narrow.refused.back().reason.find("slower than FMA"), std::string::npos) << narrow.refused.back().reason;
}

TEST(AmxPlan, ForwardsGoWhereTheBackwardPassGoesThatReadsThem) {
  const auto followed = [](DType dtype, CpuTemplate backward, int64_t products) {
    const TileProgram program = program_of(of(dtype));
    CpuPlan plan = plan_cpu(program, with_tiles(), {.feeds_backward = true});
    EXPECT_EQ(plan.choices.back().schedule.kernel, CpuTemplate::prefill);
    CpuSchedule schedule;
    schedule.kernel = backward;
    schedule.products = products;
    CpuPlan other;
    other.choices.push_back({schedule, always()});
    const CpuPlan* const all[] = {&other};
    follow_backward(plan, program, with_tiles(), all);
    return plan;
  };
  const CpuPlan tiles = followed(DType::f32, CpuTemplate::amx_backward, 6);
  EXPECT_EQ(tiles.choices.back().schedule.kernel, CpuTemplate::amx_prefill);
  EXPECT_NE(tiles.choices.back().schedule.arithmetic.find("six products"), std::string::npos);
  EXPECT_TRUE(std::ranges::none_of(tiles.refused, [](const auto& r) { return r.kernel == CpuTemplate::amx_prefill; }));
  for (const CpuPlan& stays :
       {followed(DType::f32, CpuTemplate::backward, 1), followed(DType::f32, CpuTemplate::amx_backward, 3),
        followed(DType::bf16, CpuTemplate::amx_backward, 1)})
    EXPECT_EQ(stays.choices.back().schedule.kernel, CpuTemplate::prefill);
}

TEST(AmxPlan, WantedTilesAreRoundedUpToWholeTiles) {
  const TileProgram program = program_of(of(DType::bf16, 96));
  CpuPlan plan = plan_cpu(program, with_tiles());
  ASSERT_TRUE(override_tiles(plan, program, with_tiles(), {.block_q = 40, .block_kv = 100}));
  EXPECT_EQ(plan.choices.back().schedule.block_q, 64);
  EXPECT_EQ(plan.choices.back().schedule.block_kv, 192);  // 96 columns of O in turns of 32 beside equal shares
  EXPECT_FALSE(override_tiles(plan, program, with_tiles(), {.block_q = 1 << 19}));
}

/// The text of one function.
std::string function_text(const std::string& assembly, const std::string& name) {
  const size_t begin = assembly.find("\n" + name + ":");
  return begin == std::string::npos ? "" : assembly.substr(begin, assembly.find("\n.Lfunc_end", begin) - begin);
}

TEST(AmxPrefill, NativeCodeIsTileInstructionsWithoutSpills) {
  for (const auto& [dtype, dim] : {std::pair{DType::bf16, int64_t{128}}, {DType::bf16, 64}, {DType::f32, 64}}) {
    SCOPED_TRACE(std::string(to_string(dtype)) + " d" + std::to_string(dim));
    const TileProgram program = program_of(of(dtype, dim));
    const CpuSchedule schedule = schedule_amx_prefill(program, with_tiles());
    CpuKernelSource source = generate_attention(program, schedule, with_tiles(), "native");
    EXPECT_TRUE(source.launch.native_tiles);
    const auto object = compile_module(std::move(source.module), with_tiles(), {.verify = true, .want_text = true});
    ASSERT_TRUE(object) << to_string(object.error());
    const std::string main = function_text(object->assembly, "native_main"),
                      step = function_text(object->assembly, "step");
    EXPECT_EQ(occurrences(main, "ldtilecfg"), 1);
    EXPECT_EQ(occurrences(main, "tilerelease"), 1);
    // Four sums of scores and of outputs, for each term.
    EXPECT_EQ(occurrences(step, "tdpbf16ps"), 4 * (schedule.products + schedule.value_products));
    EXPECT_EQ(occurrences(step, "tilezero"), 4);
    EXPECT_EQ(occurrences(step, "64-byte Spill"), 0);
    EXPECT_EQ(occurrences(object->assembly, "tile_product"), 0);  // the emulation
  }
}

}  // namespace
}  // namespace tilewright::testing
