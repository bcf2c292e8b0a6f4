// Every variant with all its values in memory, one op a step: the unfused path knows every op of the suite. Variants
// whose fused kernels come later run here, too, and left to themselves.
#include <gtest/gtest.h>

#include "ir/accuracy.h"
#include "runtime/engine.h"
#include "tests/support/paths.h"
#include "tests/support/random_graph.h"
#include "tests/support/variant_case.h"

namespace tilewright::testing {
namespace {

void run(const Variant& variant, const Engine& engine, bool materialise) {
  const Sizes sizes[] = {{"", 2, 9, 37}, {"", 1, 18, 13}};
  CompileOptions options;
  options.materialise = materialise;
  options.verify_modules = true;
  const auto kernel = engine.compile(variant.graph, options);
  ASSERT_TRUE(kernel) << to_string(kernel.error());
  for (const Sizes& size : sizes) {
    std::mt19937_64 random(5);
    const DimBindings dims = bind_sizes(variant.graph, size);
    const std::vector<TestTensor> inputs = variant_inputs(variant.graph, dims, random, Hidden::finite);
    std::vector<TensorView> views;
    for (const TestTensor& input : inputs) views.push_back(input.view());
    const TensorType& type = variant.graph.type(variant.graph.results[0]);
    TestTensor output(type.dtype, concrete_shape(type, dims), Layout::gapped, random);
    const TensorView view = output.view();
    const auto done = kernel->run(views, {&view, 1});
    ASSERT_TRUE(done) << to_string(done.error());
    EXPECT_TRUE(output.gaps_intact());
    const auto reports = verify_outputs(variant.graph, dims, views, {&view, 1});
    ASSERT_TRUE(reports) << to_string(reports.error());
    EXPECT_TRUE(reports->at(0).pass) << reports->at(0).failure;
  }
}

class Unfused : public ::testing::TestWithParam<Variant> {};

TEST_P(Unfused, AgreesWithTheOracle) {
  for (CpuIsa isa : {CpuIsa::avx512, CpuIsa::avx2}) {
    const auto engine = Engine::create({.threads = 2, .max_isa = isa});
    if (!engine || engine->target().isa != isa) continue;
    for (bool materialise : {true, false}) {
      SCOPED_TRACE(std::string(to_string(isa)) + (materialise ? ", every op a step" : ", left to itself"));
      run(GetParam(), *engine, materialise);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Suite, Unfused,
                         ::testing::ValuesIn(all_variants(testing::source_dir() + "/examples/variants")),
                         [](const auto& variant) { return variant.param.stem; });

}  // namespace
}  // namespace tilewright::testing
