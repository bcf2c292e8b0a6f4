// R20 of the field's bug list: the autotuner corrupts or mixes outputs, one candidate's result hides another's bug.
// Faults are planted where candidates run; each must be found, named and never chosen.
#include <gtest/gtest.h>

#include <cstring>

#include "tests/tuner/tuner_support.h"

namespace tilewright::testing {
namespace {

using Fate = TunedCandidate::Fate;

/// What goes wrong, given the run that would be right. `seen` counts this candidate's runs, from 1.
struct Faulty {
  std::span<const TensorView> inputs, outputs;
  const RunOptions& options;
  int seen;
  std::function<Result<Done>()> run;
};
using Fault = std::function<Result<Done>(const Faulty&)>;

float* values(const TensorView& view) { return static_cast<float*>(view.data); }

/// Tunes with the fault in every candidate but the rules' whose block_q is one of two that occur.
TunedStep tune_with(const Fault& fault, int& planted) {
  const Engine engine = tuning_engine("off");
  TuneOptions options = quick(10);
  options.budget_seconds = 60;  // an end, not a length: whoever is planted is judged on a slow machine, too
  std::map<std::string, int> seen;
  std::string rules;
  planted = 0;
  options.run = [&](const Kernel& kernel, const CpuSchedule& schedule, std::span<const TensorView> inputs,
                    std::span<const TensorView> outputs, const RunOptions& run_options) -> Result<Done> {
    const std::string name = print(schedule);
    if (rules.empty()) rules = name;  // who is judged first
    const auto right = [&] { return kernel.run(inputs, outputs, run_options); };
    if (name == rules || seen.size() > 4 || (seen.size() == 4 && !seen.contains(name))) return right();
    const int times = ++seen[name];
    planted = static_cast<int>(seen.size());
    return fault({inputs, outputs, run_options, times, right});
  };
  auto result = engine.tune(small_attention(), kSmall, options);
  TW_CHECK(result.ok());
  TW_CHECK(result->steps.size() == 1);
  return std::move(result->steps[0]);
}

void expect_caught(const Fault& fault, const std::string& says, Fate fate = Fate::wrong) {
  int planted = 0;
  const TunedStep step = tune_with(fault, planted);
  ASSERT_GE(planted, 1);
  int caught = 0;
  for (const TunedCandidate& candidate : step.candidates) {
    if (candidate.fate != fate) continue;
    ++caught;
    EXPECT_NE(candidate.why.find(says), std::string::npos) << candidate.why;
  }
  EXPECT_EQ(caught, planted);
  EXPECT_NE(step.best().fate, Fate::wrong);
  EXPECT_NE(step.best().fate, Fate::failed);
  if (fate == Fate::wrong && says.find("after") == std::string::npos)
    for (const TunedCandidate& candidate : step.candidates)
      if (candidate.fate == Fate::wrong) {
        EXPECT_TRUE(candidate.warm.empty()) << "timed although wrong";
      }
}

TEST(R20, OneWrongElementIsCaught) {
  for (const size_t element : {size_t{0}, size_t{2 * 70 * 32 - 1}, size_t{1234}})
    expect_caught(
        [&](const Faulty& f) {
          auto done = f.run();
          values(f.outputs[0])[element] += 0.25f;
          return done;
        },
        "%o");
}

TEST(R20, OutputsThatNobodyWroteAreCaught) {
  // Whatever an earlier candidate left there would have been right.
  expect_caught(
      [](const Faulty& f) -> Result<Done> {
        if (f.options.step_seconds) f.options.step_seconds[0] = 1e-9;
        return Done{};
      },
      "nan");
}

TEST(R20, HalfOfTheOutputsLeftOutIsCaught) {
  expect_caught(
      [](const Faulty& f) {
        const size_t half = 70 * 32;
        std::vector<float> before(values(f.outputs[0]), values(f.outputs[0]) + half);
        auto done = f.run();
        std::memcpy(values(f.outputs[0]), before.data(), half * sizeof(float));
        return done;
      },
      "nan");
}

TEST(R20, AnothersResultIsCaught) {
  // Heads in each other's place: every number is one that the graph does compute.
  expect_caught(
      [](const Faulty& f) {
        auto done = f.run();
        float* o = values(f.outputs[0]);
        std::swap_ranges(o, o + 70 * 32, o + 70 * 32);
        return done;
      },
      "%o");
}

TEST(R20, WritingIntoAnOperandIsCaughtAndMended) {
  // Left there, it would make the reference wrong for all who come after.
  expect_caught(
      [](const Faulty& f) {
        auto done = f.run();
        values(f.inputs[2])[5] = 1e3f;
        return done;
      },
      "it wrote into its operand %v");
}

TEST(R20, RightWhenCheckedAndWrongWhenTimedIsCaught) {
  // And it is the fastest of all, since it does nothing.
  expect_caught(
      [](const Faulty& f) -> Result<Done> {
        if (f.seen == 1) return f.run();
        if (f.options.step_seconds) f.options.step_seconds[0] = 1e-9;
        return Done{};
      },
      "after it was timed");
}

TEST(R20, WhoFailsToRunIsNotChosen) {
  expect_caught([](const Faulty&) -> Result<Done> { return invalid("planted"); }, "planted");
}

TEST(R20, AWrongKernelOfTheRulesEndsTheSearch) {
  const Engine engine = tuning_engine("off");
  TuneOptions options = quick();
  options.run = [](const Kernel& kernel, const CpuSchedule&, std::span<const TensorView> inputs,
                   std::span<const TensorView> outputs, const RunOptions& run_options) {
    auto done = kernel.run(inputs, outputs, run_options);
    values(outputs[0])[7] += 1;
    return done;
  };
  const auto result = engine.tune(small_attention(), kSmall, options);
  ASSERT_FALSE(result);
  EXPECT_NE(to_string(result.error()).find("the kernel of the rules is wrong, so nothing is tuned"), std::string::npos)
      << to_string(result.error());
}

}  // namespace
}  // namespace tilewright::testing
