// Races on a part of a shape: what a slice runs, and that the whole has the last word.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "runtime/host_tensor.h"
#include "tests/tuner/tuner_support.h"

namespace tilewright::testing {
namespace {

TEST(WorkSlice, RunsTheFirstHeadsAndTouchesNoOther) {
  const Engine engine = tuning_engine("off");
  for (const auto& [length, generic, kernel] : {std::tuple<int64_t, bool, CpuTemplate>{70, false, CpuTemplate::prefill},
                                                {1, false, CpuTemplate::decode},
                                                {70, true, CpuTemplate::generic}}) {
    SCOPED_TRACE(to_string(kernel));
    CompileOptions options;
    options.force_generic = generic;
    const auto compiled = engine.compile(small_attention(), options);
    ASSERT_TRUE(compiled) << to_string(compiled.error());
    const DimBindings dims{{"B", 2}, {"Sq", length}, {"Sk", 300}};
    const size_t choice = (*compiled->choices(dims))[0];
    EXPECT_EQ(compiled->stats().step_reports[0].schedules[choice].kernel, kernel);
    const auto inputs = make_inputs(compiled->graph(), dims, 5, *engine.executor());
    const auto whole = make_outputs(*compiled, dims), part = make_outputs(*compiled, dims);
    ASSERT_TRUE(inputs && whole && part);
    ASSERT_TRUE(compiled->run(views(*inputs), views(*whole)));
    auto* out = static_cast<float*>((*part)[0].view.data);
    const auto* expected = static_cast<const float*>((*whole)[0].view.data);
    const auto head = static_cast<size_t>(length * 32);
    std::memset(out, 0xff, 4 * head * sizeof(float));
    RunOptions run;
    run.slice = {0, 3, 4};  // of two heads in each of two batches
    ASSERT_TRUE(compiled->run(views(*inputs), views(*part), run));
    EXPECT_EQ(std::memcmp(out, expected, 3 * head * sizeof(float)), 0);
    for (size_t i = 3 * head; i < 4 * head; ++i) ASSERT_TRUE(std::isnan(out[i])) << i;
    for (const WorkSlice& none : {WorkSlice{0, 0, 4}, {0, 5, 4}, {0, 1, 0}, {0, -1, INT64_MAX}}) {
      run.slice = none;
      EXPECT_FALSE(compiled->run(views(*inputs), views(*part), run));
    }
  }
}

/// Causal attention of 64 heads of 32, at length 4400: nine runs of each of three candidates are by no means half of
/// forty seconds' work, so a race takes some heads.
Graph many_heads() {
  auto graph = parse_graph(R"(graph @many(%q: f32[64,S,32], %k: f32[64,S,32], %v: f32[64,S,32]) -> f32[64,S,32] {
      %s = matmul_nt %q, %k                   : f32[64,S,S]
      %e = mask_causal %s, align=bottom_right : f32[64,S,S]
      %p = softmax %e, axis=2                 : f32[64,S,S]
      %o = matmul %p, %v                      : f32[64,S,32]
      return %o
    })");
  TW_CHECK(graph.ok());
  return std::move(*graph);
}

TEST(RacePart, TheWholeHasTheLastWord) {
  // Results are those of one run at each length, and times are made up: of two candidates, one is fastest on some heads
  // and slower than the rules' kernel on all of them, the other is second there and wins here.
  struct Times {
    double part, whole;
  };
  constexpr Times kTimes[] = {{0.5e-3, 1.2e-3}, {0.6e-3, 0.8e-3}, {1e-3, 1e-3}};
  const Engine engine = tuning_engine("off");
  TuneOptions options = quick(3);
  options.budget_seconds = 40;
  std::string rules;
  std::vector<std::string> names;
  std::map<int64_t, std::vector<float>> results;
  options.run = [&](const Kernel& kernel, const CpuSchedule& schedule, std::span<const TensorView> inputs,
                    std::span<const TensorView> outputs, const RunOptions& run) -> Result<Done> {
    const std::string name = print(schedule);
    if (rules.empty()) rules = name;
    if (name != rules && std::ranges::find(names, name) == names.end()) names.push_back(name);
    if (run.step_seconds) {
      const Times& times = kTimes[name == rules ? 2 : std::ranges::find(names, name) - names.begin()];
      run.step_seconds[0] = run.slice.all() ? times.whole : times.part;
      return Done{};
    }
    auto* out = static_cast<float*>(outputs[0].data);
    const auto count = static_cast<size_t>(outputs[0].element_count());
    std::vector<float>& known = results[outputs[0].shape[1]];
    if (known.empty()) {
      RunOptions all = run;
      all.slice = {};
      if (auto done = kernel.run(inputs, outputs, all); !done) return done;
      known.assign(out, out + count);
    }
    const size_t part = count / static_cast<size_t>(run.slice.whole) * static_cast<size_t>(run.slice.part);
    std::fill(std::copy_n(known.begin(), part, out), out + count, NAN);
    return Done{};
  };
  const auto result = engine.tune(many_heads(), {{"S", 4400}}, options);
  ASSERT_TRUE(result) << to_string(result.error());
  const TunedStep& step = result->steps[0];
  EXPECT_LT(step.slice.part, step.slice.whole);
  EXPECT_EQ(step.slice.whole, 64);
  EXPECT_EQ(step.measured_at, step.dims) << "heads go before lengths";
  ASSERT_EQ(names.size(), 2u);
  EXPECT_EQ(print(step.best().schedule), names[1]);
  EXPECT_NEAR(step.speedup(), 1 / 0.8, 1e-6);
  ASSERT_EQ(step.best().schedule.reasons.size(), 1u);
  EXPECT_NE(step.best().schedule.reasons[0].find(": 1.25 times the rules' speed"), std::string::npos)
      << step.best().schedule.reasons[0];
  for (const TunedCandidate& each : step.candidates)
    if (print(each.schedule) == names[0]) {
      EXPECT_EQ(each.fate, TunedCandidate::Fate::dropped);
      EXPECT_EQ(each.why, "on the whole shape it takes 1.500 times as long as the chosen one");
    }
}

}  // namespace
}  // namespace tilewright::testing
