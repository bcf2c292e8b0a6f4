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

TEST(PlanCpu, GenericRunsWhatFastTemplatesRefuse) {
  const CpuPlan wide = plan_cpu(program(Dim::named("Sq"), 600, 1), avx512());
  ASSERT_EQ(wide.choices.size(), 1u);
  EXPECT_EQ(wide.choices[0].schedule.kernel, CpuTemplate::generic);
  EXPECT_EQ(wide.refused.size(), 2u);
  const CpuPlan forced = plan_cpu(program(Dim::named("Sq"), 64, 1), avx512(), {.force_generic = true});
  EXPECT_EQ(forced.choices[0].schedule.kernel, CpuTemplate::generic);
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

}  // namespace
}  // namespace tilewright
