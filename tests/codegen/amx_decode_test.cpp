// Decode on AMX tiles, emulated, against a plain evaluation of the spec: groups, query counts, head dims, lengths,
// masks, layouts, infinities; what it refuses; and the instructions of the native body.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "compiler/plan_rules.h"
#include "runtime/cpu_detect.h"
#include "tests/codegen/jit_support.h"
#include "tests/codegen/template_cases.h"

namespace tilewright::testing {
namespace {

AttentionCase make_narrow_case(CaseOptions options, uint64_t seed) {
  options.dtype = options.output = DType::bf16;
  std::mt19937_64 random(seed);
  AttentionCase test = make_case(options, random);
  test.spec.weights = DType::bf16;
  return test;
}

CpuSchedule small_amx_decode(const TileProgram& program, const CpuTarget& target) {
  CpuSchedule schedule = schedule_amx_decode(program, target);
  schedule.split_kv = 96;
  schedule.block_kv = 48;
  return schedule;
}

class AmxDecode : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto target = target_at(CpuIsa::amx_emulated);
    if (!target) GTEST_SKIP() << to_string(target.error());
    target_ = *target;
  }

  void run(const AttentionCase& test, int64_t pieces = 3) const {
    const TileProgram program = build_tile_program(test.spec);
    ASSERT_EQ(refuse_decode(program, target_), "");
    ASSERT_EQ(refuse_amx_decode(program, target_), "");
    run_case(test, small_amx_decode(program, target_), target_, true, pieces);
  }
  void check(const CaseOptions& options, uint64_t seed = 1) const {
    SCOPED_TRACE(options.text());
    const AttentionCase test = make_narrow_case(options, seed);
    run(test);
    check_case(test);
  }
  void check_all(const std::vector<CaseOptions>& cases, uint64_t seed = 1) const {
    for (const CaseOptions& options : cases) {
      if (options.dtype == DType::f64) continue;
      check(options, seed);
      if (HasFailure()) return;
    }
  }

  CpuTarget target_;
};

std::vector<CaseOptions> with_whole_tiles(std::vector<CaseOptions> cases) {
  for (CaseOptions& options : cases) options.dqk = options.dv = 32;
  return cases;
}

TEST_F(AmxDecode, HeadDims) {
  for (const auto& [dqk, dv] : {std::pair<int64_t, int64_t>{32, 32},
                                {64, 64},
                                {96, 96},
                                {128, 128},
                                {192, 128},
                                {32, 160},
                                {512, 512},
                                {2, 2},
                                {16, 8},
                                {40, 40},
                                {80, 80},
                                {72, 112},
                                {100, 62}}) {
    CaseOptions options = one_query();
    options.dqk = dqk;
    options.dv = dv;
    options.lse = true;
    check(options);
    if (HasFailure()) return;
  }
}

TEST_F(AmxDecode, GroupsAndQueries) {
  for (int64_t group : {1, 2, 3, 4, 5, 8, 16, 20})
    for (int64_t sq : {1, 2, 5}) {
      CaseOptions options = one_query();
      options.group = group;
      options.heads = 2 * group;
      options.sq = sq;
      options.batch = 2;
      options.mask = Mask::causal;
      options.lse = true;
      options.dqk = options.dv = 32;
      check(options, static_cast<uint64_t>(group));
      if (HasFailure()) return;
    }
}

TEST_F(AmxDecode, Lengths) {
  for (int64_t sk : {0, 1, 15, 16, 17, 31, 32, 33, 47, 48, 49, 95, 96, 97, 130, 200})
    for (Mask mask : {Mask::none, Mask::causal, Mask::causal_padding}) {
      CaseOptions options = one_query();
      options.sq = 2;
      options.sk = sk;
      options.mask = mask;
      options.batch = 2;
      options.lse = true;
      options.dqk = options.dv = 32;
      check(options, static_cast<uint64_t>(sk + 1));
      if (HasFailure()) return;
    }
}

TEST_F(AmxDecode, MasksAndScores) {
  CaseOptions wide = one_query();
  wide.group = 2;
  wide.batch = 3;
  wide.sq = 3;
  std::vector<CaseOptions> cases = with_whole_tiles(mask_and_score_cases(wide));
  std::erase_if(cases, [](const CaseOptions& options) { return !options.sink; });
  check_all(cases);
}

/// What units of 32 columns leave: nothing is read past a row or a tensor, nothing else is written.
TEST_F(AmxDecode, RestsOfHeadDims) {
  for (int64_t sk : {1, 17, 96, 150})
    for (int64_t group : {1, 3, 16}) {
      CaseOptions options = one_query();
      options.sk = sk;
      options.group = group;
      options.heads = 2 * group;
      options.sq = 2;
      options.batch = 2;
      options.mask = Mask::causal_padding;
      options.lse = true;
      options.dqk = 40;
      options.dv = 72;
      check(options, static_cast<uint64_t>(sk));
      if (HasFailure()) return;
    }
  std::vector<CaseOptions> cases = layout_cases(one_query());
  for (CaseOptions& options : cases) options.dqk = options.dv = 40;
  check_all(cases, 7);
}

TEST_F(AmxDecode, Dropout) { check_all(with_whole_tiles(dropout_cases(one_query()))); }
TEST_F(AmxDecode, WithoutNormaliser) { check_all(with_whole_tiles(unnormalised_cases(one_query()))); }

TEST_F(AmxDecode, Layouts) {
  CaseOptions two_rows = one_query();
  two_rows.sq = 2;
  check_all(with_whole_tiles(layout_cases(two_rows)), 7);
}

TEST_F(AmxDecode, ComputedQueries) {
  for (Rows rows : {Rows::rope_half, Rows::norm_rope}) {
    CaseOptions options = one_query();
    options.query_rows = rows;
    AttentionCase test = make_narrow_case(options, 1);
    test.spec.dots[0].query_row->dtype = DType::bf16;
    run(test);
    if (HasFailure()) return;
    check_case(test);  // the reference does not round the rows; outputs of bf16 bear what that moves scores by
  }
}

/// An infinite value stays in its own column, and keys and weights that are not finite do what they do in f32.
TEST_F(AmxDecode, InfinitiesAndNaNsStayWhereTheyBelong) {
  for (const double odd : {HUGE_VAL, -HUGE_VAL, std::numeric_limits<double>::quiet_NaN()})
    for (const bool in_value : {true, false}) {
      CaseOptions options = one_query();
      options.lse = true;
      AttentionCase test = make_narrow_case(options, 5);
      const int tensor = in_value ? test.spec.value.tensor : test.spec.dots[0].key.tensor;
      TestTensor& changed = test.tensors[static_cast<size_t>(tensor)];
      changed.set(77 * 64 + 6, odd);  // of key 77, column 6
      run(test);
      const TestTensor& out = test.tensors[static_cast<size_t>(test.spec.output.tensor)];
      for (int64_t i = 0; i < out.size() && in_value; ++i) {
        const double x = out.get(i);
        const bool own = i % 64 == 6;
        EXPECT_TRUE(own ? (std::isnan(odd) ? std::isnan(x) : x == odd) : std::isfinite(x)) << i << ": " << x;
      }
      if (!in_value) check_case(test);
      if (HasFailure()) return;
    }
}

TEST_F(AmxDecode, ResultsDoNotDependOnHowItemsAreShared) {
  CaseOptions options = one_query();
  options.sk = 700;
  std::vector<double> first;
  for (int64_t pieces : {1, 2, 7}) {
    const AttentionCase test = make_narrow_case(options, 3);
    run(test, pieces);
    const std::vector<double> values = output_values(test);
    if (first.empty()) first = values;
    EXPECT_EQ(first, values);
  }
}

TEST_F(AmxDecode, IsTakenWhereTilesReadWhatLiesThere) {
  const auto reason = [&](const std::function<void(AttentionSpec&)>& change, CaseOptions options = one_query()) {
    AttentionCase test = make_narrow_case(options, 1);
    change(test.spec);
    return refuse_amx_decode(build_tile_program(test.spec), target_);
  };
  EXPECT_EQ(reason([](AttentionSpec&) {}), "");
  EXPECT_EQ(reason([](AttentionSpec& spec) { spec.weights = DType::f32; }),
            "the weights are declared f32 where they meet V, so that they may not be rounded to bf16");
  EXPECT_EQ(reason([](AttentionSpec& spec) {
              spec.weights = DType::f32;
              spec.precision = PrecisionPolicy::bf16;
            }),
            "");
  EXPECT_EQ(reason([](AttentionSpec& spec) { spec.tensors[1].type.dtype = DType::f16; }),
            "%k is f16, and tiles read bf16 where it lies");
  CaseOptions odd = one_query();
  odd.dqk = 41;
  EXPECT_EQ(reason([](AttentionSpec&) {}, odd), "head dim 41 is odd, and tiles read pairs of columns where they lie");
  CaseOptions rotated = one_query();
  rotated.key_rows = Rows::rope_half;
  EXPECT_EQ(reason([](AttentionSpec&) {}, rotated), "rows of K are computed, and tiles read K where it lies");
  rotated.key_rows = Rows::stored;
  rotated.query_rows = Rows::rope_half;
  EXPECT_EQ(reason([](AttentionSpec&) {}, rotated),
            "rows of Q are computed in f32 and declared no narrower, so that they may not be rounded to bf16");

  const AttentionCase test = make_narrow_case(one_query(), 1);
  const CpuPlan plan = plan_cpu(build_tile_program(test.spec), target_);
  EXPECT_EQ(plan.choices[0].schedule.kernel, CpuTemplate::amx_decode);
  EXPECT_EQ(plan.choices[0].schedule.arithmetic,
            "scores by one bf16 product each, outputs by one bf16 product, on tiles, added in f32");
  CpuTarget without = target_;
  without.isa = CpuIsa::avx512;
  EXPECT_EQ(plan_cpu(build_tile_program(test.spec), without).choices[0].schedule.kernel, CpuTemplate::decode);
}

/// What was emitted is what the assembly has: no tile is spilled or moved.
TEST(AmxDecodeNative, TilesAreTheInstructions) {
  CpuTarget target = detect_cpu();
  target.isa = CpuIsa::amx;
  CaseOptions options = one_query();
  options.dqk = options.dv = 128;
  const AttentionCase test = make_narrow_case(options, 1);
  const TileProgram program = build_tile_program(test.spec);
  CpuKernelSource source = generate_attention(program, schedule_amx_decode(program, target), target, "native");
  EXPECT_TRUE(source.launch.native_tiles);
  const auto object = compile_module(std::move(source.module), target, {.verify = true, .want_text = true});
  ASSERT_TRUE(object) << to_string(object.error());
  const std::string& text = object->assembly;
  // Scores: of two groups and of one, four steps of depth. Outputs: two units of columns in a loop.
  EXPECT_EQ(occurrences(text, "tdpbf16ps"), 4 * (2 + 1) + 2 * 2);
  EXPECT_EQ(occurrences(text, "tileloadd"), 4 * (3 + 2) + 4 + 2 + 2);
  EXPECT_EQ(occurrences(text, "tilestored"), 2 + 1 + 4);
  EXPECT_EQ(occurrences(text, "tilezero"), 2 + 1);
  EXPECT_EQ(occurrences(text, "ldtilecfg"), 2);
  EXPECT_EQ(occurrences(text, "tilerelease"), 2);
}

}  // namespace
}  // namespace tilewright::testing
