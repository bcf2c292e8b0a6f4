// The sm_90a prefill on the emulator: every variant of the suite that it takes against the oracle (semantics 19).
#include "tests/emulator/sm90_case.h"
#include "tests/emulator/variant_runs.h"

namespace tilewright::testing {
namespace {

constexpr int64_t kSm90HeadDims[] = {64, 32, 72, 16, 128};
const Sizes kSm90Sizes[] = {
    {"several blocks", 1, 150, 170}, {"ragged", 2, 19, 37},    {"more queries", 1, 137, 70},
    {"several items", 2, 70, 140},   {"one query", 2, 1, 150},
};
/// Every variant meets these.
const Sizes kEmptySizes[] = {{"no keys", 2, 9, 0}, {"no queries", 2, 0, 150}, {"no batch", 0, 9, 150}};

/// The rules' own tiles, or small ones that make the rings turn over; the generic template where this one refuses.
CudaSchedule choose(const TileProgram& program, const CudaTarget& target, bool small) {
  const auto rules = schedule_of(CudaTemplate::sm90_prefill, program, target);
  if (!rules) return generic_schedule(program, target);
  return small ? sm90_schedule(std::min<int64_t>(rules->block_kv, 32), 2) : *rules;
}

class Sm90Variants : public ::testing::TestWithParam<Variant> {};

TEST_P(Sm90Variants, MatchTheOracle) {
  const Variant& variant = GetParam();
  const auto number = static_cast<size_t>(variant.number);
  if (number == 20 || number == 23) return;  // refused: see Coverage
  std::mt19937_64 random(number);
  const int64_t dim = kSm90HeadDims[number % std::size(kSm90HeadDims)];
  const Numbers numbers = number % 2 == 0 ? Numbers::bf16 : Numbers::f16;
  const Graph graph = spell(variant, numbers, number == 22 ? 192 : dim, number == 22 ? 128 : dim);
  CudaTarget target = *parse_cuda_target("sm_90a");
  target.multiprocessors = 3;
  const std::vector<EmulatorOptions> executions = sm90_executions(2);
  for (const bool small : {true, false}) {
    int attentions = 0, taken = 0;
    std::string reason;
    const auto program = EmulatedProgram::create(
        graph,
        [&](const TileProgram& tiles, const CudaTarget& on) {
          const CudaSchedule schedule = choose(tiles, on, small);
          ++attentions;
          taken += schedule.kernel == CudaTemplate::sm90_prefill;
          reason = refusal_of(CudaTemplate::sm90_prefill, tiles, on);
          return schedule;
        },
        target);
    ASSERT_TRUE(program) << to_string(program.error());
    EXPECT_GE(attentions, 1);
    EXPECT_EQ(taken, attentions) << reason;
    for (const Sizes& sizes : kEmptySizes)
      check_against_oracle(*program, graph, {sizes, executions[number % executions.size()], true}, random);
    for (size_t turn = 0; turn < (small ? 3 : 1); ++turn) {
      const Sizes& sizes =
          small ? kSm90Sizes[turn == 0 ? 0 : (number + 2 * turn) % std::size(kSm90Sizes)] : kSm90Sizes[1];
      check_against_oracle(*program, graph, {sizes, executions[(number + 3 * turn) % executions.size()], true}, random);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Suite, Sm90Variants, ::testing::ValuesIn(all_variants(variant_folder())), variant_name);

}  // namespace
}  // namespace tilewright::testing
