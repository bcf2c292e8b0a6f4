// Interpreter = generic = fast, on random graphs: every spelling of attention, every ISA of this machine.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "ir/accuracy.h"
#include "ir/text.h"
#include "runtime/engine.h"
#include "tests/support/random_graph.h"

namespace tilewright::testing {
namespace {

constexpr uint64_t kCases = 2200;
constexpr uint64_t kFirstSeed = 1;

// Soaking and debugging: TILEWRIGHT_TEST_SEED=400 TILEWRIGHT_TEST_CASES=1. Shares are asserted on full runs only.
uint64_t from_environment(const char* name, uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value ? std::strtoull(value, nullptr, 10) : otherwise;
}
constexpr double kFusedShare = 0.9;
constexpr int kTimesEach = 50;
// Of the cases, on each ISA. Generic runs where it is forced and where fast templates refuse.
constexpr std::pair<CpuTemplate, double> kTemplateShares[] = {
    {CpuTemplate::prefill, 0.2}, {CpuTemplate::decode, 0.2}, {CpuTemplate::generic, 0.25}};

struct Way {
  std::string name;
  Engine engine;
  CompileOptions options;
};

std::vector<Way> ways() {
  std::vector<Way> list;
  for (CpuIsa isa : {CpuIsa::avx512, CpuIsa::avx2}) {
    auto engine = Engine::create({.threads = 1, .max_isa = isa});
    if (!engine || engine->target().isa != isa) continue;  // said at the end of the run
    for (bool generic : {false, true}) {
      CompileOptions options;
      options.force_generic = generic;
      options.verify_modules = true;
      options.use_cache = false;
      list.push_back({std::string(to_string(isa)) + (generic ? " generic" : " fast"), *engine, options});
    }
  }
  return list;
}

struct Tally {
  std::mutex lock;
  std::map<std::string, std::pair<int, int>> spellings;          // seen, fused
  std::map<std::pair<CpuIsa, CpuTemplate>, uint64_t> templates;  // cases in which it ran a fused step
  std::vector<std::string> failures;
};

// One sentence per way that went wrong; empty when all agree with the oracle.
std::vector<std::string> run_case(const RandomCase& c, const std::vector<Way>& all, Tally& tally) {
  std::vector<std::string> failures;
  const auto fail = [&](const std::string& what) { failures.push_back(fmt::format("seed {}: {}", c.seed, what)); };
  std::mt19937_64 random(c.seed);
  const auto layout = [&] { return static_cast<Layout>(random() % 4); };

  std::vector<TestTensor> inputs;
  std::vector<TensorView> input_views;
  for (size_t i = 0; i < c.graph.params.size(); ++i) {
    const TensorType& type = c.graph.type(c.graph.params[i]);
    inputs.emplace_back(type.dtype, concrete_shape(type, c.dims), layout(), random);
    fill(inputs.back(), c.fills[i], random);
    input_views.push_back(inputs.back().view());
  }
  auto judge = OutputJudge::create(c.graph, c.dims, input_views);
  if (!judge) return {fmt::format("seed {}: {}", c.seed, to_string(judge.error()))};
  std::set<std::pair<CpuIsa, CpuTemplate>> ran;
  // Fast runs on every ISA, generic on one of them in two of three cases.
  for (size_t w = 0; w < all.size(); ++w) {
    if (all[w].options.force_generic && all.size() > 2 && (w / 2 + c.seed) % 3 != 0) continue;
    auto kernel = all[w].engine.compile(c.graph, all[w].options);
    if (!kernel) {
      fail(all[w].name + ": " + to_string(kernel.error()));
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
    std::vector<TestTensor> outputs;
    std::vector<TensorView> output_views;
    for (ValueId result : c.graph.results) {
      const TensorType& type = c.graph.type(result);
      outputs.emplace_back(type.dtype, concrete_shape(type, c.dims), layout(), random);
      output_views.push_back(outputs.back().view());
    }
    RunOptions run;
    // The workspace starts as NaN, so that scratch read before it is written shows; every third run gets just enough
    // for K and V to be packed on the fly.
    auto memory = kernel->memory_estimate(c.dims, 1, random() % 3 == 0 ? 0 : -1);
    if (!memory) {
      fail(all[w].name + ": " + to_string(memory.error()));
      continue;
    }
    run.workspace_bytes = memory->scratch + memory->workspace;
    std::vector<unsigned char> workspace(static_cast<size_t>(run.workspace_bytes) + 64, 0xff);
    const auto address = reinterpret_cast<uintptr_t>(workspace.data());
    run.workspace = workspace.data() + (64 - address % 64) % 64;
    if (auto done = kernel->run(input_views, output_views, run); !done) {
      fail(all[w].name + ": " + to_string(done.error()));
      continue;
    }
    if (auto choices = kernel->choices(c.dims); choices)
      for (size_t i = 0; i < choices->size(); ++i)
        if (const StepReport& step = kernel->stats().step_reports[i]; step.fused)
          ran.emplace(all[w].engine.target().isa, step.schedules[choices->at(i)].kernel);
    for (const TestTensor& output : outputs)
      if (!output.gaps_intact()) fail(all[w].name + ": wrote outside its output");
    auto reports = judge->judge(output_views);
    if (!reports) {
      fail(all[w].name + ": " + to_string(reports.error()));
      continue;
    }
    for (const AccuracyReport& report : *reports)
      if (!report.pass) fail(all[w].name + ": " + report.failure + " (" + to_string(report) + ")");
  }
  const std::lock_guard guard(tally.lock);
  for (const auto& which : ran) ++tally.templates[which];
  return failures;
}

TEST(RandomGraphs, InterpreterGenericAndFastAgree) {
  const std::vector<Way> all = ways();
  ASSERT_FALSE(all.empty());
  const uint64_t cases = from_environment("TILEWRIGHT_TEST_CASES", kCases);
  const uint64_t first_seed = from_environment("TILEWRIGHT_TEST_SEED", kFirstSeed);
  Tally tally;
  std::atomic<uint64_t> next{0};
  const auto work = [&] {
    for (uint64_t i = next++; i < cases; i = next++) {
      const RandomCase c = random_attention(first_seed + i);
      auto failures = run_case(c, all, tally);
      if (failures.empty()) continue;
      const std::lock_guard guard(tally.lock);
      if (tally.failures.size() < 20) {
        failures.front() += "\n" + print(c.graph);
        for (const auto& [name, size] : c.dims) failures.front() += fmt::format("{} = {}  ", name, size);
      }
      tally.failures.insert(tally.failures.end(), failures.begin(), failures.end());
    }
  };
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < std::max(1u, std::thread::hardware_concurrency()); ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();

  std::printf("%lu random graphs;", static_cast<unsigned long>(cases));
  for (const Way& way : all) std::printf(" %s;", way.name.c_str());
  std::printf("\n");
  std::set<CpuIsa> isas;
  for (const Way& way : all) isas.insert(way.engine.target().isa);
  for (CpuIsa isa : isas)
    for (const auto& [name, least] : kTemplateShares) {
      const double share = static_cast<double>(tally.templates[{isa, name}]) / static_cast<double>(cases);
      const std::string what = fmt::format("{} {}", to_string(isa), to_string(name));
      std::printf("  template %-16s in %5.1f %% of the cases\n", what.c_str(), 100 * share);
      if (cases >= kCases) {
        EXPECT_GE(share, least) << what;
      }
    }
  for (const auto& [spelling, count] : tally.spellings) {
    const double share = static_cast<double>(count.second) / count.first;
    std::printf("  %-40s %5d graphs, %5.1f %% fused\n", spelling.c_str(), count.first, 100 * share);
    if (cases < kCases) continue;
    EXPECT_GE(count.first, kTimesEach) << spelling;
    EXPECT_GE(share, kFusedShare) << spelling;
  }
  for (size_t i = 0; i < std::min<size_t>(tally.failures.size(), 20); ++i) ADD_FAILURE() << tally.failures[i];
  EXPECT_TRUE(tally.failures.empty()) << tally.failures.size() << " failures in all";
}

}  // namespace
}  // namespace tilewright::testing
