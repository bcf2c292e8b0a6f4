// Small graphs for tuning, and engines that keep what they find in a folder of their own.
#pragma once

#include <string>

#include "ir/text.h"
#include "runtime/engine.h"
#include "runtime/tuner.h"
#include "tests/support/temporary_folder.h"

namespace tilewright::testing {

/// Causal attention of two heads of 32, f32.
inline Graph small_attention() {
  auto graph =
      parse_graph(R"(graph @small(%q: f32[B,2,Sq,32], %k: f32[B,2,Sk,32], %v: f32[B,2,Sk,32]) -> f32[B,2,Sq,32] {
      %s = matmul_nt %q, %k                   : f32[B,2,Sq,Sk]
      %e = mask_causal %s, align=bottom_right : f32[B,2,Sq,Sk]
      %p = softmax %e, axis=3                 : f32[B,2,Sq,Sk]
      %o = matmul %p, %v                      : f32[B,2,Sq,32]
      return %o
    })");
  TW_CHECK(graph.ok());
  return std::move(*graph);
}

inline Graph small_product() {
  auto graph = parse_graph(R"(graph @product(%a: f32[M,64], %b: f32[64,96]) -> f32[M,96] {
      %c = matmul %a, %b : f32[M,96]
      return %c
    })");
  TW_CHECK(graph.ok());
  return std::move(*graph);
}

inline Engine tuning_engine(const std::string& database) {
  EngineOptions options;
  options.threads = 1;
  options.max_isa = CpuIsa::avx512;  // the tests count on FMA's schedules, of which there are many
  options.cache_dir = "";
  options.tuning = database;
  auto engine = Engine::create(options);
  TW_CHECK(engine.ok());
  return std::move(*engine);
}

inline TuneOptions quick(int candidates = 6) {
  TuneOptions options;
  options.budget_seconds = 4;
  options.candidates = candidates;
  options.twins = false;
  return options;
}

inline const DimBindings kSmall = {{"B", 1}, {"Sq", 70}, {"Sk", 90}};

/// The reasons of every schedule of the kernel, one text.
inline std::string reasons(const Kernel& kernel) {
  std::string text;
  for (const StepReport& step : kernel.stats().step_reports)
    for (const CpuSchedule& schedule : step.schedules)
      for (const std::string& reason : schedule.reasons) text += reason + "\n";
  return text;
}

}  // namespace tilewright::testing
