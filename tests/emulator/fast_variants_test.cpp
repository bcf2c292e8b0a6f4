// Every variant of the suite on the mma.sync templates, on the emulator, against the oracle (semantics 19): 16-bit
// numbers, head dims, several schedules, seeds and both extremes of the asynchronous copies, ragged and empty shapes.
#include <gtest/gtest.h>

#include "compiler/plan_cuda_decode.h"
#include "compiler/plan_sm80_prefill.h"
#include "ir/accuracy.h"
#include "ir/text.h"
#include "tests/emulator/emulated_program.h"
#include "tests/support/paths.h"
#include "tests/support/variant_case.h"

namespace tilewright::testing {
namespace {

constexpr Numbers kNarrow[] = {Numbers::bf16, Numbers::f16, Numbers::bf16_cast, Numbers::f16_cast};
constexpr int64_t kMmaHeadDims[] = {64, 24, 80, 31, 40, 96};

struct Tiles {
  int64_t block_q, block_kv, warps, stages;
};

/// Variants that these templates refuse, each with its reason in the plan.
bool is_refused(int number, Numbers numbers) {
  const bool wide = numbers == Numbers::bf16_cast || numbers == Numbers::f16_cast;
  return number == 23 || number == 26 || (number == 25 && wide);
}

struct Setting {
  CudaTemplate kernel;
  Tiles tiles;
  int64_t split_kv;
  std::vector<Sizes> sizes;
};

/// The setting's schedule where the template takes the program; the generic one and a tally where it does not.
CudaSchedule choose(const Setting& setting, const TileProgram& program, const CudaTarget& target, int& refused) {
  const CudaPlan plan = plan_cuda(program, target);
  for (const CudaPlan::Choice& choice : plan.choices) {
    if (choice.schedule.kernel != setting.kernel) continue;
    CudaSchedule s = choice.schedule;
    s.reasons.clear();
    if (setting.kernel == CudaTemplate::sm80_prefill) s.block_q = setting.tiles.block_q;
    s.block_kv = setting.tiles.block_kv;
    s.warps = setting.tiles.warps;
    s.stages = setting.tiles.stages;
    s.split_kv = setting.split_kv;
    return s;
  }
  ++refused;
  return generic_schedule(program, target);
}

/// Under f32_x3, V has a number too large to be taken apart, and K an infinity, where every row sees them.
void spoil(const Graph& graph, std::vector<TestTensor>& inputs) {
  for (size_t i = 0; i < inputs.size(); ++i) {
    const std::string& name = graph[graph.params[i]].name;
    if (inputs[i].size() == 0) continue;
    if (name == "v") inputs[i].set(0, 1e30);
    if (name == "k") inputs[i].set(1, std::numeric_limits<double>::infinity());
  }
}

void run_numbers(const Variant& variant, Numbers numbers, const Setting& setting, size_t turn) {
  const auto number = static_cast<size_t>(variant.number);
  std::mt19937_64 random(number + 100 * turn);
  const int64_t dim = kMmaHeadDims[(number + turn) % std::size(kMmaHeadDims)];
  Graph graph = respell(variant.graph, numbers, dim, number == 22 ? dim + 8 : dim);
  graph.precision = variant.graph.precision;
  int refused = 0;
  auto program = EmulatedProgram::create(graph, [&](const TileProgram& tiles, const CudaTarget& target) {
    return choose(setting, tiles, target, refused);
  });
  ASSERT_TRUE(program) << to_string(program.error());
  EXPECT_EQ(refused > 0, is_refused(variant.number, numbers));
  if (refused > 0) return;
  size_t execution = 0;
  for (const Sizes& sizes : setting.sizes) {
    SCOPED_TRACE(fmt::format("{}, {}, d{}", sizes.name, to_string(numbers), dim));
    const DimBindings dims = bind_sizes(graph, sizes);
    std::vector<TestTensor> inputs = variant_inputs(graph, dims, random);
    if (sizes.name == "spoiled") spoil(graph, inputs);
    const std::vector<TensorView> views = views_of(inputs);
    std::vector<TestTensor> outputs;
    for (const ValueId result : graph.results)
      outputs.emplace_back(graph.type(result).dtype, concrete_shape(graph.type(result), dims),
                           static_cast<Layout>(random() % 4), random);
    for (TestTensor& output : outputs) output.poison();
    EmulatorOptions options;
    options.seed = execution;
    options.late_copies = (execution++ + turn) % 2 == 0;
    ASSERT_EQ(program->run(dims, views, views_of(outputs), options), "");
    for (const TestTensor& output : outputs) EXPECT_TRUE(output.gaps_intact());
    auto reports = verify_outputs(graph, dims, views, views_of(outputs));
    ASSERT_TRUE(reports) << to_string(reports.error());
    for (const AccuracyReport& report : *reports) EXPECT_TRUE(report.pass) << report.failure << to_string(report);
  }
}

void check_variant(const Variant& variant, const Setting& setting, size_t turn) {
  const Numbers numbers = kNarrow[(static_cast<size_t>(variant.number) + turn) % std::size(kNarrow)];
  run_numbers(variant, numbers, setting, turn);
}

class FastVariants : public ::testing::TestWithParam<Variant> {};

TEST_P(FastVariants, PrefillMatchesTheOracle) {
  constexpr Tiles kTiles[] = {{32, 32, 2, 2}, {64, 16, 2, 3}, {32, 48, 2, 2}};
  const std::vector<Sizes> sizes = {
      {"ragged", 2, 37, 70},    {"more queries", 1, 50, 23},   {"one query", 2, 1, 60}, {"no keys", 2, 9, 0},
      {"no queries", 1, 0, 20}, {"several blocks", 1, 70, 96}, {"no batch", 0, 20, 30},
  };
  for (size_t turn = 0; turn < 2; ++turn)
    check_variant(GetParam(),
                  {CudaTemplate::sm80_prefill, kTiles[(static_cast<size_t>(GetParam().number) + turn) % 3], 0, sizes},
                  turn);
}

TEST_P(FastVariants, ProductsOfPartsMatchTheOracle) {
  Variant variant = GetParam();
  if (variant.number == 25) return;  // refused: weights without softmax
  for (const PrecisionPolicy policy : {PrecisionPolicy::f32_x3, PrecisionPolicy::bf16}) {
    variant.graph.precision = policy;
    run_numbers(variant, Numbers::f32, {CudaTemplate::sm80_prefill, {32, 16, 2, 2}, 0, {{"ragged", 1, 37, 70}}}, 0);
  }
  if (variant.number != 2) return;
  variant.graph.precision = PrecisionPolicy::f32_x3;
  run_numbers(variant, Numbers::f32, {CudaTemplate::sm80_prefill, {32, 16, 2, 2}, 0, {{"spoiled", 1, 37, 70}}}, 0);
}

TEST_P(FastVariants, DecodeMatchesTheOracle) {
  constexpr Tiles kTiles[] = {{16, 16, 2, 2}, {16, 32, 2, 3}, {16, 16, 4, 2}};
  const std::vector<Sizes> sizes = {
      {"one query", 2, 1, 150}, {"a few queries", 1, 3, 260}, {"more queries", 1, 20, 7},
      {"no keys", 2, 2, 0},     {"no queries", 1, 0, 20},     {"one of each", 3, 1, 1},
  };
  const size_t which = static_cast<size_t>(GetParam().number) % 3;
  check_variant(GetParam(), {CudaTemplate::decode, kTiles[which], 64, sizes}, which);
}

INSTANTIATE_TEST_SUITE_P(Suite, FastVariants, ::testing::ValuesIn(variants(source_dir() + "/examples/variants")),
                         [](const auto& test) { return "variant_" + std::to_string(test.param.number); });

}  // namespace
}  // namespace tilewright::testing
