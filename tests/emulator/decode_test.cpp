// The GPU decode template on the emulator against a plain evaluation of the spec.
#include <gtest/gtest.h>

#include "compiler/plan_cuda_decode.h"
#include "tests/emulator/spec_launch.h"

namespace tilewright::testing {
namespace {

CudaSchedule decode_schedule(int64_t block_kv = 16, int64_t warps = 2, int64_t stages = 2, int64_t split_kv = 64) {
  CudaSchedule s;
  s.kernel = CudaTemplate::decode;
  s.block_q = kCudaDecodeRows;
  s.pack_gqa = 1;
  s.block_kv = block_kv;
  s.warps = warps;
  s.stages = stages;
  s.split_kv = split_kv;
  return s;
}

class CudaDecode : public ::testing::TestWithParam<SpecRun> {};

TEST_P(CudaDecode, AgreesWithTheSpec) { check_spec_run(GetParam(), legal_executions()); }

std::vector<SpecRun> decode_runs() {
  std::vector<SpecRun> all;
  const auto add = [&](std::string name, CaseOptions options, CudaSchedule tiles = decode_schedule()) {
    all.push_back({std::move(name), std::move(options), std::move(tiles)});
  };
  const auto f16 = [](CaseOptions options) { return narrow(options, DType::f16); };
  add("one_query", narrow({.heads = 8, .group = 4, .sq = 1, .sk = 300, .dqk = 64, .dv = 64, .lse = true}));
  add("one_split", narrow({.heads = 8, .group = 4, .sq = 1, .sk = 60, .dqk = 64, .dv = 64, .lse = true}));
  add("f16", f16({.heads = 6, .group = 3, .sq = 1, .sk = 150, .dqk = 64, .dv = 64}));
  add("several_queries",
      narrow({.heads = 4, .group = 4, .sq = 3, .sk = 200, .dqk = 64, .dv = 64, .mask = Mask::causal, .lse = true}));
  add("two_row_tiles",
      narrow({.heads = 6, .group = 6, .sq = 5, .sk = 130, .dqk = 32, .dv = 32, .mask = Mask::causal, .lse = true}));
  add("group_of_20", narrow({.heads = 20, .group = 20, .sq = 1, .sk = 100, .dqk = 32, .dv = 32, .lse = true}));
  add("no_group", narrow({.batch = 2, .heads = 3, .sq = 2, .sk = 100, .dqk = 32, .dv = 32, .lse = true}));
  for (const int64_t dim : {8, 24, 31, 80, 128, 256})
    add(fmt::format("d{}", dim),
        narrow({.heads = 2, .group = 2, .sq = 1, .sk = 90, .dqk = dim, .dv = dim, .lse = true}));
  add("d192_128", narrow({.heads = 2, .group = 2, .sq = 1, .sk = 90, .dqk = 192, .dv = 128}));
  add("three_stages", narrow({.heads = 2, .group = 2, .sq = 1, .sk = 700, .dqk = 32, .dv = 32}),
      decode_schedule(32, 2, 3, 256));
  add("four_warps", narrow({.heads = 2, .group = 2, .sq = 1, .sk = 700, .dqk = 64, .dv = 64}),
      decode_schedule(16, 4, 4, 256));
  add("many_splits", narrow({.heads = 1, .sq = 1, .sk = 1300, .dqk = 16, .dv = 16, .lse = true}),
      decode_schedule(16, 2, 2, 32));
  add("one_key", narrow({.heads = 2, .group = 2, .sq = 1, .sk = 1, .dqk = 64, .dv = 64, .lse = true}));
  add("no_keys", narrow({.heads = 2, .group = 2, .sq = 2, .sk = 0, .dqk = 64, .dv = 64, .lse = true}));
  add("no_queries", narrow({.heads = 2, .group = 2, .sq = 0, .sk = 9, .dqk = 64, .dv = 64, .lse = true}));
  for (auto [name, options] : expression_cases()) {
    options.heads = 6;
    options.group = 3;
    options.sq = 2;
    options.sk = 230;
    options.dqk = options.dv = 32;
    options.lse = options.normaliser == Normaliser::softmax;
    add(name, narrow(options));
  }
  const auto laid = [&](std::string name, Arrangement arrangement, Layout layout) {
    add(std::move(name), narrow({.batch = 2,
                                 .heads = 4,
                                 .group = 2,
                                 .sq = 2,
                                 .sk = 130,
                                 .dqk = 24,
                                 .dv = 40,
                                 .mask = Mask::causal,
                                 .arrangement = arrangement,
                                 .layout = layout,
                                 .lse = true}));
  };
  laid("bshd", Arrangement::bshd, Layout::contiguous);
  laid("packed", Arrangement::packed, Layout::contiguous);
  laid("gapped", Arrangement::bhsd, Layout::gapped);
  laid("reversed", Arrangement::bhsd, Layout::reversed);
  return all;
}

INSTANTIATE_TEST_SUITE_P(Cases, CudaDecode, ::testing::ValuesIn(decode_runs()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace tilewright::testing
