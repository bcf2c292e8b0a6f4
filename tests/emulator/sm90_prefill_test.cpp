// The sm_90a prefill on the emulator against a plain evaluation of the spec.
#include "tests/emulator/sm90_case.h"

namespace tilewright::testing {
namespace {

class Sm90PrefillCase : public ::testing::TestWithParam<SpecRun> {};

TEST_P(Sm90PrefillCase, AgreesWithTheSpec) { check_spec_run(GetParam(), sm90_executions(2)); }

std::vector<SpecRun> sm90_runs() {
  std::vector<SpecRun> all;
  const auto add = [&](std::string name, CaseOptions options, CudaSchedule tiles = sm90_schedule(32),
                       int multiprocessors = 132) {
    CudaTarget target = kSm90;
    target.multiprocessors = multiprocessors;
    all.push_back({std::move(name), std::move(options), std::move(tiles), target});
  };
  // Rows, keys and dims that end inside a tile; several items per block and several stages.
  add("plain", narrow({.heads = 2, .sq = 140, .sk = 150, .dqk = 64, .dv = 64, .lse = true}));
  add("f16", narrow({.sq = 70, .sk = 50, .dqk = 64, .dv = 64, .lse = true}, DType::f16));
  add("three_consumers",
      narrow({.heads = 1, .sq = 200, .sk = 200, .dqk = 64, .dv = 64, .mask = Mask::causal, .lse = true}),
      sm90_schedule(48, 3));
  add("wide_blocks", narrow({.heads = 1, .sq = 130, .sk = 400, .dqk = 128, .dv = 128, .lse = true}),
      sm90_schedule(176));
  add("three_stages", narrow({.heads = 2, .sq = 40, .sk = 150, .dqk = 64, .dv = 64, .mask = Mask::causal}),
      sm90_schedule(16, 2, 3));
  add("one_stage", narrow({.heads = 2, .sq = 40, .sk = 100, .dqk = 64, .dv = 64, .mask = Mask::causal}),
      sm90_schedule(32, 2, 1));
  add("persistent", narrow({.heads = 3, .sq = 140, .sk = 150, .dqk = 64, .dv = 64, .lse = true}), sm90_schedule(32), 2);
  add("persistent_wider_values", narrow({.heads = 5, .sq = 40, .sk = 70, .dqk = 64, .dv = 128, .sink = true}),
      sm90_schedule(32), 2);
  add("f32_output", [] {
    CaseOptions options = narrow({.sq = 33, .sk = 50, .dqk = 64, .dv = 48});
    options.output = DType::f32;
    return options;
  }());
  for (const int64_t dim : {8, 16, 24, 72, 80, 96, 192, 256})
    add(fmt::format("d{}", dim), narrow({.heads = 1, .sq = 35, .sk = 75, .dqk = dim, .dv = dim, .lse = true}));
  add("d192_128", narrow({.heads = 1, .sq = 140, .sk = 140, .dqk = 192, .dv = 128, .mask = Mask::causal}),
      sm90_schedule(64));
  add("d64_192", narrow({.heads = 1, .sq = 140, .sk = 100, .dqk = 64, .dv = 192}));
  // Sequences that are empty or short.
  add("one_query", narrow({.batch = 2, .sq = 1, .sk = 70, .dqk = 64, .dv = 64, .lse = true}));
  add("one_key", narrow({.batch = 2, .sq = 5, .sk = 1, .dqk = 64, .dv = 64, .lse = true}));
  add("no_keys", narrow({.batch = 2, .sq = 5, .sk = 0, .dqk = 64, .dv = 64, .lse = true}));
  add("no_queries", narrow({.batch = 2, .sq = 0, .sk = 5, .dqk = 64, .dv = 64, .lse = true}));
  add("more_queries", narrow({.sq = 300, .sk = 60, .dqk = 64, .dv = 64, .mask = Mask::causal, .lse = true}));
  // Masks and scores.
  for (auto [name, options] : expression_cases()) {
    options.sq = 150;
    options.sk = 170;
    options.dqk = options.dv = 32;
    options.lse = options.normaliser == Normaliser::softmax;
    add(name, narrow(options));
  }
  // Layouts.
  const auto laid = [&](std::string name, Arrangement arrangement) {
    add(std::move(name), narrow({.batch = 2,
                                 .sq = 133,
                                 .sk = 140,
                                 .dqk = 64,
                                 .dv = 64,
                                 .mask = Mask::causal,
                                 .arrangement = arrangement,
                                 .lse = true}));
  };
  laid("bshd", Arrangement::bshd);
  laid("merged", Arrangement::merged);
  return all;
}

/// A launch says so, and the program runs its next choice.
TEST(Sm90Prefill, RowsThatAreNoMultipleOf16BytesHaveNoTensorMap) {
  AttentionCase test =
      make_rounding_case(narrow({.sq = 20, .sk = 20, .dqk = 64, .dv = 64, .arrangement = Arrangement::packed}));
  const TileProgram program = build_tile_program(test.spec);
  const CudaOffer offer = offer_of(CudaTemplate::sm90_prefill, program, kSm90);
  const auto* hopper = std::get_if<CudaPlan::Choice>(&offer);
  ASSERT_TRUE(hopper);
  EXPECT_TRUE(hopper->needs_tensor_maps);
  EXPECT_FALSE(plan_cuda(program, kSm90).choices.back().needs_tensor_maps);
  const auto source = generate_cuda(program, sm90_schedule(32), kSm90, "k");
  ASSERT_TRUE(source) << to_string(source.error());
  const auto maps = tensor_maps(source->launch.phases[0], views_of(test.tensors));
  const std::string refused = maps ? "" : to_string(maps.error());
  EXPECT_NE(refused.find("16"), std::string::npos) << refused;
}

INSTANTIATE_TEST_SUITE_P(Cases, Sm90PrefillCase, ::testing::ValuesIn(sm90_runs()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace tilewright::testing
