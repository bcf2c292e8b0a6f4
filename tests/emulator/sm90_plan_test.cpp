// The rules of the sm_90a prefill: tiles by head dim within the budgets, refusals with reasons, schedules that do not
// fit.
#include "tests/emulator/sm90_case.h"

namespace tilewright::testing {
namespace {

TEST(Sm90Plan, TilesByHeadDim) {
  struct Row {
    int64_t dqk, dv;
    Mask mask;
    int64_t block_q, block_kv;
  };
  for (const Row& row :
       {Row{64, 64, Mask::none, 192, 128}, Row{64, 64, Mask::causal, 192, 128}, Row{128, 128, Mask::none, 128, 176},
        Row{128, 128, Mask::causal, 128, 128}, Row{192, 192, Mask::none, 128, 112},
        Row{192, 128, Mask::causal, 128, 128}, Row{256, 256, Mask::none, 128, 80}, Row{256, 256, Mask::causal, 128, 80},
        Row{128, 128, Mask::tensor, 128, 128}, Row{256, 256, Mask::tensor, 128, 32},
        Row{128, 128, Mask::holes, 128, 64}}) {
    SCOPED_TRACE(fmt::format("{} and {}", row.dqk, row.dv));
    const CaseOptions options = narrow({.sq = 200, .sk = 200, .dqk = row.dqk, .dv = row.dv, .mask = row.mask});
    const AttentionCase test = make_rounding_case(options);
    const auto rules = schedule_of(CudaTemplate::sm90_prefill, build_tile_program(test.spec), kSm90);
    ASSERT_TRUE(rules);
    const CudaSchedule& schedule = *rules;
    EXPECT_EQ(schedule.block_q, row.block_q);
    EXPECT_EQ(schedule.block_kv, row.block_kv);
    EXPECT_TRUE(validate_sm90_prefill(build_tile_program(test.spec), schedule, kSm90));
    const Sm90CudaLayout layout = sm90_cuda_layout(test.spec, schedule);
    EXPECT_LE(128 * (layout.producer_registers + layout.consumers * layout.consumer_registers),
              kSm90.registers_per_multiprocessor);
    EXPECT_LE(layout.bytes, kSm90.shared_bytes_per_block);
    EXPECT_FALSE(schedule.reasons.empty());
  }
}

TEST(Sm90Plan, Refusals) {
  const auto reason = [](const CaseOptions& options, const CudaTarget& target = kSm90) {
    return refusal_of(CudaTemplate::sm90_prefill, build_tile_program(make_rounding_case(options).spec), target);
  };
  const auto expect = [&](const std::string& found, std::string_view part) {
    EXPECT_NE(found.find(part), std::string::npos) << found << " holds no \"" << part << '"';
  };
  expect(reason(narrow({.dqk = 64, .dv = 64}), *parse_cuda_target("sm_80")), "no wgmma");
  expect(reason({.dqk = 64, .dv = 64}), "Q is f32");
  expect(reason(narrow({.dqk = 31, .dv = 64})), "head dim 31");
  expect(reason(narrow({.dqk = 64, .dv = 264})), "value dim 264");
  expect(reason(narrow({.dqk = 64, .dv = 64, .two_dots = true})), "2 products");
  EXPECT_EQ(reason(narrow({.dqk = 64, .dv = 64, .query_rows = Rows::rope_half})), "");
  expect(reason(narrow({.dqk = 24, .dv = 64, .arrangement = Arrangement::merged})), "does not end with it");
}

TEST(Sm90Plan, SchedulesThatDoNotFit) {
  const AttentionCase test = make_rounding_case(narrow({.dqk = 256, .dv = 256}));
  const TileProgram program = build_tile_program(test.spec);
  const auto refused = [&](const CudaSchedule& schedule) {
    const auto legal = validate_sm90_prefill(program, schedule, kSm90);
    return legal ? "" : to_string(legal.error());
  };
  EXPECT_EQ(refused(sm90_schedule(80)), "");
  EXPECT_NE(refused(sm90_schedule(96)).find("bytes of shared memory"), std::string::npos);
  EXPECT_NE(refused(sm90_schedule(176)).find("registers"), std::string::npos);
  EXPECT_NE(refused(sm90_schedule(72)).find("no multiple of 16"), std::string::npos);
  EXPECT_NE(refused(sm90_schedule(32, 4)).find("block_q 256"), std::string::npos);
  EXPECT_NE(refused(sm90_schedule(32, 2, 9)).find("stages 9 is not between 1 and 4"), std::string::npos);
  CudaSchedule warps = sm90_schedule(32);
  warps.warps = 8;
  EXPECT_NE(refused(warps).find("warps 8 is not the 12"), std::string::npos);
}

}  // namespace
}  // namespace tilewright::testing
