// The fast decode template against a plain evaluation of the spec: dtypes, groups, query counts, head dims, lengths,
// masks, layouts, both ISAs, in guarded memory.
#include <gtest/gtest.h>

#include "compiler/plan_rules.h"
#include "tests/codegen/jit_support.h"
#include "tests/codegen/template_cases.h"

namespace tilewright::testing {
namespace {

void check_decode(const CaseOptions& options, uint64_t seed = 1, int64_t split = 64) {
  for (const CpuTarget& target : runnable_targets()) {
    SCOPED_TRACE(options.text() + " " + std::string(to_string(target.isa)));
    std::mt19937_64 random(seed);
    const AttentionCase test = make_case(options, random);
    const TileProgram program = build_tile_program(test.spec);
    ASSERT_EQ(refuse_decode(program, target), "");
    CpuSchedule schedule = schedule_decode(program, target);
    schedule.split_kv = split;
    schedule.block_kv = 32;
    run_case(test, schedule, target);
    check_case(test);
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(Decode, HeadDims) {
  for (int64_t dim : {1, 8, 31, 64, 72, 128, 256})
    for (DType dtype : {DType::f32, DType::bf16}) {
      CaseOptions options = one_query();
      options.dtype = options.output = dtype;
      options.dqk = options.dv = dim;
      options.lse = true;
      check_decode(options);
      if (HasFailure()) return;
    }
  CaseOptions options = one_query();
  options.dqk = 192, options.dv = 128;
  for (DType dtype : {DType::f64, DType::f32, DType::f16, DType::bf16}) {
    options.dtype = options.output = dtype;
    check_decode(options);
    if (HasFailure()) return;
  }
}

TEST(Decode, DTypesAndGroups) {
  for (DType dtype : {DType::f64, DType::f32, DType::f16, DType::bf16})
    for (int64_t group : {1, 2, 3, 4, 8})
      for (int64_t sq : {1, 2, 3, 4}) {
        if (dtype != DType::f32 && (group + sq) % 2) continue;
        CaseOptions options = one_query();
        options.dtype = options.output = dtype;
        options.heads = 2 * group;
        options.group = group;
        options.sq = sq;
        options.batch = 2;
        options.mask = Mask::causal;
        options.lse = true;
        options.dqk = 40;
        check_decode(options, static_cast<uint64_t>(group));
        if (HasFailure()) return;
      }
}

TEST(Decode, Lengths) {
  for (int64_t sq : {0, 1, 3})
    for (int64_t sk : {0, 1, 15, 16, 63, 64, 65, 130, 200})
      for (Mask mask : {Mask::none, Mask::causal, Mask::causal_padding}) {
        CaseOptions options = one_query();
        options.sq = sq;
        options.sk = sk;
        options.mask = mask;
        options.batch = 2;
        options.lse = true;
        options.dqk = options.dv = 20;
        check_decode(options, static_cast<uint64_t>(sk + 1));
        if (HasFailure()) return;
      }
}

TEST(Decode, MasksAndScores) {
  CaseOptions wide = one_query();
  wide.group = 2;
  wide.batch = 3;
  wide.sq = 3;
  wide.dqk = 24;
  wide.dv = 40;
  for (const CaseOptions& options : mask_and_score_cases(wide)) {
    check_decode(options);
    if (HasFailure()) return;
  }
}

TEST(Decode, Dropout) {
  CaseOptions three_rows = one_query();
  three_rows.sq = 3;
  for (const CaseOptions& options : dropout_cases(three_rows)) {
    check_decode(options);
    if (HasFailure()) return;
  }
}

TEST(Decode, Layouts) {
  CaseOptions two_rows = one_query();
  two_rows.sq = 2;
  two_rows.dqk = 32;
  for (const CaseOptions& options : layout_cases(two_rows)) {
    check_decode(options, 7);
    if (HasFailure()) return;
  }
}

TEST(Decode, WithoutNormaliser) {
  CaseOptions two_rows = one_query();
  two_rows.sq = 2;
  for (const CaseOptions& options : unnormalised_cases(two_rows)) {
    check_decode(options);
    if (HasFailure()) return;
  }
}

TEST(Decode, MoreRowsThanOneTileTakes) {
  CaseOptions options = one_query();
  options.sq = 9;
  options.mask = Mask::causal;
  check_decode(options);
}

TEST(Decode, ResultsDoNotDependOnHowItemsAreShared) {
  CaseOptions options = one_query();
  options.sk = 700;
  for (const CpuTarget& target : runnable_targets()) {
    std::vector<double> first;
    for (int64_t pieces : {1, 2, 7}) {
      std::mt19937_64 random(3);
      const AttentionCase test = make_case(options, random);
      run_case(test, schedule_decode(build_tile_program(test.spec), target), target, true, pieces);
      const std::vector<double> values = output_values(test);
      if (first.empty()) first = values;
      EXPECT_EQ(first, values);
    }
  }
}

}  // namespace
}  // namespace tilewright::testing
