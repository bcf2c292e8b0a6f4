// The generic GPU template on the emulator: every variant of the suite against the oracle (semantics 19), by several
// schedules, in legal executions of several seeds, on guarded memory.
#include <gtest/gtest.h>

#include "compiler/cuda_schedule_space.h"
#include "tests/emulator/variant_runs.h"
#include "tests/support/attention_case.h"

namespace tilewright::testing {
namespace {

constexpr Numbers kAllNumbers[] = {Numbers::f32, Numbers::bf16, Numbers::f64, Numbers::f16, Numbers::bf16_cast};
constexpr int64_t kGenericHeadDims[] = {8, 31, 16, 40, 64};
const Sizes kGenericSizes[] = {
    {"ragged", 2, 19, 37}, {"more queries", 1, 37, 11}, {"one query", 2, 1, 50},
    {"no keys", 2, 9, 0},  {"no queries", 1, 0, 20},    {"several blocks", 1, 66, 70},
};

class GenericVariants : public ::testing::TestWithParam<Variant> {
 protected:
  /// Runs the variant by a schedule at some of the sizes.
  void run(const ChooseSchedule& choose, std::initializer_list<size_t> turns) {
    const Variant& variant = GetParam();
    const auto number = static_cast<size_t>(variant.number);
    std::mt19937_64 random(number);
    const int64_t dim = kGenericHeadDims[number % std::size(kGenericHeadDims)];
    const Graph graph = variant.number == kLlamaDecode ? variant.graph
                                                       : spell(variant, kAllNumbers[number % std::size(kAllNumbers)],
                                                               dim, number == 22 ? dim + 3 : dim);
    const auto program = EmulatedProgram::create(graph, choose);
    ASSERT_TRUE(program) << to_string(program.error());
    for (const size_t turn : turns)
      check_against_oracle(*program, graph,
                           {kGenericSizes[(number + 2 * turn) % std::size(kGenericSizes)], {.seed = turn}}, random);
  }
};

TEST_P(GenericVariants, MatchTheOracle) { run(generic_schedule, {0, 1, 2}); }

/// Tiles of a few rows and keys, so that small shapes have several, and whatever else is legal, another for each.
TEST_P(GenericVariants, MatchTheOracleByOtherSchedules) {
  const auto number = static_cast<size_t>(GetParam().number);
  run(
      [&](const TileProgram& program, const CudaTarget& target) {
        const std::vector<CudaSchedule> legal =
            legal_cuda_schedules(generic_schedule(program, target), &program, target);
        return legal[(number * 5 + 1) % legal.size()];
      },
      {0});
  run(
      [&](const TileProgram& program, const CudaTarget& target) {
        const std::vector<CudaSchedule> legal =
            legal_cuda_schedules(generic_schedule(program, target), &program, target);
        for (const CudaSchedule& schedule : legal)
          if (schedule.block_q == 8 && schedule.block_kv == (number % 2 ? 8 : 16) && schedule.warps == 2)
            return schedule;
        return legal.back();
      },
      {2});
}

INSTANTIATE_TEST_SUITE_P(Suite, GenericVariants, ::testing::ValuesIn(all_variants(variant_folder())), variant_name);

class GenericSpecs : public ::testing::TestWithParam<CaseOptions> {};

TEST_P(GenericSpecs, MatchAPlainEvaluation) {
  std::mt19937_64 random(11);
  const AttentionCase test = make_case(GetParam(), random);
  const TileProgram program = build_tile_program(test.spec);
  const CudaTarget target = *parse_cuda_target("sm_80");
  const auto step = EmulatedStep::create(generate_cuda(program, generic_schedule(program, target), target, "spec"),
                                         args_layout(test.spec));
  ASSERT_TRUE(step) << to_string(step.error());
  EXPECT_LE(step->launch().phases[0].shared_bytes, target.shared_bytes_per_block);
  EXPECT_EQ(step->run(test.dims, views_of(test.tensors), {.seed = 3}), "");
  check_case(test);
}

std::vector<CaseOptions> spec_cases() {
  using enum DType;
  std::vector<CaseOptions> cases;
  const auto add = [&](CaseOptions options) { cases.push_back(options); };
  for (const Rows rows : {Rows::rope_half, Rows::rope_interleaved, Rows::rms_norm, Rows::layer_norm, Rows::norm_rope})
    add({.sk = 21, .dqk = 14, .mask = Mask::causal, .query_rows = rows, .key_rows = rows});
  add({.dtype = bf16, .output = bf16, .group = 2, .sink = true, .lse = true, .query_rows = Rows::rms_norm});
  add({.dtype = f64, .output = f64, .mask = Mask::causal_padding, .lse = true, .two_dots = true});
  add({.sq = 33, .sk = 70, .dqk = 9, .dv = 5, .score = Score::bias, .layout = Layout::reversed, .dropout = true});
  add({.mask = Mask::everything, .sink = true, .lse = true});
  add({.batch = 2, .sk = 37, .mask = Mask::holes, .lse = true});
  add({.sk = 0, .lse = true});
  add({.sq = 3, .sk = 40, .dqk = 512, .dv = 512, .mask = Mask::tensor});
  add({.dtype = f64, .output = f64, .sq = 2, .sk = 9, .dqk = 512, .dv = 512});
  add({.sq = 17, .sk = 33, .dqk = 1, .dv = 1, .mask = Mask::window, .arrangement = Arrangement::packed});
  add({.sk = 37, .mask = Mask::padding, .score = Score::softcap, .normaliser = Normaliser::none});
  return cases;
}

INSTANTIATE_TEST_SUITE_P(All, GenericSpecs, ::testing::ValuesIn(spec_cases()),
                         [](const auto& test) { return std::to_string(test.index); });

}  // namespace
}  // namespace tilewright::testing
