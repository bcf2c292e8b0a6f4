// The generic GPU template on the emulator: every variant of the suite against the oracle (semantics 19), in legal
// executions of several seeds, on guarded memory.
#include <gtest/gtest.h>

#include "ir/accuracy.h"
#include "ir/text.h"
#include "tests/emulator/emulated_program.h"
#include "tests/support/paths.h"
#include "tests/support/variant_case.h"

namespace tilewright::testing {
namespace {

constexpr Numbers kNumbers[] = {Numbers::f32, Numbers::bf16, Numbers::f64, Numbers::f16, Numbers::bf16_cast};
constexpr int64_t kHeadDims[] = {8, 31, 16, 40, 64};
const Sizes kSizes[] = {
    {"ragged", 2, 19, 37}, {"more queries", 1, 37, 11}, {"one query", 2, 1, 50},
    {"no keys", 2, 9, 0},  {"no queries", 1, 0, 20},    {"several blocks", 1, 66, 70},
};

class GenericVariants : public ::testing::TestWithParam<Variant> {};

TEST_P(GenericVariants, MatchTheOracle) {
  const Variant& variant = GetParam();
  const auto number = static_cast<size_t>(variant.number);
  std::mt19937_64 random(number);
  const int64_t dim = kHeadDims[number % std::size(kHeadDims)];
  const Graph graph = respell(variant.graph, kNumbers[number % std::size(kNumbers)], dim, number == 22 ? dim + 3 : dim);
  auto program = EmulatedProgram::create(graph);
  ASSERT_TRUE(program) << to_string(program.error());
  for (size_t turn : {0, 1, 2}) {
    const Sizes& sizes = kSizes[(number + 2 * turn) % std::size(kSizes)];
    SCOPED_TRACE(sizes.name);
    const DimBindings dims = bind_sizes(graph, sizes);
    const std::vector<TestTensor> inputs = variant_inputs(graph, dims, random);
    const std::vector<TensorView> views = views_of(inputs);
    std::vector<TestTensor> outputs;
    for (const ValueId result : graph.results)
      outputs.emplace_back(graph.type(result).dtype, concrete_shape(graph.type(result), dims),
                           static_cast<Layout>(random() % 4), random);
    for (TestTensor& output : outputs) output.poison();
    EmulatorOptions options;
    options.seed = turn;
    const std::string error = program->run(dims, views, views_of(outputs), options);
    ASSERT_EQ(error, "");
    for (const TestTensor& output : outputs) EXPECT_TRUE(output.gaps_intact());
    auto reports = verify_outputs(graph, dims, views, views_of(outputs));
    ASSERT_TRUE(reports) << to_string(reports.error());
    for (const AccuracyReport& report : *reports) EXPECT_TRUE(report.pass) << report.failure << to_string(report);
  }
}

INSTANTIATE_TEST_SUITE_P(Suite, GenericVariants, ::testing::ValuesIn(variants(source_dir() + "/examples/variants")),
                         [](const auto& test) { return "variant_" + std::to_string(test.param.number); });

}  // namespace
}  // namespace tilewright::testing
