#include <gtest/gtest.h>

#include "compiler/passes.h"
#include "compiler/schedule.h"

namespace tilewright {
namespace {

TileProgram program(Dim q_len, int64_t head_dim, int64_t head_group, DType dtype = DType::f32) {
  AttentionSpec spec;
  spec.batch = {Dim::named("B")};
  spec.heads = {32};
  spec.q_len = q_len;
  spec.kv_len = Dim::named("Sk");
  spec.head_group = head_group;
  spec.accumulate = dtype == DType::f64 ? DType::f64 : DType::f32;
  for (const char* name : {"q", "k", "v", "o"})
    spec.tensors.push_back({name, {dtype, {Dim::named("B"), 32, Dim::named("S"), head_dim}}, name[0] == 'o'});
  spec.dots.push_back({{0, {}}, {1, {}}, head_dim});
  spec.value.tensor = 2;
  spec.value_dim = head_dim;
  spec.output.tensor = 3;
  spec.score.set_root(spec.score.score(spec.accumulate));
  spec.keep.set_root(spec.keep.constant_int(1, DType::boolean));
  spec.keep_kv = spec.keep;
  return build_tile_program(spec);
}

CpuTarget avx512() {
  CpuTarget target;
  target.isa = CpuIsa::avx512;
  target.l1_bytes = 48 << 10;
  target.l2_bytes = 2 << 20;
  return target;
}

void expect_legal(const CpuSchedule& s) {
  EXPECT_GT(s.block_q, 0);
  EXPECT_FALSE(s.reasons.empty());
  if (s.kernel != CpuTemplate::prefill) return;
  EXPECT_EQ(s.block_kv % s.nr(), 0) << print(s);
  EXPECT_EQ(s.strip_rows % s.mr, 0) << print(s);
  EXPECT_EQ(s.block_q % s.strip_rows, 0) << print(s);
}

TEST(PlanCpu, DynamicQueryLengthGetsDecodeThenPrefill) {
  const CpuPlan plan = plan_cpu(program(Dim::named("Sq"), 128, 4), avx512());
  ASSERT_EQ(plan.choices.size(), 2u);
  EXPECT_EQ(plan.choices[0].schedule.kernel, CpuTemplate::decode);
  EXPECT_FALSE(plan.choices[0].use_when.is_constant_true());
  EXPECT_EQ(plan.choices[1].schedule.kernel, CpuTemplate::prefill);
  EXPECT_TRUE(plan.choices[1].use_when.is_constant_true());
  EXPECT_TRUE(plan.refused.empty());
}

TEST(PlanCpu, ConstantQueryLengthDecidesStatically) {
  const CpuPlan decode = plan_cpu(program(1, 128, 4), avx512());
  ASSERT_EQ(decode.choices.size(), 1u);
  EXPECT_EQ(decode.choices[0].schedule.kernel, CpuTemplate::decode);
  const CpuPlan prefill = plan_cpu(program(512, 64, 1), avx512());
  ASSERT_EQ(prefill.choices.size(), 1u);
  EXPECT_EQ(prefill.choices[0].schedule.kernel, CpuTemplate::prefill);
  ASSERT_EQ(prefill.refused.size(), 1u);
  EXPECT_NE(prefill.refused[0].reason.find("512"), std::string::npos);
}

TEST(PlanCpu, PrefillAloneFeedsABackwardPass) {
  for (const Dim& q_len : {Dim(1), Dim::named("Sq")}) {
    const CpuPlan plan = plan_cpu(program(q_len, 128, 4), avx512(), {.feeds_backward = true});
    ASSERT_EQ(plan.choices.size(), 1u);
    EXPECT_EQ(plan.choices[0].schedule.kernel, CpuTemplate::prefill);
    EXPECT_TRUE(plan.choices[0].use_when.is_constant_true());
    ASSERT_EQ(plan.refused.size(), 1u);
    EXPECT_EQ(plan.refused[0].kernel, CpuTemplate::decode);
  }
}

TEST(PlanCpu, GenericRunsWhatFastTemplatesRefuse) {
  const CpuPlan wide = plan_cpu(program(Dim::named("Sq"), 600, 1), avx512());
  ASSERT_EQ(wide.choices.size(), 1u);
  EXPECT_EQ(wide.choices[0].schedule.kernel, CpuTemplate::generic);
  EXPECT_EQ(wide.refused.size(), 2u);
  const CpuPlan forced = plan_cpu(program(Dim::named("Sq"), 64, 1), avx512(), {.force_generic = true});
  EXPECT_EQ(forced.choices[0].schedule.kernel, CpuTemplate::generic);
}

TEST(PlanCpu, EachItemPacksItsOwnKeysUnlessQueryHeadsShareThem) {
  EXPECT_EQ(plan_cpu(program(512, 64, 1), avx512()).choices[0].schedule.share_packed, 0);
  EXPECT_EQ(plan_cpu(program(512, 64, 4), avx512()).choices[0].schedule.share_packed, 1);
}

TEST(PlanCpu, BlocksOfQueriesAreLongWhereHeadsAloneKeepTheCoresBusy) {
  const auto block_q = [](int cores) {
    CpuTarget target = avx512();
    target.cores = cores;
    return plan_cpu(program(Dim::named("Sq"), 64, 1), target).choices.back().schedule.block_q;
  };
  EXPECT_EQ(block_q(1), 2 * block_q(64));
}

TEST(PlanCpu, SchedulesAreLegalForAllShapes) {
  for (DType dtype : {DType::f32, DType::f64, DType::bf16})
    for (int64_t head_dim : {1, 8, 31, 64, 72, 80, 96, 128, 192, 256, 512})
      for (CpuIsa isa : {CpuIsa::avx2, CpuIsa::avx512})
        for (const Dim& q_len : {Dim(0), Dim(1), Dim(40), Dim::named("Sq")}) {
          CpuTarget target;
          target.isa = isa;
          for (const auto& choice : plan_cpu(program(q_len, head_dim, 2, dtype), target).choices)
            expect_legal(choice.schedule);
        }
}

TEST(PlanCpu, OverriddenTilesAreUsedAndStayLegal) {
  for (const auto& [block_q, block_kv] : {std::pair<int64_t, int64_t>{64, 0}, {0, 64}, {1, 1}, {100, 100}, {60, 90}})
    for (DType dtype : {DType::f32, DType::f64, DType::bf16})
      for (int64_t head_dim : {8, 31, 64, 128, 256})
        for (CpuIsa isa : {CpuIsa::avx2, CpuIsa::avx512}) {
          CpuTarget target;
          target.isa = isa;
          const TileProgram tiles = program(Dim::named("Sq"), head_dim, 2, dtype);
          CpuPlan plan = plan_cpu(tiles, target);
          const auto done = override_tiles(plan, tiles, target, {block_q, block_kv});
          ASSERT_TRUE(done) << to_string(done.error());
          for (const auto& choice : plan.choices) {
            const CpuSchedule& s = choice.schedule;
            expect_legal(s);
            if (block_kv > 0) {
              EXPECT_GE(s.block_kv, block_kv) << print(s);
              EXPECT_LT(s.block_kv - block_kv, std::max(s.nr(), s.lanes)) << print(s);
            }
            if (block_q == 0 || s.kernel == CpuTemplate::decode) continue;
            EXPECT_GE(s.block_q, block_q) << print(s);
            EXPECT_LT(s.block_q - block_q, s.strip_rows) << print(s);
          }
        }
}

TEST(PlanCpu, OverriddenTilesBeyondACacheNameIt) {
  const auto message = [](const TileProgram& tiles, const ScheduleOverride& wanted) {
    CpuPlan plan = plan_cpu(tiles, avx512());
    const auto done = override_tiles(plan, tiles, avx512(), wanted);
    return done ? "" : to_string(done.error());
  };
  const TileProgram tiles = program(Dim::named("Sq"), 128, 1);
  EXPECT_EQ(message(tiles, {}), "");
  EXPECT_EQ(message(tiles, {-1, 0}), "block_q is -1; a tile has 1 to 1048576 rows, 0 leaves it to the rules");
  EXPECT_EQ(message(tiles, {0, 4096}),
            "block_q 768 and block_kv 4096 take 4864 KB for Q, O, K and V, more than the 2048 KB L2");
  EXPECT_EQ(message(tiles, {8192, 64}),
            "block_q 8196 and block_kv 64 take 8260 KB for Q, O, K and V, more than the 2048 KB L2");
  EXPECT_EQ(message(program(Dim::named("Sq"), 8, 1), {0, 4096}),
            "block_kv 4096: a strip of 6 rows takes 96 KB of scores, more than the 48 KB L1");
}

}  // namespace
}  // namespace tilewright
