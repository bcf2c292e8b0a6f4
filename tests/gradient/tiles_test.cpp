// Tile sizes that a caller wants of a backward pass: used, shown, within the accuracy rule; or refused with the bound.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "compiler/gradient.h"
#include "ir/text.h"
#include "tests/support/kernel_check.h"

namespace tilewright::testing {
namespace {

/// Causal, grouped heads, a bias that wants its gradient.
Graph backward(bool recompute = true) {
  const auto graph = parse_graph(R"(
    graph @causal(%q: f32[B,4,Sq,24], %k: f32[B,2,Sk,24], %v: f32[B,2,Sk,24], %bias: f32[4,Sq,Sk]) -> f32[B,4,Sq,24] {
      %kh = repeat_heads %k, times=2           : f32[B,4,Sk,24]
      %vh = repeat_heads %v, times=2           : f32[B,4,Sk,24]
      %s  = matmul_nt %q, %kh                  : f32[B,4,Sq,Sk]
      %a  = mul %s, 0.2                        : f32[B,4,Sq,Sk]
      %w  = add %a, %bias                      : f32[B,4,Sq,Sk]
      %e  = mask_causal %w, align=bottom_right : f32[B,4,Sq,Sk]
      %p  = softmax %e, axis=3                 : f32[B,4,Sq,Sk]
      %o  = matmul %p, %vh                     : f32[B,4,Sq,24]
      return %o
    })");
  EXPECT_TRUE(graph) << to_string(graph.error());
  const auto made = gradient(*graph, {{}, recompute});
  EXPECT_TRUE(made) << to_string(made.error());
  return made->backward;
}

TEST(BackwardTiles, AnySizesAreWithinTheAccuracyRule) {
  KernelCheck check(backward(), {{"B", 2}, {"Sq", 90}, {"Sk", 150}});
  for (const ScheduleOverride& tiles :
       {ScheduleOverride{}, ScheduleOverride{1, 1}, ScheduleOverride{0, 70}, ScheduleOverride{24, 0},
        ScheduleOverride{33, 128}, ScheduleOverride{100, 200}}) {
    SCOPED_TRACE(fmt::format("{}x{}", tiles.block_q, tiles.block_kv));
    check.tiles = tiles;
    check.run();
    if (HasFailure()) return;
  }
}

TEST(BackwardTiles, AreUsedAndShown) {
  const std::filesystem::path folder = std::filesystem::path(::testing::TempDir()) / "tilewright_backward_tiles";
  std::filesystem::remove_all(folder);
  for (const KernelVariant& variant : kernel_variants()) {
    SCOPED_TRACE(variant.text());
    CompileOptions options;
    options.force_generic = variant.force_generic;
    options.tiles = {96, 192};  // whole micro-kernel tiles on every ISA, and whole tiles
    const CpuTemplate wanted = variant.force_generic          ? CpuTemplate::generic
                               : variant.isa > CpuIsa::avx512 ? CpuTemplate::amx_backward
                                                              : CpuTemplate::backward;
    options.dump_dir = folder.string();
    options.use_cache = false;
    const auto kernel = engine_for(variant.isa).compile(backward(), options);
    ASSERT_TRUE(kernel) << to_string(kernel.error());
    bool used = false;
    for (const StepReport& step : kernel->stats().step_reports)
      for (const CpuSchedule& schedule : step.schedules)
        used |= schedule.kernel == wanted && schedule.block_q == 96 && schedule.block_kv == 192 &&
                schedule.chunk_kv % 192 == 0;
    EXPECT_TRUE(used);
    std::ostringstream text;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(kernel->dump_path()))
      if (entry.path().filename().string().find("schedule") != std::string::npos)
        text << std::ifstream(entry.path()).rdbuf();
    for (const char* part : {"block_q 96", "block_kv 192", "block_q 96 was asked for", "block_kv 192 was asked for"})
      EXPECT_NE(text.str().find(part), std::string::npos) << part << " in\n" << text.str();
  }
  std::filesystem::remove_all(folder);
}

TEST(BackwardTiles, IllegalSizesNameTheBound) {
  for (const KernelVariant& variant : kernel_variants()) {
    SCOPED_TRACE(variant.text());
    const auto message = [&](const ScheduleOverride& tiles) {
      CompileOptions options;
      options.force_generic = variant.force_generic;
      options.tiles = tiles;
      const auto kernel = engine_for(variant.isa).compile(backward(false), options);
      return kernel ? "" : to_string(kernel.error());
    };
    EXPECT_EQ(message({-1, 0}), "block_q is -1; a tile has 1 to 1048576 rows, 0 leaves it to the rules");
    EXPECT_EQ(message({0, 1 << 21}), "block_kv is 2097152; a tile has 1 to 1048576 rows, 0 leaves it to the rules");
    const std::string large = message({4096, 1 << 20});
    for (const char* part : {"block_q 409", "block_kv 10485", " KB for a chunk of ", " KB L2"})
      EXPECT_NE(large.find(part), std::string::npos) << part << " in " << large;
  }
}

}  // namespace
}  // namespace tilewright::testing
