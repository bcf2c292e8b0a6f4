// Tiles that the operating system refuses: kernels that would take them run without, and say why. A machine without
// AMX is refused them too, whatever target a compile is for.
#include <gtest/gtest.h>

#include "ir/text.h"
#include "runtime/compile.h"
#include "runtime/cpu_detect.h"
#include "runtime/dump.h"
#include "runtime/host_tiles.h"

namespace tilewright {
namespace {

Graph attention(const std::string& dtype) {
  std::string text = R"(
    graph @attention(%q: bf16[B,4,256,64], %k: bf16[B,4,S,64], %v: bf16[B,4,S,64]) -> bf16[B,4,256,64] {
      %s = matmul_nt %q, %k   : f32[B,4,256,S]
      %a = mul %s, 0.125      : f32[B,4,256,S]
      %p = softmax %a, axis=3 : f32[B,4,256,S]
      %c = cast %p            : bf16[B,4,256,S]
      %o = matmul %c, %v      : bf16[B,4,256,64]
      return %o
    })";
  for (const std::string& from : {std::string("bf16"), std::string("f32")})
    for (size_t at = text.find(from); dtype == "f64" && at != std::string::npos; at = text.find(from))
      text.replace(at, from.size(), dtype);
  auto graph = parse_graph(text);
  EXPECT_TRUE(graph) << to_string(graph.error());
  return *graph;
}

struct Outcome {
  CpuTemplate kernel;
  std::string manifest, schedules;
};

/// Of a compile for a CPU with AMX.
Outcome compile_for_amx(const Graph& graph, bool link) {
  CompileRequest request;
  request.target = detect_cpu();
  request.target.isa = CpuIsa::amx;
  request.want_texts = true;
  request.link = link;
  auto front = compile_front(graph);
  EXPECT_TRUE(front) << to_string(front.error());
  const auto compilation = compile_back(graph, std::move(*front), request);
  EXPECT_TRUE(compilation) << to_string(compilation.error());
  Outcome outcome{compilation->compiled->stats.step_reports[0].schedules.back().kernel,
                  manifest(*compilation->compiled, request.target),
                  {}};
  int schedules = 0, emitted = 0;
  for (const StageText& text : compilation->texts) {
    if (text.file.starts_with("04_")) outcome.schedules += text.text, ++schedules;
    if (text.file.starts_with("05_")) ++emitted;
  }
  EXPECT_EQ(schedules, 1);
  EXPECT_EQ(emitted, 1);
  return outcome;
}

constexpr const char* kSentence = "the operating system refuses this process tiles";

TEST(TilePermission, WhereItIsRefusedKernelsRunWithoutAndSayWhy) {
  if (request_tile_permission()) GTEST_SKIP() << "this machine grants tiles";
  const Outcome here = compile_for_amx(attention("bf16"), true);
  EXPECT_EQ(here.kernel, CpuTemplate::prefill);
  for (const std::string& text : {here.manifest, here.schedules}) {
    EXPECT_NE(text.find(kSentence), std::string::npos) << text;
    EXPECT_NE(text.find("amx_prefill"), std::string::npos) << text;
  }
}

// Code that runs elsewhere asks nobody, and what takes no tiles has nothing to say.
TEST(TilePermission, OnlyKernelsWithTilesThatRunHereNeedIt) {
  const Outcome elsewhere = compile_for_amx(attention("bf16"), false);
  EXPECT_EQ(elsewhere.kernel, CpuTemplate::amx_prefill);
  const Outcome without = compile_for_amx(attention("f64"), true);
  EXPECT_EQ(without.kernel, CpuTemplate::prefill);
  for (const Outcome& outcome : {elsewhere, without})
    EXPECT_EQ((outcome.manifest + outcome.schedules).find(kSentence), std::string::npos);
}

}  // namespace
}  // namespace tilewright
