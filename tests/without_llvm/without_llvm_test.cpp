// What a build with TILEWRIGHT_LLVM=OFF links: this executable has the library without LLVM and without the files that
// need it (tests/CMakeLists.txt), so that a new dependency of anything else on generated code fails to link here.
#include <gtest/gtest.h>

#include <fstream>
#include <random>
#include <sstream>

#include "compiler/gradient.h"
#include "ir/accuracy.h"
#include "ir/text.h"
#include "runtime/compile_jobs.h"
#include "runtime/engine.h"

namespace tilewright {
namespace {

Graph example(const std::string& file) {
  std::ostringstream text;
  text << std::ifstream(std::string(TILEWRIGHT_SOURCE_DIR) + "/examples/" + file).rdbuf();
  auto graph = parse_graph(text.str());
  EXPECT_TRUE(graph) << file << ": " << to_string(graph.error());
  return *graph;
}

/// Small numbers in every parameter, dense.
struct Data {
  std::vector<std::vector<std::byte>> memory;
  std::vector<TensorView> views;
  void add(const TensorType& type, const DimBindings& dims, std::mt19937& random) {
    std::vector<int64_t> shape;
    for (const Dim& dim : type.shape) shape.push_back(*dim.evaluate(dims));
    TensorView view = TensorView::contiguous(nullptr, type.dtype, shape);
    auto& bytes = memory.emplace_back(static_cast<size_t>(view.element_count() * size_of(type.dtype)) + 64);
    view.data = bytes.data();
    if (type.dtype == DType::f32)
      for (int64_t i = 0; i < view.element_count(); ++i)
        reinterpret_cast<float*>(bytes.data())[i] = static_cast<float>(static_cast<int>(random() % 2001) - 1000) / 500;
    views.push_back(view);
  }
};

void expect_right(const Engine& engine, const Graph& graph, const DimBindings& dims) {
  const auto kernel = engine.compile(graph);
  ASSERT_TRUE(kernel) << to_string(kernel.error());
  EXPECT_EQ(kernel->tier(), ExecutionTier::ahead_of_time);
  EXPECT_TRUE(kernel->wait_until_compiled());
  std::mt19937 random(1);
  Data inputs, outputs;
  for (const ValueId id : graph.params) inputs.add(graph.type(id), dims, random);
  for (const ValueId id : graph.results) outputs.add(graph.type(id), dims, random);
  const auto done = kernel->run(inputs.views, outputs.views);
  ASSERT_TRUE(done) << to_string(done.error());
  const auto reports = verify_outputs(graph, dims, inputs.views, outputs.views);
  ASSERT_TRUE(reports) << to_string(reports.error());
  for (const AccuracyReport& report : *reports) EXPECT_TRUE(report.pass) << report.failure;
}

TEST(WithoutLlvm, EnginesRunAheadOfTime) {
  EXPECT_FALSE(generates_code());
  const auto engine = Engine::create();
  ASSERT_TRUE(engine) << to_string(engine.error());
  for (const char* file : {"variants/01_full.attn", "variants/02_causal.attn", "variants/05_softcap.attn"})
    expect_right(*engine, example(file), {{"B", 1}, {"Sq", 67}, {"Sk", 130}});
}

TEST(WithoutLlvm, TieredEnginesHaveNothingToWaitFor) {
  EngineOptions options;
  options.tiered = true;
  const auto engine = Engine::create(options);
  ASSERT_TRUE(engine) << to_string(engine.error());
  expect_right(*engine, example("variants/02_causal.attn"), {{"B", 1}, {"Sq", 5}, {"Sk", 9}});
}

TEST(WithoutLlvm, BackwardPassesRunUnfused) {
  const auto engine = Engine::create();
  ASSERT_TRUE(engine);
  const auto made = gradient(example("variants/02_causal.attn"));
  ASSERT_TRUE(made) << to_string(made.error());
  const auto kernel = engine->compile(made->backward);
  ASSERT_TRUE(kernel) << to_string(kernel.error());
  EXPECT_EQ(kernel->stats().fused_backwards, 0);
  expect_right(*engine, made->backward, {{"B", 1}, {"Sq", 21}, {"Sk", 33}});
}

}  // namespace
}  // namespace tilewright
