// Rows of the benchmark are void when another template runs than they are about.
#include <gtest/gtest.h>

#include "bench/process_memory.h"
#include "bench/row_context.h"
#include "compiler/gradient.h"

namespace tilewright::bench {
namespace {

const DimBindings kDims = {{"B", 1}, {"Sq", 64}, {"Sk", 64}};

Graph backward_graph(Scores scores) {
  auto gradients = gradient(attention_graph({DType::f32, 2, 2, 16}, scores), {{"q", "k", "v"}, false});
  TW_CHECK(gradients.ok());
  return std::move(gradients->backward);
}

Graph product_graph() {
  GraphBuilder g("product");
  const Dim m = Dim::named("M");
  g.result(g.matmul(g.param("a", {DType::f32, {m, 32}}), g.param("b", {DType::f32, {32, 32}})));
  return g.take();
}

class BenchRows : public ::testing::Test {
 protected:
  Row expect(Graph graph, const DimBindings& dims, CpuTemplate kernel, const CompileOptions& options = {}) const {
    auto subject = Subject::create(*engine_, std::move(graph), dims, options);
    TW_CHECK(subject.ok());
    Row row{.group = "planted", .name = "row", .value = {100, 99, 101}, .bar = Bar{1}};
    const bool counts = RowContext::expect(row, subject->kernel(), dims, kernel);
    EXPECT_EQ(counts, row.fall_back.empty());
    EXPECT_EQ(row.met(), row.fall_back.empty());
    return row;
  }
  Result<Engine> engine_ = Engine::create({.threads = 1});
};

TEST_F(BenchRows, CountOnTheFastTemplates) {
  EXPECT_EQ(expect(attention_graph({DType::f32, 2, 2, 16}, Scores::causal), kDims, CpuTemplate::prefill).fall_back, "");
  EXPECT_EQ(expect(backward_graph(Scores::causal), kDims, CpuTemplate::backward).fall_back, "");
  EXPECT_EQ(expect(product_graph(), {{"M", 64}}, CpuTemplate::matmul).fall_back, "");
  const Row one = expect(product_graph(), {{"M", 1}}, CpuTemplate::matvec);
  EXPECT_EQ(one.fall_back, "");
  EXPECT_EQ(one.kernel, "matvec");
  EXPECT_EQ(one.schedule.substr(0, 6), "matvec");
}

TEST_F(BenchRows, AreVoidOnOthers) {
  CompileOptions generic, unfused;
  generic.force_generic = true;
  unfused.materialise = true;
  const Row forward =
      expect(attention_graph({DType::f32, 2, 2, 16}, Scores::causal), kDims, CpuTemplate::prefill, generic);
  EXPECT_NE(forward.fall_back.find("generic ran"), std::string::npos) << forward.fall_back;
  const Row backward = expect(backward_graph(Scores::causal), kDims, CpuTemplate::backward, generic);
  EXPECT_NE(backward.fall_back.find("generic ran"), std::string::npos) << backward.fall_back;
  EXPECT_EQ(backward.kernel, "generic");
  const Row loops = expect(backward_graph(Scores::causal), kDims, CpuTemplate::backward, unfused);
  EXPECT_NE(loops.fall_back.find("plain loops"), std::string::npos) << loops.fall_back;
  const Row few = expect(product_graph(), {{"M", 1}}, CpuTemplate::matmul);
  EXPECT_NE(few.fall_back.find("matvec ran"), std::string::npos) << few.fall_back;
  const Row none = expect(modification_graph(Scores::softcap), {{"R", 4}, {"C", 64}}, CpuTemplate::matmul);
  EXPECT_NE(none.fall_back.find("plain loops"), std::string::npos) << none.fall_back;
}

TEST_F(BenchRows, SayWhatRan) {
  // Query heads that share K and V share the packed copy, which is workspace.
  const Row row = expect(attention_graph({DType::f32, 4, 2, 16}, Scores::causal), kDims, CpuTemplate::prefill);
  EXPECT_EQ(row.kernel, "prefill");
  EXPECT_NE(row.schedule.find("block_kv"), std::string::npos) << row.schedule;
  EXPECT_GT(row.scratch_bytes, 0);
  EXPECT_GT(row.workspace_bytes, 0);
}

TEST(BenchPlan, RowsOfAmxRunOnItsTemplates) {
  // Emulated tiles take the same plans; nothing is run.
  const auto engine = Engine::create({.threads = 1, .isa = CpuIsa::amx_emulated});
  if (!engine) GTEST_SKIP() << to_string(engine.error());
  int amx = 0;
  const auto sink = [&](const Row& row) {
    EXPECT_EQ(row.verdict(), Verdict::measured) << row.key() << ": " << row.fall_back << row.skipped;
    EXPECT_EQ(row.ms.median, 0) << row.key();
    EXPECT_FALSE(row.schedule.empty()) << row.key();
    if (row.group.find("on AMX") == std::string::npos) return;
    ++amx;
    EXPECT_NE(row.kernel.find("amx_"), std::string::npos) << row.key() << ": " << row.kernel;
  };
  for (const char* filter : {"AMX", "two threads", "masks", "decode"}) {
    const auto done = measure_rows(*engine, {.filter = filter, .plan_only = true}, sink);
    EXPECT_TRUE(done) << to_string(done.error());
  }
  EXPECT_GT(amx, 30);
}

TEST_F(BenchRows, PeakRiseIsWhatIsTouched) {
  constexpr int64_t kBytes = 32 << 20;
  const auto rise = peak_rise([&] {
    std::vector<char> memory(static_cast<size_t>(kBytes), 1);
    EXPECT_EQ(memory[kBytes / 2], 1);
  });
  if (!rise) GTEST_SKIP() << "no /proc/self/clear_refs, which resets the kernel's peak of resident memory";
  // Besides it what the process touches meanwhile, an eighth of it under AddressSanitizer.
  EXPECT_NEAR(static_cast<double>(*rise), static_cast<double>(kBytes), 8 << 20);
}

}  // namespace
}  // namespace tilewright::bench
