// The generic GPU template on the emulator: every variant of the suite against the oracle (semantics 19), in legal
// executions of several seeds, on guarded memory.
#include <gtest/gtest.h>

#include "ir/accuracy.h"
#include "ir/text.h"
#include "tests/emulator/emulated_program.h"
#include "tests/support/attention_case.h"
#include "tests/support/paths.h"
#include "tests/support/variant_case.h"

namespace tilewright::testing {
namespace {

constexpr Numbers kAllNumbers[] = {Numbers::f32, Numbers::bf16, Numbers::f64, Numbers::f16, Numbers::bf16_cast};
constexpr int64_t kGenericHeadDims[] = {8, 31, 16, 40, 64};
const Sizes kGenericSizes[] = {
    {"ragged", 2, 19, 37}, {"more queries", 1, 37, 11}, {"one query", 2, 1, 50},
    {"no keys", 2, 9, 0},  {"no queries", 1, 0, 20},    {"several blocks", 1, 66, 70},
};

class GenericVariants : public ::testing::TestWithParam<Variant> {};

TEST_P(GenericVariants, MatchTheOracle) {
  const Variant& variant = GetParam();
  const auto number = static_cast<size_t>(variant.number);
  std::mt19937_64 random(number);
  const int64_t dim = kGenericHeadDims[number % std::size(kGenericHeadDims)];
  const Graph graph =
      respell(variant.graph, kAllNumbers[number % std::size(kAllNumbers)], dim, number == 22 ? dim + 3 : dim);
  auto program = EmulatedProgram::create(graph);
  ASSERT_TRUE(program) << to_string(program.error());
  for (size_t turn : {0, 1, 2}) {
    const Sizes& sizes = kGenericSizes[(number + 2 * turn) % std::size(kGenericSizes)];
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

class GenericSpecs : public ::testing::TestWithParam<CaseOptions> {};

TEST_P(GenericSpecs, MatchAPlainEvaluation) {
  std::mt19937_64 random(11);
  const AttentionCase test = make_case(GetParam(), random);
  const TileProgram program = build_tile_program(test.spec);
  const CudaTarget target = *parse_cuda_target("sm_80");
  const auto step = EmulatedStep::create(generate_cuda(program, generic_schedule(program, target), target, "spec"),
                                         args_layout(test.spec));
  ASSERT_TRUE(step) << to_string(step.error());
  EXPECT_LE(step->launch().phases[0].shared_bytes, target.shared_bytes_per_block);
  EXPECT_EQ(step->run(test.dims, views_of(test.tensors), {.seed = 3}), "");
  check_case(test);
}

std::vector<CaseOptions> spec_cases() {
  using enum DType;
  std::vector<CaseOptions> cases;
  const auto add = [&](CaseOptions options) { cases.push_back(options); };
  for (const Rows rows : {Rows::rope_half, Rows::rope_interleaved, Rows::rms_norm, Rows::layer_norm, Rows::norm_rope})
    add({.sk = 21, .dqk = 14, .mask = Mask::causal, .query_rows = rows, .key_rows = rows});
  add({.dtype = bf16, .output = bf16, .group = 2, .sink = true, .lse = true, .query_rows = Rows::rms_norm});
  add({.dtype = f64, .output = f64, .mask = Mask::causal_padding, .lse = true, .two_dots = true});
  add({.sq = 33, .sk = 70, .dqk = 9, .dv = 5, .score = Score::bias, .layout = Layout::reversed, .dropout = true});
  add({.mask = Mask::everything, .sink = true, .lse = true});
  add({.sk = 0, .lse = true});
  add({.sq = 3, .sk = 40, .dqk = 512, .dv = 512, .mask = Mask::tensor});
  add({.dtype = f64, .output = f64, .sq = 2, .sk = 9, .dqk = 512, .dv = 512});
  add({.sq = 17, .sk = 33, .dqk = 1, .dv = 1, .mask = Mask::window, .arrangement = Arrangement::packed});
  add({.sk = 37, .mask = Mask::padding, .score = Score::softcap, .normaliser = Normaliser::none});
  return cases;
}

INSTANTIATE_TEST_SUITE_P(All, GenericSpecs, ::testing::ValuesIn(spec_cases()),
                         [](const auto& test) { return std::to_string(test.index); });

}  // namespace
}  // namespace tilewright::testing
