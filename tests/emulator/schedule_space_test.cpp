// The legal space of GPU schedules: what is in it, what breaks which bound, and that kernels of its far ends compute
// what the rules' do.
#include <set>

#include "compiler/cuda_schedule_space.h"
#include "tests/emulator/sm90_case.h"

namespace tilewright::testing {
namespace {

struct SpaceCase {
  CudaTemplate kernel;
  std::string architecture;
  CaseOptions options;
};

std::vector<SpaceCase> space_cases() {
  using enum CudaTemplate;
  std::vector<SpaceCase> all;
  for (const int64_t dim : {32, 64, 128, 256})
    for (const Mask mask : {Mask::none, Mask::causal, Mask::tensor}) {
      const CaseOptions options =
          narrow({.heads = 4, .group = 2, .sq = 200, .sk = 200, .dqk = dim, .dv = dim, .mask = mask});
      all.push_back({sm90_prefill, "sm_90a", options});
      for (const char* architecture : {"sm_80", "sm_86", "sm_90a"})
        all.push_back({sm80_prefill, architecture, options});
      all.push_back({decode, "sm_80", narrow({.heads = 8, .group = 4, .sq = 1, .sk = 300, .dqk = dim, .dv = dim})});
    }
  all.push_back({sm90_prefill, "sm_90a", narrow({.sq = 99, .dqk = 192, .dv = 128, .mask = Mask::causal})});
  all.push_back({sm80_prefill, "sm_90a", narrow({.dqk = 31, .dv = 31})});
  return all;
}

TEST(CudaSpace, HoldsEveryScheduleOnceTheRulesFirstAndAllGenerate) {
  for (const SpaceCase& one : space_cases()) {
    const CudaTarget target = *parse_cuda_target(one.architecture);
    SCOPED_TRACE(fmt::format("{} {} {}", to_string(one.kernel), one.architecture, one.options.text()));
    const TileProgram program = build_tile_program(make_rounding_case(one.options).spec);
    const auto rules = schedule_of(one.kernel, program, target);
    ASSERT_TRUE(rules);
    const std::vector<CudaSchedule> legal = legal_cuda_schedules(*rules, &program, target);
    EXPECT_TRUE(same_choice(legal[0], *rules));
    EXPECT_EQ(legal[0].reasons, rules->reasons);
    EXPECT_GE(legal.size(), 3u);
    std::set<std::string> names;
    for (const CudaSchedule& schedule : legal) {
      EXPECT_TRUE(names.insert(print(schedule)).second) << print(schedule);
      EXPECT_EQ(schedule.products, rules->products);
      const auto ok = validate(schedule, &program, target);
      EXPECT_TRUE(ok) << to_string(ok.error());
      const auto source = generate_cuda(program, schedule, target, "k");
      ASSERT_TRUE(source) << to_string(source.error());
      for (const CudaPhase& phase : source->launch.phases) {
        EXPECT_LE(phase.shared_bytes, target.shared_bytes_per_block);
        EXPECT_LE(phase.threads, 1024);
      }
    }
  }
}

/// Whatever a file may hold: each integer at values that overflow what is computed of it.
TEST(CudaSpace, WhatBreaksABoundIsNamed) {
  for (const SpaceCase& one : space_cases()) {
    const CudaTarget target = *parse_cuda_target(one.architecture);
    SCOPED_TRACE(fmt::format("{} {}", to_string(one.kernel), one.architecture));
    const TileProgram program = build_tile_program(make_rounding_case(one.options).spec);
    const auto rules = schedule_of(one.kernel, program, target);
    ASSERT_TRUE(rules);
    for (const CudaScheduleField& field : cuda_schedule_fields())
      for (const int64_t value : {INT64_MIN, int64_t{-128}, int64_t{-1}, int64_t{7}, int64_t{1000}, int64_t{1} << 32,
                                  int64_t{3} << 61, int64_t{1} << 62, INT64_MAX}) {
        CudaSchedule schedule = *rules;
        schedule.*field.member = value;
        const auto ok = validate(schedule, &program, target);
        ASSERT_FALSE(ok) << field.name << " " << value;
        const std::string why = to_string(ok.error());
        EXPECT_NE(why.find(fmt::format("{} {}", field.name, value)), std::string::npos) << why;
        EXPECT_EQ(why.find('\n'), std::string::npos) << why;
      }
  }
}

TEST(CudaSpace, GenericTilesAreLegalOrNamed) {
  const TileProgram program = build_tile_program(make_rounding_case({.dqk = 40, .dv = 40}).spec);
  const CudaTarget target = *parse_cuda_target("sm_80");
  const CudaPlan plan = plan_cuda(program, target, {.force_generic = true});
  ASSERT_EQ(plan.choices.size(), 1u);
  const CudaSchedule rules = plan.choices[0].schedule;
  const auto legal = legal_cuda_schedules(rules, &program, target);
  EXPECT_TRUE(same_choice(legal[0], rules));
  EXPECT_GE(legal.size(), 20u);
  for (const auto& [member, value, part] :
       {std::tuple{&CudaSchedule::block_q, int64_t{48}, "block_q 48 is no power of two up to 64"},
        std::tuple{&CudaSchedule::block_kv, int64_t{128}, "block_kv 128 is no power of two up to 64"},
        std::tuple{&CudaSchedule::warps, int64_t{16}, "warps 16 is no power of two up to 8"},
        std::tuple{&CudaSchedule::stages, int64_t{2}, "stages 2 is not 1: generic has no choice there"}}) {
    CudaSchedule schedule = rules;
    schedule.*member = value;
    const auto ok = validate(schedule, &program, target);
    ASSERT_FALSE(ok);
    EXPECT_NE(to_string(ok.error()).find(part), std::string::npos) << to_string(ok.error());
  }
}

TEST(CudaSpace, Sm90BudgetsNameWhatTheyAreOf) {
  const auto why = [](const CaseOptions& options, int64_t block_q, int64_t block_kv, int64_t stages) {
    const TileProgram program = build_tile_program(make_rounding_case(options).spec);
    CudaSchedule schedule = sm90_schedule(block_kv, block_q / 64, stages);
    const auto ok = validate(schedule, &program, kSm90);
    return ok ? std::string() : to_string(ok.error());
  };
  const auto has = [](const std::string& text, const char* part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  const CaseOptions d128 = narrow({.sq = 200, .sk = 200, .dqk = 128, .dv = 128, .mask = Mask::causal});
  EXPECT_EQ(why(d128, 128, 128, 2), "");
  EXPECT_EQ(why(d128, 192, 80, 2), "");
  has(why(d128, 192, 96, 2), "block_q 192 and block_kv 96 take 136 registers of a thread for O, S and P, and 130 are");
  has(why(d128, 128, 176, 3), "block_q 128, block_kv 176 and stages 3 take ");
  // One warpgroup has half of a multiprocessor.
  EXPECT_EQ(why(d128, 64, 80, 2), "");
  has(why(d128, 64, 112, 2), "block_q 64, block_kv 112 and stages 2 take ");
  has(why(narrow({.sq = 200, .sk = 200, .dqk = 64, .dv = 256}), 64, 32, 2),
      "block_q 64 starts threads with registers for products of 192 columns, and there are some of 256");
  CaseOptions tables = d128;
  tables.mask = Mask::tensor;
  has(why(tables, 192, 32, 2), "block_q 192 leaves no registers to expressions that load from tensors; 128 does");
}

/// Far ends of the space, where the rules never go, in both extremes of the asynchronous engines.
class FarSchedules : public ::testing::TestWithParam<SpecRun> {};

TEST_P(FarSchedules, AgreeWithTheSpec) {
  const SpecRun& run = GetParam();
  const auto all = run.schedule.kernel == CudaTemplate::sm90_prefill ? sm90_executions(2) : legal_executions();
  check_spec_run(run, {all.front(), all.back()});
}

std::vector<SpecRun> far_runs() {
  std::vector<SpecRun> runs;
  const auto add = [&](CudaTemplate kernel, const CudaTarget& target, const CaseOptions& options, size_t count) {
    const TileProgram program = build_tile_program(make_rounding_case(options).spec);
    const auto rules = schedule_of(kernel, program, target);
    TW_CHECK(rules.has_value());
    const auto legal = legal_cuda_schedules(*rules, &program, target);
    for (size_t i = 0; i < count; ++i) {
      const CudaSchedule& schedule = legal[legal.size() - 1 - i * (legal.size() - 1) / count];
      runs.push_back({fmt::format("{}_d{}_q{}_kv{}_w{}_s{}_n{}", to_string(kernel), options.dqk, schedule.block_q,
                                  schedule.block_kv, schedule.warps, schedule.stages, runs.size()),
                      options, schedule, target});
    }
  };
  const CudaTarget sm80 = *parse_cuda_target("sm_80");
  const CaseOptions d64 =
      narrow({.heads = 2, .group = 2, .sq = 200, .sk = 230, .dqk = 64, .dv = 64, .mask = Mask::causal, .lse = true});
  const CaseOptions d128 = narrow({.heads = 1, .sq = 140, .sk = 300, .dqk = 128, .dv = 128, .lse = true});
  for (const bool masked : {false, true}) {
    CaseOptions options = d64;
    options.mask = masked ? Mask::window : Mask::none;
    runs.push_back({masked ? "one_warpgroup_window" : "one_warpgroup", options, sm90_schedule(80, 1, 2), kSm90});
  }
  runs.push_back({"one_warpgroup_tables",
                  narrow({.heads = 2, .sq = 150, .sk = 170, .dqk = 64, .dv = 64, .mask = Mask::tensor}),
                  sm90_schedule(32, 1, 3), kSm90});
  CudaTarget small = kSm90;
  small.multiprocessors = 2;  // four persistent blocks take turns with ten items
  runs.push_back({"one_warpgroup_persistent",
                  narrow({.heads = 3, .sq = 200, .sk = 100, .dqk = 128, .dv = 128, .lse = true}),
                  sm90_schedule(48, 1, 2), small});
  add(CudaTemplate::sm90_prefill, kSm90, d64, 6);
  add(CudaTemplate::sm90_prefill, kSm90, d128, 4);
  add(CudaTemplate::sm80_prefill, sm80, d64, 5);
  add(CudaTemplate::sm80_prefill, sm80, d128, 3);
  add(CudaTemplate::decode, sm80,
      narrow({.heads = 8, .group = 4, .sq = 2, .sk = 900, .dqk = 64, .dv = 64, .mask = Mask::causal, .lse = true}), 6);
  return runs;
}

INSTANTIATE_TEST_SUITE_P(Cases, FarSchedules, ::testing::ValuesIn(far_runs()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace tilewright::testing
