// The sm_90a prefill on the emulator against a plain evaluation of the spec.
#include "tests/emulator/sm90_case.h"

namespace tilewright::testing {
namespace {

struct TileCase {
  std::string name;
  CaseOptions options;
  CudaSchedule tiles;
  int64_t multiprocessors = 132;
  friend void PrintTo(const TileCase& test, std::ostream* out) { *out << test.name; }
};

class Sm90PrefillCase : public ::testing::TestWithParam<TileCase> {};

TEST_P(Sm90PrefillCase, AgreesWithTheSpec) {
  const auto& [name, case_options, tiles, multiprocessors] = GetParam();
  CudaTarget target = kSm90;
  target.multiprocessors = static_cast<int>(multiprocessors);
  AttentionCase test = sm90_case(case_options);
  const TileProgram program = build_tile_program(test.spec);
  const CudaPlan plan = plan_cuda(program, target);
  ASSERT_TRUE(sm90_choice(plan)) << (plan.refused.empty() ? "" : plan.refused[0].reason);
  const auto source = generate_cuda(program, tiles, target, "k");
  ASSERT_TRUE(source) << to_string(source.error());
  const auto module = EmulatedModule::build(*source);
  ASSERT_TRUE(module) << to_string(module.error());
  for (const EmulatorOptions& options : sm90_executions(2)) {
    SCOPED_TRACE(describe(options));
    for (size_t i = 0; i < test.tensors.size(); ++i)
      if (test.spec.tensors[i].output) test.tensors[i].poison();
    ASSERT_EQ(launch_spec(*module, source->launch, args_layout(test.spec), test.dims, test.tensors, options), "");
    check_case(test, case_options.dtype);
    if (HasFailure()) break;
  }
}

std::vector<TileCase> sm90_runs() {
  std::vector<TileCase> all;
  const auto add = [&](std::string name, CaseOptions options, CudaSchedule tiles = sm90_schedule(32),
                       int64_t multiprocessors = 132) {
    all.push_back({std::move(name), std::move(options), std::move(tiles), multiprocessors});
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
  const auto masked = [&](std::string name, CaseOptions options) {
    options.sq = 150;
    options.sk = 170;
    options.dqk = options.dv = 32;
    options.lse = options.normaliser == Normaliser::softmax;
    add(std::move(name), narrow(options));
  };
  masked("causal", {.mask = Mask::causal});
  masked("window", {.mask = Mask::window});
  masked("padding", {.batch = 2, .mask = Mask::padding});
  masked("causal_padding", {.batch = 2, .mask = Mask::causal_padding});
  masked("mask_tensor", {.mask = Mask::tensor});
  masked("everything_masked", {.mask = Mask::everything});
  masked("alibi", {.mask = Mask::causal, .score = Score::alibi});
  masked("softcap", {.mask = Mask::causal, .score = Score::softcap});
  masked("bias", {.score = Score::bias});
  masked("sink", {.mask = Mask::causal, .sink = true});
  masked("sink_everything_masked", {.mask = Mask::everything, .sink = true});
  masked("dropout", {.mask = Mask::causal, .dropout = true});
  masked("group", {.heads = 6, .group = 3, .mask = Mask::causal});
  masked("no_softmax", {.mask = Mask::causal, .normaliser = Normaliser::none});
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
  AttentionCase test = sm90_case(narrow({.sq = 20, .sk = 20, .dqk = 64, .dv = 64, .arrangement = Arrangement::packed}));
  const TileProgram program = build_tile_program(test.spec);
  const CudaPlan plan = plan_cuda(program, kSm90);
  const CudaPlan::Choice* hopper = sm90_choice(plan);
  ASSERT_TRUE(hopper);
  EXPECT_TRUE(hopper->needs_tensor_maps);
  EXPECT_FALSE(plan.choices.back().needs_tensor_maps);
  const auto source = generate_cuda(program, sm90_schedule(32), kSm90, "k");
  ASSERT_TRUE(source) << to_string(source.error());
  std::string refused;
  for (const TensorMapPlan& map : source->launch.phases[0].tensor_maps)
    if (auto encoded = encode(map, test.tensors[static_cast<size_t>(map.tensor)].view()); !encoded)
      refused = to_string(encoded.error());
  EXPECT_NE(refused.find(" of 16"), std::string::npos) << refused;
}

INSTANTIATE_TEST_SUITE_P(Cases, Sm90PrefillCase, ::testing::ValuesIn(sm90_runs()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace tilewright::testing
