// Rows of Q and K that are computed where they are packed, on every template: rotations of both layouts, norms, both.
#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include "compiler/plan_rules.h"
#include "ir/interp.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "tests/codegen/jit_support.h"
#include "tests/codegen/template_cases.h"
#include "tests/support/attention_case.h"

namespace tilewright::testing {
namespace {

constexpr Rows kKinds[] = {Rows::rope_half, Rows::rope_interleaved, Rows::rms_norm, Rows::layer_norm, Rows::norm_rope};

/// Every template that takes the case, packed and on the fly.
void check_rows(const CaseOptions& options) {
  for (const CpuTarget& target : runnable_targets()) {
    SCOPED_TRACE(options.text() + " " + std::string(to_string(target.isa)));
    const auto run = [&](const CpuSchedule& schedule, bool packed) {
      SCOPED_TRACE(print(schedule));
      std::mt19937_64 random(1);
      const AttentionCase test = make_case(options, random);
      const Diagnostics errors = verify(test.spec);
      ASSERT_TRUE(errors.empty()) << to_string(errors) << print(test.spec);
      run_case(test, schedule, target, packed);
      check_case(test);
    };
    std::mt19937_64 random(1);
    const TileProgram program = build_tile_program(make_case(options, random).spec);
    run(plan_cpu(program, target, {.force_generic = true}).choices[0].schedule, false);
    if (refuse_prefill(program, target).empty())
      for (bool packed : {true, false}) run(small_prefill(program, target), packed);
    if (refuse_decode(program, target).empty() && options.sq * options.group <= decode_row_limit(program.spec))
      run(schedule_decode(program, target), false);
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(ComputedRows, KindsAndDTypes) {
  for (Rows rows : kKinds)
    for (DType dtype : {DType::f32, DType::bf16, DType::f16, DType::f64}) {
      CaseOptions options;
      options.dtype = dtype;
      options.output = dtype;
      options.query_rows = options.key_rows = rows;
      options.sq = 14;
      options.sk = 70;
      options.dqk = 64;
      options.heads = 4;
      options.group = 2;
      options.mask = Mask::causal;
      check_rows(options);
      if (HasFailure()) return;
    }
}

TEST(ComputedRows, HeadDims) {
  for (Rows rows : kKinds)
    for (int64_t dim : {1, 2, 7, 33, 80, 129}) {
      CaseOptions options;
      options.query_rows = options.key_rows = rows;
      options.sq = 3;
      options.sk = 40;
      options.dqk = dim;
      check_rows(options);
      if (HasFailure()) return;
    }
}

TEST(ComputedRows, OneSideAlone) {
  for (bool query : {true, false}) {
    CaseOptions options;
    (query ? options.query_rows : options.key_rows) = Rows::norm_rope;
    options.dtype = DType::bf16;
    options.sq = 5;
    options.sk = 300;
    options.heads = 6;
    options.group = 3;
    options.mask = Mask::padding;  // NaN in the rows behind it
    options.lse = true;
    check_rows(options);
    if (HasFailure()) return;
  }
}

TEST(ComputedRows, EmptyAndStrided) {
  for (const auto& [sq, sk] : {std::pair<int64_t, int64_t>{0, 5}, {5, 0}, {1, 1}, {29, 65}})
    for (Layout layout : {Layout::contiguous, Layout::gapped, Layout::reversed}) {
      CaseOptions options;
      options.query_rows = Rows::rope_interleaved;
      options.key_rows = Rows::rope_half;
      options.sq = sq;
      options.sk = sk;
      options.layout = layout;
      options.arrangement = Arrangement::bshd;
      check_rows(options);
      if (HasFailure()) return;
    }
}

TEST(ComputedRows, OneTermOfTwo) {
  CaseOptions options;
  options.two_dots = true;
  options.query_rows = options.key_rows = Rows::rope_half;
  check_rows(options);
}

/// A rotation that reads the wrong partner is not what the plain reference gives.
TEST(ComputedRows, WrongPartnerIsCaught) {
  CaseOptions options;
  options.key_rows = Rows::rope_half;
  std::mt19937_64 random(1);
  AttentionCase test = make_case(options, random);
  RowProgram& row = *test.spec.dots[0].key_row;
  std::swap(row.pieces[0].begin, row.pieces[1].begin);
  ASSERT_TRUE(verify(test.spec).empty());
  const CpuTarget target = runnable_targets().back();
  run_case(test, plan_cpu(build_tile_program(test.spec), target, {.force_generic = true}).choices[0].schedule, target);
  ::testing::TestPartResultArray failures;
  {
    const ::testing::ScopedFakeTestPartResultReporter reporter(
        ::testing::ScopedFakeTestPartResultReporter::INTERCEPT_ONLY_CURRENT_THREAD, &failures);
    check_case(test);
  }
  EXPECT_GT(failures.size(), 0);
}

}  // namespace
}  // namespace tilewright::testing
