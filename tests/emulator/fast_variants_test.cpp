// Every variant of the suite on the mma.sync templates, on the emulator, against the oracle (semantics 19): 16-bit
// numbers, head dims, several schedules, seeds and both extremes of the asynchronous copies, ragged and empty shapes.
#include <gtest/gtest.h>

#include "compiler/plan_cuda_decode.h"
#include "compiler/plan_sm80_prefill.h"
#include "tests/emulator/variant_runs.h"
#include "tests/support/input_family.h"

namespace tilewright::testing {
namespace {

constexpr Numbers kNarrow[] = {Numbers::bf16, Numbers::f16, Numbers::bf16_cast, Numbers::f16_cast};
constexpr int64_t kMmaHeadDims[] = {64, 24, 80, 31, 40, 96};

struct Tiles {
  int64_t block_q, block_kv, warps, stages;
};

/// Variants that these templates refuse, each with its reason in the plan: a sum of two products, and weights without
/// softmax that are declared f32 and may not be rounded.
bool is_refused(const Variant& variant, Numbers numbers) {
  const bool wide = numbers != Numbers::bf16 && numbers != Numbers::f16;
  return variant.number == 23 || (variant.number == 25 && wide && variant.graph.precision != PrecisionPolicy::bf16);
}

struct Setting {
  CudaTemplate kernel;
  Tiles tiles;
  int64_t split_kv;
  int64_t products;
  std::vector<Sizes> sizes;
};

/// The setting's schedule where the template takes the program; the generic one and a tally where it does not.
CudaSchedule choose(const Setting& setting, const TileProgram& program, const CudaTarget& target, int& refused) {
  if (const auto rules = schedule_of(setting.kernel, program, target)) {
    CudaSchedule s = *rules;
    s.reasons.clear();
    if (setting.kernel == CudaTemplate::sm80_prefill) s.block_q = setting.tiles.block_q;
    s.block_kv = setting.tiles.block_kv;
    s.warps = setting.tiles.warps;
    s.stages = setting.tiles.stages;
    s.split_kv = setting.split_kv;
    if (s.products > 1) s.products = setting.products;
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
  Graph graph = spell(variant, numbers, dim, number == 22 ? dim + 8 : dim);
  graph.precision = variant.graph.precision;
  int refused = 0;
  const auto program = EmulatedProgram::create(graph, [&](const TileProgram& tiles, const CudaTarget& target) {
    return choose(setting, tiles, target, refused);
  });
  ASSERT_TRUE(program) << to_string(program.error());
  EXPECT_EQ(refused > 0, is_refused(variant, numbers)) << to_string(numbers);
  if (refused > 0) return;
  size_t execution = 0;
  for (Sizes sizes : setting.sizes) {
    if (variant.number == 20) sizes.sq = std::min<int64_t>(sizes.sq, 5);  // thread blocks of one query
    SCOPED_TRACE(fmt::format("{}, d{}", to_string(numbers), dim));
    OracleRun run{sizes};
    run.options.seed = execution;
    run.options.late_copies = (execution++ + turn) % 2 == 0;
    if (sizes.name == "spoiled") run.spoil = spoil;
    check_against_oracle(*program, graph, run, random);
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
    check_variant(
        GetParam(),
        {CudaTemplate::sm80_prefill, kTiles[(static_cast<size_t>(GetParam().number) + turn) % 3], 0, 1, sizes}, turn);
}

/// f32 through three and six products of bf16 parts, and through one of rounded operands.
TEST_P(FastVariants, ProductsOfPartsMatchTheOracle) {
  Variant variant = GetParam();
  const auto check = [&](PrecisionPolicy policy, int64_t products, const Sizes& sizes) {
    variant.graph.precision = policy;
    run_numbers(variant, Numbers::f32, {CudaTemplate::sm80_prefill, {32, 16, 2, 2}, 0, products, {sizes}}, 0);
  };
  const Sizes ragged{"ragged", 1, 37, 70}, spoiled{"spoiled", 1, 37, 70};
  check(PrecisionPolicy::f32_x3, 3, ragged);
  check(PrecisionPolicy::f32_x3, 6, ragged);
  check(PrecisionPolicy::bf16, 1, ragged);
  if (variant.number != 2) return;
  for (const int64_t products : {3, 6}) check(PrecisionPolicy::f32_x3, products, spoiled);
}

TEST_P(FastVariants, DecodeMatchesTheOracle) {
  constexpr Tiles kTiles[] = {{16, 16, 2, 2}, {16, 32, 2, 3}, {16, 16, 4, 2}};
  const std::vector<Sizes> all = {
      {"one query", 2, 1, 150}, {"a few queries", 1, 3, 260}, {"more queries", 1, 20, 7}, {"no keys", 2, 2, 0},
      {"no queries", 1, 0, 20}, {"one of each", 3, 1, 1},     {"no batch", 0, 2, 70},
  };
  const std::vector<Sizes> some = {{"one query", 2, 1, 150}, {"a few queries", 1, 3, 260}};
  for (size_t turn = 0; turn < 2; ++turn) {
    const size_t which = (static_cast<size_t>(GetParam().number) + turn) % 3;
    check_variant(GetParam(), {CudaTemplate::decode, kTiles[which], turn ? 128 : 64, 1, turn ? some : all}, which);
  }
}

/// R23: six products of three parts are as good as f32, whatever the numbers are.
TEST(SixProducts, HoldTheRuleOfF32OnEveryFamilyOfInputs) {
  for (const int number : {1, 2}) {
    Graph graph = respell(all_variants(variant_folder())[static_cast<size_t>(number - 1)].graph, Numbers::f32, 40, 40);
    Graph parts = graph;
    parts.precision = PrecisionPolicy::f32_x3;
    int refused = 0;
    const Setting setting{CudaTemplate::sm80_prefill, {32, 16, 2, 2}, 0, 6, {}};
    const auto program = EmulatedProgram::create(parts, [&](const TileProgram& tiles, const CudaTarget& target) {
      return choose(setting, tiles, target, refused);
    });
    ASSERT_TRUE(program) << to_string(program.error());
    ASSERT_EQ(refused, 0);
    for (const Family family : kFamilies) {
      std::mt19937_64 random(static_cast<uint64_t>(number));
      OracleRun run{{std::string(to_string(family)), 1, 37, 70}};
      run.spoil = [&](const Graph& of, std::vector<TestTensor>& inputs) {
        for (size_t i = 0; i < inputs.size(); ++i)
          if (const std::string& name = of[of.params[i]].name; name == "q" || name == "k" || name == "v")
            fill_family(inputs[i], family, random);
      };
      check_against_oracle(*program, graph, run, random);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Suite, FastVariants, ::testing::ValuesIn(all_variants(variant_folder())), variant_name);

}  // namespace
}  // namespace tilewright::testing
