#include "tests/support/random_run.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <thread>

#include "ir/interp.h"
#include "tests/support/random_graph.h"
#include "tests/support/test_engines.h"

namespace tilewright::testing {
namespace {

uint64_t from_environment(const char* name, uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value ? std::strtoull(value, nullptr, 10) : otherwise;
}

}  // namespace

SeedRange seed_range(uint64_t cases) {
  SeedRange range;
  range.cases = from_environment("TILEWRIGHT_TEST_CASES", cases);
  range.first = from_environment("TILEWRIGHT_TEST_SEED", range.first);
  range.full = range.cases >= cases;
  return range;
}

void check_seeds(const SeedRange& seeds, const std::function<std::vector<std::string>(uint64_t)>& check,
                 const std::function<std::string(uint64_t)>& describe) {
  constexpr size_t kTold = 20;
  std::mutex lock;
  std::vector<std::string> told;
  size_t failed = 0;
  std::atomic<uint64_t> next{0};
  const auto work = [&] {
    for (uint64_t i = next++; i < seeds.cases; i = next++) {
      const uint64_t seed = seeds.first + i;
      const std::vector<std::string> failures = check(seed);
      if (failures.empty()) continue;
      const std::lock_guard guard(lock);
      failed += failures.size();
      if (told.size() >= kTold) continue;
      std::string text = fmt::format("seed {}\n", seed);
      for (const std::string& failure : failures) text += failure + "\n";
      told.push_back(text + describe(seed));
    }
  };
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < std::max(1u, std::thread::hardware_concurrency()); ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
  for (const std::string& text : told) ADD_FAILURE() << text;
  EXPECT_EQ(failed, 0u) << "failures in all";
}

std::vector<Way> all_ways() {
  std::vector<Way> list;
  for (const Engine& engine : engines_of_every_isa(1)) {
    const CpuIsa isa = engine.target().isa;
    for (bool generic : {false, true}) {
      if (generic && isa > CpuIsa::avx512) continue;  // that template knows no tiles
      CompileOptions options;
      options.force_generic = generic;
      options.verify_modules = true;
      options.use_cache = false;
      list.push_back({std::string(to_string(isa)) + (generic ? " generic" : " fast"), engine, options});
    }
  }
  return list;
}

std::vector<Way> ahead_of_time_ways() {
  std::vector<Way> list;
  for (Way& way : all_ways()) {
    if (way.options.force_generic) continue;
    way.options.ahead_of_time = true;
    way.name = std::string(to_string(way.isa())) + " ahead of time";
    list.push_back(std::move(way));
  }
  return list;
}

Layout random_layout(std::mt19937_64& random) { return static_cast<Layout>(random() % 4); }

Result<Written> run_on_poison(const Kernel& kernel, const DimBindings& dims, std::span<const TestTensor> inputs,
                              std::mt19937_64& random) {
  const Graph& graph = kernel.graph();
  std::vector<TensorView> views = views_of(inputs);
  Written written;
  for (const auto& [position, value] : written_params(graph)) {
    const TestTensor& from = inputs[position];
    TestTensor& copy = written.params.emplace_back(from.view().dtype, from.shape(), random_layout(random), random);
    copy.poison();
    for (int64_t i = 0; i < from.size(); ++i) copy.set(i, from.get(i));
    views[position] = copy.view();
  }
  for (ValueId result : graph.results) {
    const TensorType& type = graph.type(result);
    written.outputs.emplace_back(type.dtype, concrete_shape(type, dims), random_layout(random), random);
    written.outputs.back().poison();
  }
  const auto memory = kernel.memory_estimate(dims, 1, random() % 3 == 0 ? 0 : -1);
  if (!memory) return memory.error();
  RunOptions run;
  run.workspace_bytes = memory->scratch + memory->workspace;
  std::vector<unsigned char> workspace(static_cast<size_t>(run.workspace_bytes) + 64, 0xff);
  const auto address = reinterpret_cast<uintptr_t>(workspace.data());
  run.workspace = workspace.data() + (64 - address % 64) % 64;
  if (const auto done = kernel.run(views, views_of(written.outputs), run); !done) return done.error();
  for (const auto* tensors : {&written.outputs, &written.params})
    for (const TestTensor& tensor : *tensors)
      if (!tensor.gaps_intact()) return invalid("bytes around the elements of a written tensor changed");
  return written;
}

std::vector<std::string> check_written_params(const Graph& graph, const DimBindings& dims,
                                              std::span<const TestTensor> inputs, std::span<const TestTensor> written) {
  std::vector<std::string> failures;
  Graph stating = graph;
  const auto params = written_params(graph);
  for (size_t w = 0; w < params.size(); ++w) {
    const auto& [position, value] = params[w];
    stating.results = {value};
    const auto expected = interpret(stating, dims, views_of(inputs), 0, std::nullopt, Precision::oracle);
    if (!expected) return {to_string(expected.error())};
    for (size_t i = 0; i < expected->values.size(); ++i)
      if (const double found = written[w].get(static_cast<int64_t>(i)); found != expected->values[i]) {
        failures.push_back(fmt::format("element {} of %{} is {} after the run, expected {}", i,
                                       graph[graph.params[position]].name, found,
                                       static_cast<double>(expected->values[i])));
        break;
      }
  }
  return failures;
}

}  // namespace tilewright::testing
