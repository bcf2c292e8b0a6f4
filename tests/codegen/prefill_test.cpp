// The fast prefill template against a plain evaluation of the spec: dtypes, head dims, lengths, masks, layouts, ISAs.
#include <gtest/gtest.h>

#include "compiler/plan_rules.h"
#include "tests/codegen/jit_support.h"
#include "tests/codegen/template_cases.h"

namespace tilewright::testing {
namespace {

/// Small tiles, so that short sequences meet every kind of block.

/// The same on tiles.
CpuSchedule small_tiles(const TileProgram& program, const CpuTarget& target) {
  CpuSchedule schedule = schedule_amx_prefill(program, target);
  schedule.block_q = 64;
  schedule.block_kv = 32;
  return schedule;
}

/// What rule 19 lets weights be rounded to.
DType weight_type(const CaseOptions& options, const CpuSchedule& schedule) {
  return schedule.kernel == CpuTemplate::amx_prefill && schedule.value_products == 1 ? options.dtype : DType::f64;
}

/// Packed and on-the-fly runs take turns where `both` is not asked for.
void check_prefill(const CaseOptions& options, bool both = false) {
  static int turn = 0;
  ++turn;
  std::mt19937_64 random(1);
  const TileProgram program = build_tile_program(make_case(options, random).spec);
  std::vector<std::pair<CpuTarget, CpuSchedule>> ways;
  for (const CpuTarget& target : runnable_targets()) {
    ASSERT_EQ(refuse_prefill(program, target), "");
    ways.emplace_back(target, small_prefill(program, target));
  }
  for (const CpuTarget& target : tile_targets())
    if (refuse_amx_prefill(program, target).empty()) ways.emplace_back(target, small_tiles(program, target));
  for (const auto& [target, schedule] : ways) {
    for (bool packed : {true, false}) {
      if (!both && packed == (turn % 2 == 0)) continue;
      SCOPED_TRACE(options.text() + " " + print(schedule) + (packed ? "" : " packed on the fly"));
      std::mt19937_64 same(1);
      const AttentionCase test = make_case(options, same);
      run_case(test, schedule, target, packed);
      check_case(test, weight_type(options, schedule));
      if (::testing::Test::HasFailure()) return;
    }
  }
}

TEST(Prefill, HeadDims) {
  for (int64_t dim : {1, 8, 31, 64, 72, 80, 96, 128, 192, 256}) {
    CaseOptions options;
    options.dqk = options.dv = dim;
    options.heads = 1;
    options.sq = 14;
    options.sk = 70;
    options.mask = Mask::causal;
    options.lse = true;
    check_prefill(options, true);
    if (HasFailure()) return;
  }
}

TEST(Prefill, UnequalHeadDims) {
  for (const auto& [dqk, dv] : {std::pair<int64_t, int64_t>{192, 128}, {16, 80}, {40, 7}, {1, 512}, {512, 48}}) {
    CaseOptions options;
    options.dqk = dqk;
    options.dv = dv;
    options.sq = 13;
    options.sk = 70;
    check_prefill(options);
    if (HasFailure()) return;
  }
}

TEST(Prefill, DTypes) {
  for (DType dtype : {DType::f64, DType::f32, DType::f16, DType::bf16}) {
    for (int64_t dim : {64, 20}) {
      for (Mask mask : {Mask::none, Mask::causal_padding}) {
        CaseOptions options;
        options.dtype = options.output = dtype;
        options.dqk = options.dv = dim;
        options.mask = mask;
        options.sq = 26;
        options.sk = 70;
        options.heads = 1;
        options.lse = true;
        check_prefill(options);
        if (HasFailure()) return;
      }
    }
  }
}

TEST(Prefill, Lengths) {
  for (int64_t sq : {0, 1, 12, 25}) {
    for (int64_t sk : {0, 1, 64, 65, 130}) {
      for (Mask mask : {Mask::none, Mask::causal}) {
        CaseOptions options;
        options.sq = sq;
        options.sk = sk;
        options.mask = mask;
        options.heads = 1;
        options.dqk = options.dv = 4;
        options.lse = true;
        check_prefill(options);
        if (HasFailure()) return;
      }
    }
  }
}

TEST(Prefill, MasksAndScores) {
  CaseOptions narrow;
  narrow.heads = narrow.group = 2;
  narrow.sq = 26;
  narrow.sk = 75;
  narrow.dqk = 4;
  narrow.dv = 5;
  for (const CaseOptions& options : mask_and_score_cases(narrow)) {
    check_prefill(options);
    if (HasFailure()) return;
  }
}

/// Units of 32 rows that end anywhere in a block of several steps of 32 keys, in the block's buffers that hold what the
/// block before left, and with references that are outgrown often (1) or rarely (8).
TEST(Prefill, UnitsEndWithinBlocksOfSeveralSteps) {
  for (const CpuTarget& target : tile_targets())
    for (const auto& [dtype, dim] : {std::pair{DType::bf16, int64_t{8}}, {DType::f16, 96}, {DType::f32, 64}})
      for (Mask mask : {Mask::none, Mask::causal, Mask::window})
        for (const auto& [sk, rescale] : {std::pair<int64_t, int64_t>{160, 8}, {416, 1}, {384, 1}}) {
          CaseOptions options;
          options.dtype = options.output = dtype;
          options.dqk = options.dv = dim;
          options.mask = mask;
          options.sq = 70;
          options.sk = sk;
          options.heads = 1;
          options.lse = true;
          std::mt19937_64 random(1);
          AttentionCase test = make_case(options, random);
          const TileProgram program = build_tile_program(test.spec);
          ASSERT_EQ(refuse_amx_prefill(program, target), "");
          CpuSchedule schedule = schedule_amx_prefill(program, target);
          schedule.block_q = 64;
          schedule.block_kv = 128;
          schedule.rescale_log2 = static_cast<int>(rescale);
          SCOPED_TRACE(options.text() + " " + print(schedule));
          run_case(test, schedule, target, true);
          check_case(test, weight_type(options, schedule));
          if (HasFailure()) return;
        }
}

TEST(Prefill, Dropout) {
  CaseOptions rows;
  rows.sq = 26;
  for (const CaseOptions& options : dropout_cases(rows)) {
    check_prefill(options);
    if (HasFailure()) return;
  }
}

TEST(Prefill, Layouts) {
  CaseOptions narrow;
  narrow.heads = 4;
  narrow.sq = 14;
  narrow.sk = 33;
  narrow.dqk = 5;
  narrow.dv = 6;
  for (const CaseOptions& options : layout_cases(narrow)) {
    check_prefill(options);
    if (HasFailure()) return;
  }
}

TEST(Prefill, WithoutSoftmax) {
  CaseOptions rows;
  rows.sq = 33;
  rows.sk = 90;
  for (const CaseOptions& options : unnormalised_cases(rows)) {
    check_prefill(options);
    if (HasFailure()) return;
  }
}

/// The same outputs however K and V are packed and items are shared.
void expect_same_bits(const CaseOptions& options, const CpuTarget& target,
                      CpuSchedule (*schedule)(const TileProgram&, const CpuTarget&)) {
  std::vector<double> first;
  for (bool packed : {true, false})
    for (int64_t pieces : {1, 5}) {
      std::mt19937_64 random(3);
      const AttentionCase test = make_case(options, random);
      run_case(test, schedule(build_tile_program(test.spec), target), target, packed, pieces);
      const std::vector<double> values = output_values(test);
      if (first.empty()) first = values;
      EXPECT_EQ(values, first);
    }
}

TEST(Prefill, SameBitsPackedAndOnTheFly) {
  CaseOptions options;
  options.sq = 100;
  options.sk = 300;
  options.mask = Mask::causal;
  for (const CpuTarget& target : runnable_targets()) expect_same_bits(options, target, small_prefill);
  for (const CpuTarget& target : tile_targets())
    for (const DType dtype : {DType::f32, DType::bf16}) {
      options.dtype = dtype;
      expect_same_bits(options, target, small_tiles);
    }
}

}  // namespace
}  // namespace tilewright::testing
