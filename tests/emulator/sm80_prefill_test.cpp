// The sm_80 prefill on the emulator against a plain evaluation of the spec.
#include <gtest/gtest.h>

#include "tests/emulator/spec_launch.h"

namespace tilewright::testing {
namespace {

CudaSchedule sm80_schedule(int64_t block_q, int64_t block_kv, int64_t warps, int64_t stages = 2) {
  CudaSchedule s;
  s.kernel = CudaTemplate::sm80_prefill;
  s.block_q = block_q;
  s.block_kv = block_kv;
  s.warps = warps;
  s.stages = stages;
  return s;
}

class Sm80Prefill : public ::testing::TestWithParam<SpecRun> {};

TEST_P(Sm80Prefill, AgreesWithTheSpec) { check_spec_run(GetParam(), legal_executions()); }

std::vector<SpecRun> sm80_runs() {
  std::vector<SpecRun> all;
  const auto add = [&](std::string name, CaseOptions options, CudaSchedule tiles = sm80_schedule(32, 32, 2)) {
    all.push_back({std::move(name), std::move(options), std::move(tiles)});
  };
  // Fragments, rows and dims that end inside a tile.
  add("plain", narrow({.sq = 40, .sk = 70, .dqk = 64, .dv = 64, .lse = true}));
  add("f16", narrow({.sq = 33, .sk = 50, .dqk = 64, .dv = 64}, DType::f16));
  add("f32_output", [] {
    CaseOptions options = narrow({.sq = 33, .sk = 50, .dqk = 64, .dv = 48});
    options.output = DType::f32;
    return options;
  }());
  for (const int64_t dim : {8, 16, 24, 32, 48, 72, 80, 96, 128, 192, 256})
    add(fmt::format("d{}", dim), narrow({.heads = 1, .sq = 35, .sk = 37, .dqk = dim, .dv = dim, .lse = true}));
  add("odd_d31", narrow({.sq = 20, .sk = 40, .dqk = 31, .dv = 31}));
  add("d192_128", narrow({.heads = 1, .sq = 20, .sk = 40, .dqk = 192, .dv = 128, .mask = Mask::causal}));
  add("d40_96", narrow({.heads = 1, .sq = 20, .sk = 40, .dqk = 40, .dv = 96}));
  // Tiles: bands, warps, stages.
  add("two_bands", narrow({.heads = 1, .sq = 100, .sk = 130, .dqk = 64, .dv = 64, .mask = Mask::causal, .lse = true}),
      sm80_schedule(64, 48, 2));
  add("three_stages", narrow({.heads = 1, .sq = 40, .sk = 150, .dqk = 64, .dv = 64, .mask = Mask::causal}),
      sm80_schedule(32, 16, 2, 3));
  add("eight_warps", narrow({.heads = 1, .sq = 150, .sk = 140, .dqk = 64, .dv = 64, .mask = Mask::causal, .lse = true}),
      sm80_schedule(128, 64, 8));
  add("long", narrow({.heads = 1, .sq = 33, .sk = 300, .dqk = 32, .dv = 32}), sm80_schedule(32, 16, 2));
  // Sequences that are empty or short.
  add("one_query", narrow({.batch = 2, .sq = 1, .sk = 70, .dqk = 64, .dv = 64, .lse = true}));
  add("one_key", narrow({.batch = 2, .sq = 5, .sk = 1, .dqk = 64, .dv = 64, .lse = true}));
  add("no_keys", narrow({.batch = 2, .sq = 5, .sk = 0, .dqk = 64, .dv = 64, .lse = true}));
  add("no_queries", narrow({.batch = 2, .sq = 0, .sk = 5, .dqk = 64, .dv = 64, .lse = true}));
  add("more_queries", narrow({.sq = 80, .sk = 20, .dqk = 64, .dv = 64, .mask = Mask::causal, .lse = true}));
  // Masks and scores.
  for (auto [name, options] : expression_cases()) {
    options.sq = 60;
    options.sk = 90;
    options.dqk = options.dv = 32;
    options.lse = options.normaliser == Normaliser::softmax;
    add(name, narrow(options), sm80_schedule(32, 16, 2));
  }
  // Layouts.
  const auto laid = [&](std::string name, Arrangement arrangement, Layout layout) {
    add(std::move(name),
        narrow({.batch = 2,
                .sq = 33,
                .sk = 40,
                .dqk = 24,
                .dv = 40,
                .mask = Mask::causal,
                .arrangement = arrangement,
                .layout = layout,
                .lse = true}),
        sm80_schedule(32, 16, 2));
  };
  laid("bshd", Arrangement::bshd, Layout::contiguous);
  laid("merged", Arrangement::merged, Layout::contiguous);
  laid("packed", Arrangement::packed, Layout::contiguous);
  laid("permuted", Arrangement::bhsd, Layout::permuted);
  laid("gapped", Arrangement::bhsd, Layout::gapped);
  laid("reversed", Arrangement::bhsd, Layout::reversed);
  return all;
}

INSTANTIATE_TEST_SUITE_P(Cases, Sm80Prefill, ::testing::ValuesIn(sm80_runs()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace tilewright::testing
