// Engines that run a kernel on the ahead-of-time tier until its code has been generated.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "compiler/gradient.h"
#include "ir/accuracy.h"
#include "runtime/engine.h"
#include "tests/support/causal_case.h"
#include "tests/support/temporary_folder.h"

namespace tilewright {
namespace {

Engine tiered_engine(const std::string& cache_dir = "") {
  EngineOptions options;
  options.threads = 2;
  options.cache_dir = cache_dir;
  options.tiered = true;
  auto engine = Engine::create(options);
  EXPECT_TRUE(engine) << to_string(engine.error());
  return *engine;
}

using testing::causal_graph;

/// Long enough for several blocks.
struct OneBatch : testing::CausalArguments {
  explicit OneBatch(int64_t sq = 70, int64_t sk = 150, int64_t head_dim = 16) : CausalArguments(1, sq, sk, head_dim) {}
};

void expect_right(const Kernel& kernel, OneBatch& arguments, const RunOptions& options = {}) {
  std::fill(arguments.o.begin(), arguments.o.end(), NAN);
  const auto done = kernel.run(arguments.in, arguments.out, options);
  ASSERT_TRUE(done) << to_string(done.error());
  const auto reports = verify_outputs(kernel.graph(), arguments.dims, arguments.in, arguments.out);
  ASSERT_TRUE(reports) << to_string(reports.error());
  for (const AccuracyReport& report : *reports) EXPECT_TRUE(report.pass) << report.failure;
}

TEST(Tiered, RunsAtOnceAndSwitchesWhenTheCodeIsThere) {
  Engine engine = tiered_engine();
  const auto kernel = engine.compile(causal_graph());
  ASSERT_TRUE(kernel) << to_string(kernel.error());
  OneBatch arguments;
  expect_right(*kernel, arguments);
  const auto compiled = kernel->wait_until_compiled();
  ASSERT_TRUE(compiled) << to_string(compiled.error());
  EXPECT_EQ(kernel->tier(), ExecutionTier::jit);
  EXPECT_EQ(kernel->stats().tier, ExecutionTier::jit);
  EXPECT_NE(kernel->stats().step_reports[0].schedules[0].kernel, CpuTemplate::ahead_of_time);
  EXPECT_FALSE(kernel->stats().cache_hit);
  EXPECT_TRUE(kernel->compile_errors().empty());
  expect_right(*kernel, arguments);
  const std::vector<float> generated = arguments.o;
  // Another compile of the same graph is a hit and runs the same code.
  const auto again = engine.compile(causal_graph());
  ASSERT_TRUE(again);
  EXPECT_EQ(again->tier(), ExecutionTier::jit);
  EXPECT_TRUE(again->stats().cache_hit);
  expect_right(*again, arguments);
  EXPECT_EQ(arguments.o, generated);
}

TEST(Tiered, ManifestAndReportSayWhichTierRuns) {
  EngineOptions options;
  options.cache_dir = "";
  const auto engine = Engine::create(options);
  ASSERT_TRUE(engine);
  testing::TemporaryFolder folder;
  const auto kernel = engine->compile(causal_graph(), {.dump_dir = folder.path(), .ahead_of_time = true});
  ASSERT_TRUE(kernel) << to_string(kernel.error());
  EXPECT_EQ(kernel->tier(), ExecutionTier::ahead_of_time);
  EXPECT_TRUE(kernel->wait_until_compiled());
  EXPECT_EQ(kernel->stats().step_reports[0].schedules[0].kernel, CpuTemplate::ahead_of_time);
  std::ostringstream manifest;
  manifest << std::ifstream(kernel->dump_path() + "/manifest.json").rdbuf();
  EXPECT_NE(manifest.str().find("\"tier\": \"ahead_of_time\""), std::string::npos) << manifest.str();
  OneBatch arguments;
  expect_right(*kernel, arguments);
}

TEST(Tiered, AWorkspaceSizedBeforeTheSwitchServesAfterIt) {
  Engine engine = tiered_engine();
  const auto kernel = engine.compile(causal_graph());
  ASSERT_TRUE(kernel);
  OneBatch arguments;
  // What the tier needs, whether or not the code was quicker than this test.
  const auto least = Engine::create({.threads = 2, .cache_dir = ""})->compile(causal_graph(), {.ahead_of_time = true});
  ASSERT_TRUE(least);
  const auto bytes = least->workspace_bytes(arguments.dims, 2);
  ASSERT_TRUE(bytes);
  std::vector<std::byte> memory(static_cast<size_t>(*bytes) + 64);
  RunOptions run;
  run.workspace = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
  run.workspace_bytes = *bytes;
  expect_right(*kernel, arguments, run);
  ASSERT_TRUE(kernel->wait_until_compiled());
  expect_right(*kernel, arguments, run);
}

TEST(Tiered, ErrorsOfTheCompileAreKept) {
  Engine engine = tiered_engine();
  testing::TemporaryFolder folder;
  const std::string file = folder.path() + "/a_file";
  std::ofstream(file) << "not a folder";
  const auto kernel = engine.compile(causal_graph(), {.dump_dir = file});
  ASSERT_TRUE(kernel) << to_string(kernel.error());
  const auto compiled = kernel->wait_until_compiled();
  ASSERT_FALSE(compiled);
  EXPECT_NE(to_string(compiled.error()).find("cannot make the dump folder"), std::string::npos);
  EXPECT_EQ(to_string(kernel->compile_errors()), to_string(compiled.error()));
  EXPECT_EQ(kernel->tier(), ExecutionTier::ahead_of_time);
  OneBatch arguments;
  expect_right(*kernel, arguments);
}

TEST(Tiered, WrongOptionsAreErrorsAtOnce) {
  Engine engine = tiered_engine();
  const auto kernel = engine.compile(causal_graph(), {.tiles = {-1, 0}});
  ASSERT_FALSE(kernel);
  EXPECT_NE(to_string(kernel.error()).find("block_q is -1"), std::string::npos) << to_string(kernel.error());
}

TEST(Tiered, KernelsOutliveTheEngine) {
  std::vector<Kernel> kernels;
  {
    Engine engine = tiered_engine();
    for (int dim : {8, 16, 24, 40}) {
      auto kernel = engine.compile(causal_graph(dim));
      ASSERT_TRUE(kernel);
      kernels.push_back(std::move(*kernel));
    }
  }
  int dropped = 0;
  for (size_t i = 0; i < kernels.size(); ++i) {
    const auto compiled = kernels[i].wait_until_compiled();
    EXPECT_EQ(compiled.ok(), kernels[i].tier() == ExecutionTier::jit);
    dropped += !compiled.ok();
    if (!compiled) {
      EXPECT_NE(to_string(compiled.error()).find("the engine ended"), std::string::npos);
    }
    constexpr int64_t kDims[] = {8, 16, 24, 40};
    OneBatch arguments(5, 9, kDims[i]);
    expect_right(kernels[i], arguments);
  }
  EXPECT_GT(dropped, 0) << "four kernels were compiled before their engine could end";
}

TEST(Tiered, BackwardPassesWaitForTheirCode) {
  const auto made = gradient(causal_graph(), {});
  ASSERT_TRUE(made) << to_string(made.error());
  Engine engine = tiered_engine();
  const auto kernel = engine.compile(made->backward);
  ASSERT_TRUE(kernel) << to_string(kernel.error());
  EXPECT_EQ(kernel->tier(), ExecutionTier::jit);
  // Told to stay ahead of time, they run as steps of their own.
  const auto unfused = engine.compile(made->backward, {.ahead_of_time = true});
  ASSERT_TRUE(unfused) << to_string(unfused.error());
  EXPECT_EQ(unfused->tier(), ExecutionTier::ahead_of_time);
  EXPECT_EQ(unfused->stats().fused_backwards, 0);
}

}  // namespace
}  // namespace tilewright
