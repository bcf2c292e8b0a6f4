// Random attention graphs forward and backward through kernels: backward reads what a kernel of the forward saved.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <map>
#include <mutex>

#include "compiler/gradient.h"
#include "ir/accuracy.h"
#include "ir/text.h"
#include "tests/support/conditioning.h"
#include "tests/support/random_graph.h"
#include "tests/support/random_run.h"

namespace tilewright::testing {
namespace {

constexpr uint64_t kBackwardCases = 510;
constexpr double kBackwardFusedShare = 0.9;
// Of the cases; every case runs fast, and generic where there is such a way, on one ISA of three. Fast templates refuse
// some.
constexpr double kFastShare = 0.2;
constexpr double kConditioningShare = 0.03;        ///< most cases that semantics 19 alone does not accept
constexpr int64_t kMostMultiplications = 400'000;  ///< of a forward pass

struct BackwardTally {
  std::mutex lock;
  std::map<std::string, std::pair<int, int>> spellings;  ///< seen, fused
  std::map<std::string, int> templates;                  ///< cases in which it ran a backward step
  int cases = 0, fused = 0, captured = 0;
  int attended_nan = 0;             ///< cases whose forward pass gives NaN
  int by_conditioning[2] = {0, 0};  ///< cases beyond semantics 19, of fast and of generic kernels
};

/// The first graph of the seed's own thousand that is cheap enough to interpret.
RandomCase draw(uint64_t seed) {
  for (uint64_t attempt = seed * 1000;; ++attempt) {
    RandomCase drawn = random_attention(attempt);
    if (multiplications(drawn) <= kMostMultiplications) return drawn;
  }
}

std::vector<std::string> judged(const std::string& what, const Graph& graph, OutputJudge& judge,
                                std::span<const TestTensor> outputs) {
  const auto reports = judge.judge(views_of(outputs));
  if (!reports) return {what + ": " + to_string(reports.error())};
  std::vector<std::string> failures;
  for (const AccuracyReport& report : *reports)
    if (!report.pass) failures.push_back(fmt::format("{} of @{}: {}", what, graph.name, report.failure));
  return failures;
}

/// Semantics 19, and where that has no yardstick for a gradient, how far roundings on the way move the oracle.
std::vector<std::string> judged_gradients(const std::string& what, const Graph& graph, const DimBindings& dims,
                                          const std::vector<TestTensor>& inputs, OutputJudge& judge,
                                          const std::vector<TestTensor>& found, bool& by_conditioning) {
  const auto reports = judge.judge(views_of(found));
  if (!reports) return {what + ": " + to_string(reports.error())};
  std::vector<std::string> failures;
  for (size_t r = 0; r < found.size(); ++r) {
    const AccuracyReport& report = reports->at(r);
    if (report.pass) continue;
    by_conditioning = true;
    if (const std::string wrong = judge_by_conditioning(graph, dims, inputs, r, found[r]); !wrong.empty())
      failures.push_back(fmt::format("{}: {}; %{}: {}", what, report.failure, report.result, wrong));
  }
  return failures;
}

std::vector<std::string> run_backward(uint64_t seed, const std::vector<Way>& all, BackwardTally& tally) {
  const RandomCase drawn = draw(seed);
  std::mt19937_64 random(seed);
  const auto made = gradient(drawn.graph, {differentiable_params(drawn.graph), random() % 2 == 0});
  if (!made) return {to_string(made.error())};

  const std::vector<TestTensor> inputs = draw_inputs(drawn, random);
  auto forward_judge = OutputJudge::create(made->forward, drawn.dims, views_of(inputs));
  if (!forward_judge) return {to_string(forward_judge.error())};
  const Way& forward_way = all[random() % all.size()];
  const auto forward = forward_way.engine.compile(made->forward, forward_way.options);
  if (!forward) return {forward_way.name + ", forward: " + to_string(forward.error())};
  const auto written = run_on_poison(*forward, drawn.dims, inputs, random);
  if (!written) return {forward_way.name + ", forward: " + to_string(written.error())};
  const std::vector<TestTensor>& outputs = written->outputs;
  std::vector<std::string> failures = judged(forward_way.name, made->forward, *forward_judge, outputs);

  // An attended NaN makes the LSE of its row NaN. The graph then has exp(s - LSE), NaN, at the row's hidden keys too,
  // where a fused kernel has 0 (semantics 4).
  for (const TestTensor& output : outputs)
    for (int64_t i = 0; i < output.size(); ++i)
      if (std::isnan(output.get(i))) {
        const std::lock_guard guard(tally.lock);
        ++tally.attended_nan;
        return failures;
      }

  std::map<std::string, TestTensor> named;
  for (size_t i = 0; i < inputs.size(); ++i) named[made->forward[made->forward.params[i]].name] = inputs[i];
  for (size_t i = 0; i < outputs.size(); ++i) named[made->forward[made->forward.results[i]].name] = outputs[i];
  std::vector<TestTensor> backward_inputs;
  for (ValueId id : made->backward.params) {
    const Node& node = made->backward[id];
    const auto found = named.find(node.name);
    if (found != named.end()) {
      backward_inputs.push_back(found->second);
      continue;
    }
    backward_inputs.emplace_back(node.type.dtype, concrete_shape(node.type, drawn.dims), random_layout(random), random);
    fill(backward_inputs.back(), {}, random);
  }
  auto judge = OutputJudge::create(made->backward, drawn.dims, views_of(backward_inputs));
  if (!judge) return {to_string(judge.error())};
  std::vector<Way> ways;  // the fast one of some ISA, and its generic one
  for (const Way& way : all)
    if (!way.options.force_generic) ways.push_back(way);
  const CpuIsa isa = ways[random() % ways.size()].isa();
  ways = all;
  std::erase_if(ways, [&](const Way& way) { return way.isa() != isa; });
  ScheduleOverride tiles;  // small ones in half of the cases, so that short sequences meet every kind of block
  if (random() % 2) tiles = {1 + static_cast<int64_t>(random() % 40), 1 + static_cast<int64_t>(random() % 80)};
  for (const Way& way : ways) {
    CompileOptions options = way.options;
    options.tiles = tiles;
    const auto backward = way.engine.compile(made->backward, options);
    if (!backward) {
      failures.push_back(way.name + ", backward: " + to_string(backward.error()));
      continue;
    }
    const auto gradients = run_on_poison(*backward, drawn.dims, backward_inputs, random);
    if (!gradients) {
      failures.push_back(way.name + ", backward: " + to_string(gradients.error()));
      continue;
    }
    bool by_conditioning = false;
    for (std::string& failure : judged_gradients(way.name, made->backward, drawn.dims, backward_inputs, *judge,
                                                 gradients->outputs, by_conditioning))
      failures.push_back(std::move(failure));

    const bool fused = backward->stats().fused_backwards == 1 && backward->stats().not_fused.empty();
    const std::lock_guard guard(tally.lock);
    tally.by_conditioning[way.options.force_generic] += by_conditioning;
    for (const Step& step : backward->program().steps)
      if (const auto* found = std::get_if<BackwardStep>(&step.what); found && !way.options.force_generic)
        tally.captured += !found->spec.captured.empty();
    for (const StepReport& step : backward->stats().step_reports)
      if (step.fused && !step.schedules.empty())
        ++tally.templates[fmt::format("{} {}", to_string(way.isa()), to_string(step.schedules.front().kernel))];
    if (way.options.force_generic) continue;
    ++tally.cases;
    tally.fused += fused;
    for (const std::string& spelling : drawn.spellings) {
      ++tally.spellings[spelling].first;
      tally.spellings[spelling].second += fused;
    }
  }
  return failures;
}

TEST(RandomGraphs, BackwardInterpreterGenericAndFastAgree) {
  const std::vector<Way> all = all_ways();
  ASSERT_FALSE(all.empty());
  const SeedRange seeds = seed_range(kBackwardCases);
  BackwardTally tally;
  check_seeds(
      seeds, [&](uint64_t seed) { return run_backward(seed, all, tally); },
      [](uint64_t seed) {
        const RandomCase drawn = draw(seed);
        const auto made = gradient(drawn.graph, {differentiable_params(drawn.graph), std::mt19937_64(seed)() % 2 == 0});
        return describe(drawn) + "\n" + (made ? print(made->backward) : "");
      });

  const double fused = static_cast<double>(tally.fused) / tally.cases;
  std::printf("%d random graphs forward and backward, backward fused in %.1f %%, with captured gradients in %.1f %%\n",
              tally.cases, 100 * fused, 100.0 * tally.captured / tally.cases);
  std::printf("  judged by conditioning: fast in %d, generic in %d\n", tally.by_conditioning[0],
              tally.by_conditioning[1]);
  if (seeds.full) {
    EXPECT_GE(tally.cases, 500);
    for (int cases : tally.by_conditioning) EXPECT_LE(cases, kConditioningShare * tally.cases);
    EXPECT_GE(fused, kBackwardFusedShare);
    EXPECT_GE(tally.captured, tally.cases / 5);
  }
  for (const auto& [name, count] : tally.templates)
    std::printf("  template %-16s in %5.1f %% of the cases\n", name.c_str(), 100.0 * count / tally.cases);
  for (const Way& way : all) {
    const auto count = [&](CpuTemplate kernel) {
      return tally.templates[fmt::format("{} {}", to_string(way.isa()), to_string(kernel))];
    };
    if (seeds.full) {
      EXPECT_GE(count(CpuTemplate::backward) + count(CpuTemplate::amx_backward), kFastShare * tally.cases)
          << to_string(way.isa());
    }
  }
  for (const auto& [spelling, count] : tally.spellings) {
    const double share = static_cast<double>(count.second) / count.first;
    std::printf("  %-40s %5d graphs, %5.1f %% fused\n", spelling.c_str(), count.first, 100 * share);
  }
}

}  // namespace
}  // namespace tilewright::testing
