// Interpreter = generic = fast, on random graphs: every spelling of attention, every ISA of this machine.
#include <gtest/gtest.h>

#include <cstdio>
#include <map>
#include <mutex>
#include <set>

#include "ir/accuracy.h"
#include "tests/support/random_graph.h"
#include "tests/support/random_run.h"

namespace tilewright::testing {
namespace {

constexpr uint64_t kCases = 2200;
constexpr double kFusedShare = 0.9;
constexpr int kTimesEach = 50;
// Of the cases, on each ISA. Generic runs where it is forced and where fast templates refuse.
constexpr std::pair<CpuTemplate, double> kTemplateShares[] = {
    {CpuTemplate::prefill, 0.2}, {CpuTemplate::decode, 0.2}, {CpuTemplate::generic, 0.25}};

struct Tally {
  std::mutex lock;
  std::map<std::string, std::pair<int, int>> spellings;          // seen, fused
  std::map<std::pair<CpuIsa, CpuTemplate>, uint64_t> templates;  // cases in which it ran a fused step
};

// One sentence per way that went wrong; empty when all agree with the oracle.
std::vector<std::string> run_case(const RandomCase& c, const std::vector<Way>& all, Tally& tally) {
  std::vector<std::string> failures;
  const auto fail = [&](const Way& way, const std::string& what) { failures.push_back(way.name + ": " + what); };
  std::mt19937_64 random(c.seed);

  const std::vector<TestTensor> inputs = draw_inputs(c, random);
  auto judge = OutputJudge::create(c.graph, c.dims, views_of(inputs));
  if (!judge) return {to_string(judge.error())};
  std::set<std::pair<CpuIsa, CpuTemplate>> ran;
  // Fast runs on every ISA, generic on one of them in two of three cases, the tier on one.
  for (size_t w = 0; w < all.size(); ++w) {
    if (all[w].options.force_generic && all.size() > 2 && (w / 2 + c.seed) % 3 != 0) continue;
    if (all[w].options.ahead_of_time && (w + c.seed) % 2 != 0) continue;
    auto kernel = all[w].engine.compile(c.graph, all[w].options);
    if (!kernel) {
      fail(all[w], to_string(kernel.error()));
      continue;
    }
    if (w == 0) {
      const bool fused = kernel->stats().not_fused.empty() && kernel->stats().fused_attentions == 1;
      const std::lock_guard guard(tally.lock);
      for (const std::string& spelling : c.spellings) {
        ++tally.spellings[spelling].first;
        tally.spellings[spelling].second += fused;
      }
    }
    const auto written = run_on_poison(*kernel, c.dims, inputs, random);
    if (!written) {
      fail(all[w], to_string(written.error()));
      continue;
    }
    for (const std::string& wrong : check_written_params(c.graph, c.dims, inputs, written->params)) fail(all[w], wrong);
    if (auto choices = kernel->choices(c.dims); choices)
      for (size_t i = 0; i < choices->size(); ++i)
        if (const StepReport& step = kernel->stats().step_reports[i]; step.fused)
          ran.emplace(all[w].isa(), step.schedules[choices->at(i)].kernel);
    auto reports = judge->judge(views_of(written->outputs));
    if (!reports) {
      fail(all[w], to_string(reports.error()));
      continue;
    }
    for (const AccuracyReport& report : *reports)
      if (!report.pass) fail(all[w], report.failure);
  }
  const std::lock_guard guard(tally.lock);
  for (const auto& which : ran) ++tally.templates[which];
  return failures;
}

TEST(RandomGraphs, InterpreterGenericAndFastAgree) {
  std::vector<Way> all = all_ways();
  for (Way& way : ahead_of_time_ways()) all.push_back(std::move(way));
  ASSERT_FALSE(all.empty());
  const SeedRange seeds = seed_range(kCases);
  const uint64_t cases = seeds.cases;
  Tally tally;
  check_seeds(
      seeds, [&](uint64_t seed) { return run_case(random_attention(seed), all, tally); },
      [](uint64_t seed) { return describe(random_attention(seed)); });

  std::printf("%lu random graphs;", static_cast<unsigned long>(cases));
  for (const Way& way : all) std::printf(" %s;", way.name.c_str());
  std::printf("\n");
  std::set<CpuIsa> isas;
  for (const Way& way : all) isas.insert(way.isa());
  for (CpuIsa isa : isas)
    for (auto [name, least] : kTemplateShares) {
      if (isa > CpuIsa::avx512 && name == CpuTemplate::generic) continue;  // not among the ways
      if (isa > CpuIsa::avx512 && name == CpuTemplate::prefill) name = CpuTemplate::amx_prefill;
      const double share = static_cast<double>(tally.templates[{isa, name}]) / static_cast<double>(cases);
      const std::string what = fmt::format("{} {}", to_string(isa), to_string(name));
      std::printf("  template %-16s in %5.1f %% of the cases\n", what.c_str(), 100 * share);
      if (seeds.full) {
        EXPECT_GE(share, least) << what;
      }
    }
  for (const auto& [spelling, count] : tally.spellings) {
    const double share = static_cast<double>(count.second) / count.first;
    std::printf("  %-40s %5d graphs, %5.1f %% fused\n", spelling.c_str(), count.first, 100 * share);
    if (!seeds.full) continue;
    EXPECT_GE(count.first, kTimesEach) << spelling;
    EXPECT_GE(share, kFusedShare) << spelling;
  }
}

}  // namespace
}  // namespace tilewright::testing
