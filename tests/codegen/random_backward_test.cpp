// Random backward specs: they print what parses back, and interpreter = generic = fast.
#include "tests/support/random_backward.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <map>

#include "compiler/plan_rules.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "tests/support/random_run.h"
#include "tests/support/spec_kernel.h"

namespace tilewright::testing {
namespace {

constexpr uint64_t kCases = 100;
constexpr double kFastShare = 0.8;

void expect_round_trip(const BackwardSpec& spec) {
  const Diagnostics wrong = verify(spec);
  ASSERT_TRUE(wrong.empty()) << to_string(wrong) << print(spec);
  const std::string once = print(spec);
  const auto again = parse_backward(once);
  ASSERT_TRUE(again) << to_string(again.error()) << "\n" << once;
  EXPECT_EQ(print(*again), once);
  EXPECT_TRUE(verify(*again).empty());
}

/// The plan's own schedule with random small tiles, so that sequences meet every kind of block.
CpuSchedule drawn_schedule(CpuSchedule schedule, std::mt19937_64& random) {
  const bool fast = schedule.kernel != CpuTemplate::generic;
  const auto times = [&](int64_t unit, uint64_t most) { return unit * (1 + static_cast<int64_t>(random() % most)); };
  schedule.block_q = schedule.strip_rows = fast ? times(schedule.mr, 4) : times(1, 20);
  schedule.block_kv = fast ? times(schedule.nr(), 2) : times(1, 40);
  schedule.chunk_kv = times(schedule.block_kv, 3);
  return schedule;
}

TEST(RandomBackward, TextOracleGenericAndFastAgree) {
  const std::vector<CpuTarget> targets = runnable_targets();
  const SeedRange seeds = seed_range(kCases);
  uint64_t fast = 0;
  for (uint64_t seed = seeds.first; seed < seeds.first + seeds.cases; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const CpuTarget& target = targets[seed % targets.size()];
    std::vector<OracleTensor> want;
    for (bool generic : {true, false}) {
      const BackwardCase test = random_backward_case(seed);  // poisoned outputs anew
      if (generic) {
        expect_round_trip(test.spec);
        want = expected_gradients(test);
      }
      const CpuPlan plan = plan_backward(test.spec, target, {generic});
      const CpuSchedule& chosen = plan.choices[0].schedule;
      if (!generic && chosen.kernel == CpuTemplate::generic) break;  // refused
      fast += !generic;
      std::mt19937_64 random(seed);
      const CpuSchedule schedule = drawn_schedule(chosen, random);
      run_backward_case(test, schedule, target, static_cast<int>(1 + seed % 3));
      check_backward_case(test, want);
      ASSERT_FALSE(HasFailure()) << print(schedule) << "\n" << test.options.text() << "\n" << print(test.spec);
    }
  }
  const double share = static_cast<double>(fast) / static_cast<double>(seeds.cases);
  std::printf("%lu random backward specs, fast takes %.1f %%\n", static_cast<unsigned long>(seeds.cases), 100 * share);
  if (seeds.full) {
    EXPECT_GE(share, kFastShare);
  }
}

/// Those of them that tiles take: bf16, and f32 and f16 in parts, by six products of f32 or three.
TEST(RandomBackward, TilesAgreeWithTheOracle) {
  const std::vector<CpuTarget> targets = tile_targets();
  if (targets.empty()) GTEST_SKIP() << "this CPU lacks AVX-512, on which tiles are emulated";
  const SeedRange seeds = seed_range(kCases);
  std::map<int64_t, uint64_t> tiled;  // by products of the gradients
  for (uint64_t seed = seeds.first; seed < seeds.first + seeds.cases; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    BackwardCase test = random_backward_case(seed);
    if (seed % 3 == 0) test.spec.precision = PrecisionPolicy::f32_x3;
    const CpuTarget& target = targets[seed % targets.size()];
    if (!refuse_amx_backward(test.spec, target).empty()) continue;
    std::mt19937_64 random(seed);
    const CpuSchedule schedule = drawn_schedule(schedule_amx_backward(test.spec, target), random);
    ++tiled[schedule.value_products];
    run_backward_case(test, schedule, target, static_cast<int>(1 + seed % 3));
    const double narrow = schedule.value_products == 1 ? kNarrowWeights : schedule.value_products == 3 ? 0x1p-12 : 0;
    check_backward_case(test, expected_gradients(test), narrow);
    ASSERT_FALSE(HasFailure()) << print(schedule) << "\n" << test.options.text() << "\n" << print(test.spec);
  }
  std::printf("of %lu random backward specs %lu run by one product of tiles, %lu by three, %lu by six\n",
              static_cast<unsigned long>(seeds.cases), static_cast<unsigned long>(tiled[1]),
              static_cast<unsigned long>(tiled[3]), static_cast<unsigned long>(tiled[6]));
  if (seeds.full) {
    for (const int64_t products : {1, 3, 6}) EXPECT_GE(tiled[products], 5u);
  }
}

}  // namespace
}  // namespace tilewright::testing
