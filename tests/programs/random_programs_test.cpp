// Kernels of random programs against the oracle: every kind of step between temporaries, fused and one op a step.
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <mutex>
#include <thread>

#include "ir/interp.h"
#include "ir/text.h"
#include "runtime/engine.h"
#include "tests/support/random_graph.h"
#include "tests/support/random_program.h"

namespace tilewright::testing {
namespace {

constexpr uint64_t kPrograms = 100;

struct Way {
  std::string name;
  Engine engine;
  bool materialise;
  bool ahead_of_time = false;
};

std::vector<Way> ways() {
  std::vector<Way> list;
  for (CpuIsa isa : {CpuIsa::avx512, CpuIsa::avx2}) {
    auto engine = Engine::create({.threads = 1, .max_isa = isa});
    if (!engine || engine->target().isa != isa) continue;
    for (bool materialise : {false, true})
      list.push_back(
          {std::string(to_string(isa)) + (materialise ? ", one op a step" : ", fused"), *engine, materialise});
    list.push_back({std::string(to_string(isa)) + ", ahead of time", *engine, false, true});
  }
  return list;
}

/// What f64 cannot hold is infinite; the oracle has more range.
bool agree(long double expected, double actual) {
  if (std::isnan(expected)) return std::isnan(actual);
  const auto rounded = static_cast<double>(expected);
  return rounded == actual || std::abs(rounded - actual) <= 1e-9 * (1 + std::abs(rounded));
}

/// Empty when all is well.
std::string check(uint64_t seed, const Way& way) {
  const Graph graph = random_program(seed);
  const DimBindings dims = {{"N", 2}, {"M", 3}};
  std::mt19937_64 random(seed);
  std::vector<TestTensor> inputs, outputs;
  std::vector<TensorView> views, output_views;
  const auto layout = [&] { return static_cast<Layout>(random() % 4); };
  for (ValueId id : graph.params) {
    const TensorType& type = graph.type(id);
    inputs.emplace_back(type.dtype, concrete_shape(type, dims), layout(), random);
    Fill how;
    if (type.dtype == DType::boolean) how = {Fill::Kind::coin, 0.5};
    fill(inputs.back(), how, random);
    views.push_back(inputs.back().view());
  }
  for (ValueId id : graph.results) {
    outputs.emplace_back(graph.type(id).dtype, concrete_shape(graph.type(id), dims), layout(), random);
    output_views.push_back(outputs.back().view());
  }
  CompileOptions options;
  options.materialise = way.materialise;
  options.ahead_of_time = way.ahead_of_time;
  options.verify_modules = true;
  options.use_cache = false;
  const auto kernel = way.engine.compile(graph, options);
  if (!kernel) return to_string(kernel.error());
  if (auto done = kernel->run(views, output_views); !done) return to_string(done.error());
  for (size_t r = 0; r < graph.results.size(); ++r) {
    if (!outputs[r].gaps_intact()) return fmt::format("wrote outside result {}", r);
    const auto expected = interpret(graph, dims, views, r, std::nullopt, Precision::oracle);
    if (!expected) return to_string(expected.error());
    for (size_t i = 0; i < expected->values.size(); ++i)
      if (const double got = outputs[r].get(static_cast<int64_t>(i)); !agree(expected->values[i], got))
        return fmt::format("result {}, element {}: got {}, want {}", r, i, got,
                           static_cast<double>(expected->values[i]));
  }
  return {};
}

TEST(RandomPrograms, KernelsAgreeWithTheOracle) {
  const std::vector<Way> all = ways();
  std::atomic<uint64_t> next{0};
  std::mutex lock;
  std::vector<std::string> failures;
  const auto work = [&] {
    for (uint64_t seed = next++; seed < kPrograms; seed = next++)
      for (const Way& way : all) {
        const std::string failure = check(seed, way);
        if (failure.empty()) continue;
        const std::lock_guard guard(lock);
        failures.push_back(fmt::format("seed {}, {}: {}", seed, way.name, failure));
      }
  };
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < std::max(1u, std::thread::hardware_concurrency()); ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < std::min<size_t>(failures.size(), 12); ++i) ADD_FAILURE() << failures[i];
  EXPECT_TRUE(failures.empty()) << failures.size() << " failures in all";
}

}  // namespace
}  // namespace tilewright::testing
