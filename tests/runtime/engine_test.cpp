#include "runtime/engine.h"

#include <gtest/gtest.h>
#include <xmmintrin.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <new>
#include <set>
#include <sstream>

#include "ir/accuracy.h"
#include "ir/text.h"
#include "runtime/kernel_cache.h"
#include "runtime/options.h"
#include "tests/support/causal_case.h"

namespace {
thread_local bool counting = false;
thread_local int allocations = 0;
}  // namespace

// GCC sees malloc behind inlined news and free behind inlined deletes and takes them for a mismatch.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"
void* operator new(size_t size) {
  if (counting) ++allocations;
  if (void* memory = std::malloc(size ? size : 1)) return memory;
  throw std::bad_alloc();
}
void* operator new(size_t size,
                   const std::nothrow_t&) noexcept {  // what std::stable_sort asks for and deletes as above
  if (counting) ++allocations;
  return std::malloc(size ? size : 1);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace tilewright {
namespace {

using testing::causal_graph;
using Arguments = testing::CausalArguments;

Graph graph_of(const std::string& text) {
  auto graph = parse_graph(text);
  EXPECT_TRUE(graph) << (graph ? "" : to_string(graph.error()));
  return *graph;
}

const Engine& engine() {
  static const Engine kEngine = *Engine::create({2, {}});
  return kEngine;
}

Kernel compile(const Graph& graph, const CompileOptions& options = {}) {
  auto kernel = engine().compile(graph, options);
  EXPECT_TRUE(kernel) << (kernel ? "" : to_string(kernel.error()));
  return *kernel;
}

std::string run(const Kernel& kernel, const Arguments& arguments, const RunOptions& options = {}) {
  const auto ok = kernel.run(arguments.in, arguments.out, options);
  return ok ? "" : to_string(ok.error());
}

void expect_right(const Graph& graph, const Arguments& arguments) {
  const auto reports = verify_outputs(graph, arguments.dims, arguments.in, arguments.out);
  ASSERT_TRUE(reports);
  for (const AccuracyReport& report : *reports) EXPECT_TRUE(report.pass) << report.failure;
}

TEST(Engine, RunsAndIsRight) {
  const Graph graph = causal_graph();
  for (const bool generic : {false, true}) {
    CompileOptions options;
    options.force_generic = generic;
    const Kernel kernel = compile(graph, options);
    EXPECT_EQ(kernel.stats().fused_attentions, 1);
    for (const auto& [sq, sk] : {std::pair<int64_t, int64_t>{1, 70}, {33, 47}, {130, 130}}) {
      Arguments arguments(2, sq, sk);
      ASSERT_EQ(run(kernel, arguments), "");
      expect_right(graph, arguments);
    }
  }
}

TEST(Engine, MaterialisedMeansTheSame) {
  const Graph graph = causal_graph();
  CompileOptions options;
  options.materialise = true;
  const Kernel kernel = compile(graph, options);
  EXPECT_EQ(kernel.stats().fused_attentions, 0);
  Arguments arguments(1, 20, 31);
  ASSERT_EQ(run(kernel, arguments), "");
  expect_right(graph, arguments);
}

TEST(Engine, EmptySizes) {
  const Kernel kernel = compile(causal_graph());
  for (const auto& [b, sq, sk] : {std::array<int64_t, 3>{0, 5, 5}, {2, 0, 5}, {2, 5, 0}, {0, 0, 0}}) {
    Arguments arguments(b, sq, sk);
    ASSERT_EQ(run(kernel, arguments), "");
    for (const float value : arguments.o) EXPECT_EQ(value, 0.0f);
  }
}

TEST(Engine, ErrorsLeaveOutputsAlone) {
  const Kernel kernel = compile(causal_graph());
  Arguments arguments(1, 4, 6);
  std::fill(arguments.o.begin(), arguments.o.end(), 7.0f);
  const std::vector<float> before = arguments.o;
  arguments.in[2].shape[2] = 7;
  EXPECT_EQ(run(kernel, arguments), "%v: axis 2 has size 7, expected Sk = 6 (Sk = 6 from axis 2 of %k)");
  arguments.in[2].shape[2] = 6;
  arguments.out[0].data = arguments.q.data();
  EXPECT_EQ(run(kernel, arguments),
            "%o: the output overlaps the input %q in memory, which only an inout parameter may");
  EXPECT_EQ(arguments.o, before);
}

TEST(Engine, GivenWorkspaceMeansNoAllocation) {
  const Kernel kernel = compile(causal_graph());
  for (const int64_t sq : {1, 50}) {
    Arguments arguments(2, sq, 90);
    const int workers = engine().executor()->workers();
    const auto bytes = kernel.workspace_bytes(arguments.dims, workers);
    ASSERT_TRUE(bytes);
    std::vector<char> memory(static_cast<size_t>(*bytes) + 64);
    RunOptions options;
    options.workspace = reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(memory.data()) + 63) / 64 * 64);
    options.workspace_bytes = *bytes;
    allocations = 0;
    counting = true;
    const bool ok = kernel.run(arguments.in, arguments.out, options).ok();
    counting = false;
    EXPECT_TRUE(ok);
    EXPECT_EQ(allocations, 0);
    expect_right(kernel.graph(), arguments);
  }
}

TEST(Engine, EstimateIsWhatRunsNeed) {
  const Kernel kernel = compile(causal_graph());
  Arguments arguments(1, 100, 200);
  const int workers = engine().executor()->workers();
  const auto full = kernel.memory_estimate(arguments.dims, workers);
  ASSERT_TRUE(full);
  EXPECT_EQ(full->outputs, 4 * 100 * 16 * 4);
  EXPECT_EQ(*kernel.workspace_bytes(arguments.dims, workers), full->scratch + full->workspace);
  EXPECT_GE(full->unfused, 4 * (4 * 100 * 200 * 4));
  // Without room for packed K and V it still runs, and says what it takes.
  const auto least = kernel.memory_estimate(arguments.dims, workers, full->scratch + full->workspace - 1);
  ASSERT_TRUE(least);
  const int64_t needed = least->scratch + least->workspace;
  EXPECT_LT(needed, full->scratch + full->workspace);
  RunOptions options;
  options.workspace_limit = needed;
  EXPECT_EQ(run(kernel, arguments, options), "");
  expect_right(kernel.graph(), arguments);
  options.workspace_limit = needed - 1;
  EXPECT_EQ(run(kernel, arguments, options),
            fmt::format("the workspace limit is {} bytes, but {} are needed: {} for temporaries and states, {} for the "
                        "scratch of {} workers",
                        needed - 1, needed, least->workspace, least->scratch, workers));
  std::vector<char> memory(64);
  options.workspace = memory.data() + (reinterpret_cast<uintptr_t>(memory.data()) % 64 == 0 ? 8 : 0);
  options.workspace_bytes = int64_t{1} << 40;
  EXPECT_EQ(run(kernel, arguments, options), "the workspace is not 64-byte aligned");
}

TEST(Engine, OutputsMayLieOnAnInoutParameter) {
  // Row i of the result reads row i of every earlier value: written in place too early, it would read itself.
  const Kernel kernel = compile(graph_of(R"(
graph @flip(inout %x: f32[S,4]) -> f32[S,4] {
  %i = index axis=0    : i64[S,1]
  %j = index axis=1    : i64[1,4]
  %n = dim S-1         : i64[]
  %r = sub %n, %i      : i64[S,1]
  %y = load %x[%r, %j] : f32[S,4]
  return %y
})"));
  std::vector<float> x(4 * 1000);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
  const std::vector<float> before = x;
  const TensorView view = TensorView::contiguous(x.data(), DType::f32, {1000, 4});
  const auto ok = kernel.run(std::vector<TensorView>{view}, std::vector<TensorView>{view});
  ASSERT_TRUE(ok) << to_string(ok.error());
  for (size_t i = 0; i < 1000; ++i)
    for (size_t j = 0; j < 4; ++j) ASSERT_EQ(x[4 * i + j], before[4 * (999 - i) + j]);
}

TEST(Engine, KernelsOutliveTheEngine) {
  auto own = Engine::create({2, {}});
  ASSERT_TRUE(own);
  auto kernel = own->compile(causal_graph());
  ASSERT_TRUE(kernel);
  own = invalid("gone");
  Arguments arguments(1, 40, 40);
  ASSERT_EQ(run(*kernel, arguments), "");
  expect_right(kernel->graph(), arguments);
}

TEST(Engine, CacheHits) {
  const auto own = Engine::create({1, {}});
  ASSERT_TRUE(own);
  const Graph graph = causal_graph();
  const auto first = own->compile(graph), second = own->compile(graph);
  ASSERT_TRUE(first && second);
  EXPECT_FALSE(first->stats().cache_hit);
  EXPECT_TRUE(second->stats().cache_hit);
  EXPECT_GT(first->stats().total_ms, 0);
  EXPECT_EQ(&first->program(), &second->program());
  // The same canonical form by another way: the redundant cast goes.
  std::string text = testing::causal_text();
  text.replace(text.find("%p  = softmax %e"), 0, "%dead = add %a, 1 : f32[B,4,Sq,Sk]\n  ");
  const auto third = own->compile(graph_of(text));
  ASSERT_TRUE(third) << to_string(third.error());
  EXPECT_TRUE(third->stats().cache_hit);
  EXPECT_EQ(&first->program(), &third->program());
  CompileOptions generic;
  generic.force_generic = true;
  const auto fourth = own->compile(graph, generic);
  ASSERT_TRUE(fourth);
  EXPECT_FALSE(fourth->stats().cache_hit);
}

TEST(Engine, EqualStepsAreOneKernel) {
  const Graph graph = graph_of(R"(
graph @layers(%x: f32[S,16], %y: f32[S,16], %w1: f32[16,16], %w2: f32[16,16]) -> (f32[S,16], f32[S,16], f32[S,16]) {
  %h1 = matmul %x, %w1 : f32[S,16]
  %a1 = tanh %h1       : f32[S,16]
  %h2 = matmul %y, %w2 : f32[S,16]
  %a2 = tanh %h2       : f32[S,16]
  %h3 = matmul %y, %w1 : f32[S,16]
  return %a1, %a2, %h3
})");
  const Kernel kernel = compile(graph);
  const std::vector<StepReport>& steps = kernel.stats().step_reports;
  int shared = 0;
  for (const StepReport& step : steps) {
    shared += step.same_as.empty() ? 0 : 1;
    EXPECT_EQ(step.same_as.empty(), step.code_bytes > 0) << step.name;
    EXPECT_NE(step.same_as, step.name);
  }
  EXPECT_EQ(shared, 1);  // the second product with its tanh; the third has none

  std::vector<float> x(5 * 16), y(x.size()), w1(16 * 16), w2(w1.size());
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<float>(std::sin(static_cast<double>(i)));
    y[i] = static_cast<float>(std::cos(0.3 * static_cast<double>(i)));
  }
  for (size_t i = 0; i < w1.size(); ++i) {
    w1[i] = static_cast<float>(std::sin(0.7 * static_cast<double>(i)));
    w2[i] = static_cast<float>(std::cos(1.3 * static_cast<double>(i)));
  }
  std::vector<float> out[3] = {x, x, x};
  const auto view = [](std::vector<float>& values) {
    return TensorView::contiguous(values.data(), DType::f32, {static_cast<int64_t>(values.size()) / 16, 16});
  };
  const std::vector<TensorView> inputs = {view(x), view(y), view(w1), view(w2)};
  const std::vector<TensorView> outputs = {view(out[0]), view(out[1]), view(out[2])};
  const auto done = kernel.run(inputs, outputs);
  ASSERT_TRUE(done) << to_string(done.error());
  auto judge = OutputJudge::create(graph, {{"S", 5}}, inputs);
  ASSERT_TRUE(judge);
  const auto reports = judge->judge(outputs);
  ASSERT_TRUE(reports);
  for (const AccuracyReport& report : *reports) EXPECT_TRUE(report.pass) << report.failure;
}

TEST(Engine, RequireFusedNamesTheValue) {
  CompileOptions options;
  options.require_fused = true;
  const auto kernel = engine().compile(graph_of(R"(
graph @tail(%x: f32[B,8]) -> f32[B,8] {
  %y = mul %x, 2.0 : f32[B,8]
  return %y
})"),
                                       options);
  ASSERT_FALSE(kernel);
  EXPECT_NE(to_string(kernel.error()).find("%y"), std::string::npos) << to_string(kernel.error());
}

TEST(Engine, DumpsEveryStage) {
  const std::string folder = ::testing::TempDir() + "/tilewright_dump_test";
  std::filesystem::remove_all(folder);
  CompileOptions options;
  options.dump_dir = folder;
  const Kernel kernel = compile(causal_graph(), options);
  ASSERT_FALSE(kernel.dump_path().empty());
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kernel.dump_path()))
    names.insert(entry.path().filename());
  for (const char* name : {"00_input.graph", "01_canonical.graph", "02_fused.attention", "03_tile.tile",
                           "04_schedule.txt", "manifest.json"})
    EXPECT_TRUE(names.contains(name)) << name;
  for (const char* stage : {"05_emit", "06_opt", "07_machine"})
    EXPECT_TRUE(
        std::any_of(names.begin(), names.end(), [&](const std::string& name) { return name.starts_with(stage); }));
  const auto read = [&](const char* name) {
    std::ostringstream text;
    text << std::ifstream(kernel.dump_path() + "/" + name).rdbuf();
    return text.str();
  };
  EXPECT_TRUE(parse_graph(read("00_input.graph")));
  EXPECT_TRUE(parse_graph(read("01_canonical.graph")));
  EXPECT_TRUE(parse_attention(read("02_fused.attention")));
  std::filesystem::remove_all(folder);
}

TEST(Engine, CallersExecutorAndFloatStateAreRespected) {
  struct Counting final : Executor {
    int calls = 0;
    int workers() const override { return 3; }
    void run(const std::function<void(int)>& task) override {
      ++calls;
      for (int worker : {2, 0, 1}) task(worker);
    }
  };
  const auto executor = std::make_shared<Counting>();
  const Kernel kernel = compile(causal_graph());
  Arguments arguments(2, 60, 60);
  RunOptions options;
  options.executor = executor;
  const unsigned before = _mm_getcsr();
  ASSERT_EQ(run(kernel, arguments, options), "");
  EXPECT_EQ(_mm_getcsr() & ~0x3Fu, before & ~0x3Fu);
  EXPECT_GT(executor->calls, 0);
  expect_right(kernel.graph(), arguments);
}

TEST(Engine, AnIsaThatIsAskedForIsThereOrNamesWhatIsMissing) {
  const CpuIsa best = Engine::create()->target().isa;
  for (const CpuIsa isa : {CpuIsa::avx2, CpuIsa::avx512, CpuIsa::amx_emulated, CpuIsa::amx}) {
    const auto engine = Engine::create({.threads = 1, .isa = isa});
    const bool there = isa <= best || (isa == CpuIsa::amx_emulated && best == CpuIsa::avx512 && !environment().max_isa);
    ASSERT_EQ(engine.ok(), there) << to_string(isa);
    if (there) {
      EXPECT_EQ(engine->target().isa, isa);
      continue;
    }
    const std::string sentence = to_string(engine.error());
    EXPECT_NE(sentence.find(std::string(to_string(isa)) + " was asked for, but "), std::string::npos) << sentence;
    if (!environment().max_isa && isa == CpuIsa::amx && best == CpuIsa::avx512) {
      EXPECT_TRUE(sentence.find("AMX-TILE") != std::string::npos || sentence.find("AMX-BF16") != std::string::npos ||
                  sentence.find("tiles") != std::string::npos)
          << sentence;
    }
  }
  // A cap is no wish: it never raises the level, and never chooses the emulation.
  const auto capped = Engine::create({.threads = 1, .max_isa = CpuIsa::amx_emulated});
  ASSERT_TRUE(capped.ok());
  EXPECT_EQ(capped->target().isa, std::min(best, CpuIsa::amx_emulated));
}

TEST(SharedCache, EvictsWhatWasUsedLongestAgo) {
  SharedCache<int> cache(2);
  int made = 0;
  const auto get = [&](const std::string& key) {
    bool hit = false;
    const auto value = cache.get(key, hit, [&]() -> Result<std::shared_ptr<const int>> {
      ++made;
      return std::make_shared<const int>(made);
    });
    return hit && value.ok();
  };
  EXPECT_FALSE(get("a"));
  EXPECT_FALSE(get("b"));
  EXPECT_TRUE(get("a"));
  EXPECT_FALSE(get("c"));
  EXPECT_TRUE(get("a"));
  EXPECT_FALSE(get("b"));
  bool hit = false;
  EXPECT_FALSE(cache.get("bad", hit, []() -> Result<std::shared_ptr<const int>> { return invalid("no"); }));
  EXPECT_FALSE(get("bad"));
}

}  // namespace
}  // namespace tilewright
