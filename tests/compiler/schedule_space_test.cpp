// The legal space: everything in it validates, everything outside is refused by the bound that it breaks.
#include "compiler/schedule_space.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "compiler/cost_model.h"
#include "compiler/gradient.h"
#include "compiler/passes.h"
#include "compiler/plan_loop.h"
#include "compiler/plan_rules.h"
#include "ir/text.h"

namespace tilewright {
namespace {

CpuTarget target_of(CpuIsa isa) {
  CpuTarget target;
  target.isa = isa;
  target.l1_bytes = isa == CpuIsa::avx512 ? 48 << 10 : 32 << 10;
  target.l2_bytes = isa == CpuIsa::avx512 ? 2 << 20 : 512 << 10;
  target.cores = 2;
  return target;
}

/// Attention over [B,H,Sq,D] and [B,H/2,Sk,D], causal, its gradient's form or a product: whatever `text` says.
Program program_of(const std::string& text) {
  const auto graph = parse_graph(text);
  TW_CHECK(graph.ok());
  const auto canonical = canonicalize(*graph);
  TW_CHECK(canonical.ok());
  auto program = fuse(*canonical);
  TW_CHECK(program.ok());
  return std::move(*program);
}

std::string attention_text(const std::string& dtype, const std::string& q_len, int64_t dqk, int64_t dv) {
  return fmt::format(R"(graph @a(%q: {0}[B,8,{1},{2}], %k: {0}[B,8,Sk,{2}], %v: {0}[B,8,Sk,{3}]) -> {0}[B,8,{1},{3}] {{
      %s = matmul_nt %q, %k : {0}[B,8,{1},Sk]
      %e = mask_causal %s, align=bottom_right : {0}[B,8,{1},Sk]
      %p = softmax %e, axis=3 : {0}[B,8,{1},Sk]
      %o = matmul %p, %v : {0}[B,8,{1},{3}]
      return %o
    }})",
                     dtype, q_len, dqk, dv);
}

struct Planned {
  Program program;
  TileProgram tiles;
  CpuPlan plan;
};

/// Of the first step.
std::unique_ptr<Planned> plan_of(const std::string& text, const CpuTarget& target) {
  auto planned = std::make_unique<Planned>();
  planned->program = program_of(text);
  const Step& step = planned->program.steps[0];
  if (const auto* attention = std::get_if<AttentionStep>(&step.what)) {
    planned->tiles = build_tile_program(attention->spec);
    planned->plan = plan_cpu(planned->tiles, target);
  } else {
    planned->plan = plan_loop(std::get<LoopStep>(step.what), target);
  }
  return planned;
}
ScheduledStep step_of(const Planned& planned) {
  const Step& step = planned.program.steps[0];
  if (const auto* loop = std::get_if<LoopStep>(&step.what)) return loop;
  return &planned.tiles;
}

std::string message(const CpuSchedule& schedule, const ScheduledStep& step, const CpuTarget& target) {
  const auto ok = validate(schedule, step, target);
  return ok ? "" : to_string(ok.error());
}

constexpr const char* kProduct = R"(graph @m(%a: f32[M,512], %b: f32[512,384]) -> f32[M,384] {
  %c = matmul %a, %b : f32[M,384]
  return %c
})";

TEST(ScheduleSpace, EverySchedulesOfTheRulesIsLegal) {
  for (const CpuIsa isa : {CpuIsa::avx2, CpuIsa::avx512})
    for (const char* dtype : {"f32", "f64"})
      for (const char* q_len : {"Sq", "1", "40"})
        for (const auto& [dqk, dv] : {std::pair<int64_t, int64_t>{1, 1},
                                      {8, 31},
                                      {64, 64},
                                      {72, 80},
                                      {128, 128},
                                      {192, 128},
                                      {256, 256},
                                      {512, 512}}) {
          const CpuTarget target = target_of(isa);
          const auto planned = plan_of(attention_text(dtype, q_len, dqk, dv), target);
          for (const auto& choice : planned->plan.choices)
            EXPECT_EQ(message(choice.schedule, step_of(*planned), target), "") << print(choice.schedule);
        }
}

TEST(ScheduleSpace, LegalSchedulesAreDistinctValidAndBeginWithTheRules) {
  for (const CpuIsa isa : {CpuIsa::avx2, CpuIsa::avx512})
    for (const std::string& text :
         {attention_text("f32", "Sq", 64, 64), attention_text("f32", "Sq", 128, 96), std::string(kProduct)}) {
      const CpuTarget target = target_of(isa);
      const auto planned = plan_of(text, target);
      for (const auto& choice : planned->plan.choices) {
        const ScheduleSpace space = schedule_space(choice.schedule, step_of(*planned));
        EXPECT_FALSE(space.axes.empty());
        const auto legal = legal_schedules(space, step_of(*planned), target);
        ASSERT_GT(legal.size(), 4u) << print(choice.schedule);
        EXPECT_TRUE(same_choice(legal[0], choice.schedule));
        std::set<std::string> texts;
        for (const CpuSchedule& s : legal) {
          EXPECT_EQ(message(s, step_of(*planned), target), "") << print(s);
          EXPECT_TRUE(texts.insert(print(s)).second) << print(s) << " twice";
        }
      }
    }
}

TEST(ScheduleSpace, OfBackwardPasses) {
  for (const CpuIsa isa : {CpuIsa::avx512, CpuIsa::amx})
    for (const char* dtype : {"f32", "bf16"}) {
      const auto graph = parse_graph(attention_text(dtype, "Sq", 64, 64));
      TW_CHECK(graph.ok());
      const auto passes = gradient(*graph);
      TW_CHECK(passes.ok());
      const Program program = program_of(print(passes->backward));
      CpuTarget target = target_of(CpuIsa::avx512);
      target.isa = isa;
      for (const Step& each : program.steps) {
        const auto* backward = std::get_if<BackwardStep>(&each.what);
        if (!backward) continue;
        const ScheduledStep step = &backward->spec;
        const CpuSchedule rules = plan_backward(backward->spec, target).choices[0].schedule;
        EXPECT_EQ(rules.kernel, isa == CpuIsa::amx ? CpuTemplate::amx_backward : CpuTemplate::backward);
        const auto legal = legal_schedules(schedule_space(rules, step), step, target);
        ASSERT_GT(legal.size(), 4u) << print(rules);
        EXPECT_TRUE(same_choice(legal[0], rules));
        std::set<std::string> texts;
        for (const CpuSchedule& s : legal) {
          EXPECT_EQ(message(s, step, target), "") << print(s);
          EXPECT_TRUE(texts.insert(print(s)).second) << print(s) << " twice";
        }
        CpuSchedule fewer = rules;
        fewer.value_products = 3;
        EXPECT_EQ(message(fewer, step, target),
                  fmt::format("value_products is 3; it may be {0} to {0}", rules.value_products));
      }
    }
}

/// Few cores have work enough in long splits; many need more of them. The length of the keys has no say.
TEST(ScheduleSpace, DecodeSplitsFinerForManyCores) {
  for (const auto& [cores, split_kv] : {std::pair{1, 2048}, {4, 2048}, {5, 1024}, {64, 1024}}) {
    CpuTarget target = target_of(CpuIsa::avx512);
    target.cores = cores;
    const auto planned = plan_of(attention_text("f32", "Sq", 64, 64), target);
    const CpuSchedule& decode = planned->plan.choices[0].schedule;
    EXPECT_EQ(decode.kernel, CpuTemplate::decode);
    EXPECT_EQ(decode.split_kv, split_kv) << cores << " cores";
    EXPECT_EQ(decode.block_kv, 512);
  }
}

TEST(ScheduleSpace, OutsideTheBoundIsNamed) {
  const CpuTarget target = target_of(CpuIsa::avx512);
  const auto planned = plan_of(attention_text("f32", "Sq", 64, 64), target);
  const ScheduledStep step = step_of(*planned);
  const CpuSchedule decode = planned->plan.choices[0].schedule, prefill = planned->plan.choices[1].schedule;
  const auto with = [&](CpuSchedule s, int64_t CpuSchedule::* member, int64_t value) {
    s.*member = value;
    return message(s, step, target);
  };
  using S = CpuSchedule;
  EXPECT_EQ(with(prefill, &S::block_kv, 100), "block_kv 100 is no multiple of the 64 keys of a panel");
  EXPECT_EQ(with(prefill, &S::strip_rows, 7), "strip_rows 7 is no multiple of the 6 rows of the micro-kernel");
  EXPECT_EQ(with(prefill, &S::block_q, 100), "block_q 100 is no multiple of the 12 rows of a strip");
  EXPECT_EQ(with(prefill, &S::block_q, 0), "block_q is 0; it may be 1 to 4194304");
  EXPECT_EQ(with(prefill, &S::block_q, INT64_MIN), fmt::format("block_q is {}; it may be 0 to 4194304", INT64_MIN));
  EXPECT_EQ(with(prefill, &S::block_q, INT64_MAX), fmt::format("block_q is {}; it may be 0 to 4194304", INT64_MAX));
  EXPECT_EQ(with(prefill, &S::k_unroll, 3), "k_unroll 3 is no divisor of the 4 elements that packing moves at once");
  EXPECT_EQ(with(prefill, &S::lanes, 8), "lanes is 8; a vector of avx512 holds 16 of these elements");
  EXPECT_EQ(with(prefill, &S::share_packed, 2), "share_packed is 2; it may be 0 to 1");
  EXPECT_EQ(with(prefill, &S::mr, 12), "a 12x4 micro-kernel takes 53 vector registers; avx512 has 32");
  EXPECT_EQ(with(prefill, &S::block_kv, 2048),
            "block_kv 2048: a strip of 12 rows takes 96 KB of scores, more than the 48 KB L1");
  EXPECT_EQ(with(prefill, &S::block_q, 6000),
            "block_q 6000 and block_kv 256 take 3128 KB for Q, O, K and V, more than the 2048 KB L2");
  EXPECT_EQ(with(decode, &S::block_kv, 4096), "block_kv 4096 is more than the 2048 keys of a split (split_kv)");
  EXPECT_EQ(with(decode, &S::block_kv, 24), "block_kv 24 is no multiple of the 16 lanes of a vector");
  EXPECT_EQ(with(decode, &S::split_kv, 0), "split_kv is 0; it may be 16 to 4194304");
  EXPECT_EQ(with(decode, &S::block_q, 4), "block_q is 4; decode takes the 16 rows that share a KV head");
  EXPECT_EQ(message(prefill, step, target_of(CpuIsa::avx2)),
            "the schedule is for avx512, which this target (avx2) does not have");

  const auto product = plan_of(kProduct, target);
  CpuSchedule s = product->plan.choices.back().schedule;
  ASSERT_EQ(s.kernel, CpuTemplate::matmul);
  s.block_k = 4096;
  EXPECT_EQ(message(s, step_of(*product), target),
            "a panel of B, block_k 4096 deep and 32 columns wide, takes 512 KB, more than the 48 KB L1");
}

TEST(ScheduleSpace, SettledSchedulesAreFixedPoints) {
  const CpuTarget target = target_of(CpuIsa::avx512);
  const auto planned = plan_of(attention_text("f32", "Sq", 128, 128), target);
  for (const auto& choice : planned->plan.choices) {
    CpuSchedule s = choice.schedule;
    settle(s);
    EXPECT_TRUE(same_choice(s, choice.schedule)) << print(s) << " of " << print(choice.schedule);
  }
}

TEST(CostModel, ToldByTheReasonsAndByWhatIsKnownToBeSlow) {
  const CpuTarget target = target_of(CpuIsa::avx512);
  const auto planned = plan_of(attention_text("f32", "Sq", 64, 64), target);
  const CpuSchedule prefill = planned->plan.choices[1].schedule;
  const auto cycles = [&](const CpuSchedule& s, int64_t length, int workers) {
    const CostEstimate cost =
        estimate_cost(s, step_of(*planned), target, {{"B", 1}, {"Sq", length}, {"Sk", length}}, workers);
    EXPECT_FALSE(cost.reasons.empty());
    EXPECT_TRUE(std::isfinite(cost.cycles) && cost.cycles > 0);
    return cost.cycles;
  };
  const double base = cycles(prefill, 4096, 1);
  CpuSchedule s = prefill;
  s.mr = 1;
  EXPECT_GT(cycles(s, 4096, 1), 1.3 * base) << "a tile that is all loads";
  s = prefill;
  s.block_q = s.strip_rows;
  EXPECT_GT(cycles(s, 4096, 1), base) << "K and V from afar for every strip";
  EXPECT_LT(cycles(prefill, 4096, 2), base) << "two workers";
  EXPECT_NEAR(cycles(prefill, 8192, 1) / base, 4, 0.5) << "twice the length";
  // 8 heads of 384 rows are one round and a bit on 6 workers; smaller blocks of queries share better.
  s = prefill;
  s.block_q = 96;
  EXPECT_LT(cycles(s, 384, 6), cycles(prefill, 384, 6));
}

}  // namespace
}  // namespace tilewright
