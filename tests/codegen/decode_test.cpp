// The fast decode template against a plain evaluation of the spec: dtypes, groups, query counts, head dims, lengths,
// masks, layouts, both ISAs, in guarded memory.
#include <gtest/gtest.h>

#include "compiler/plan_rules.h"
#include "tests/codegen/jit_support.h"
#include "tests/support/attention_case.h"

namespace tilewright::testing {
namespace {

void check(const CaseOptions& options, uint64_t seed = 1, int64_t split = 64) {
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

CaseOptions base() {
  CaseOptions options;
  options.sq = 1;
  options.sk = 150;
  options.heads = 4;
  options.group = 4;
  options.dqk = options.dv = 64;
  return options;
}

TEST(Decode, HeadDims) {
  for (int64_t dim : {1, 8, 31, 64, 72, 128, 256})
    for (DType dtype : {DType::f32, DType::bf16}) {
      CaseOptions options = base();
      options.dtype = options.output = dtype;
      options.dqk = options.dv = dim;
      options.lse = true;
      check(options);
      if (HasFailure()) return;
    }
  CaseOptions options = base();
  options.dqk = 192, options.dv = 128;
  for (DType dtype : {DType::f64, DType::f32, DType::f16, DType::bf16}) {
    options.dtype = options.output = dtype;
    check(options);
    if (HasFailure()) return;
  }
}

TEST(Decode, DTypesAndGroups) {
  for (DType dtype : {DType::f64, DType::f32, DType::f16, DType::bf16})
    for (int64_t group : {1, 2, 3, 4, 8})
      for (int64_t sq : {1, 2, 3, 4}) {
        if (dtype != DType::f32 && (group + sq) % 2) continue;
        CaseOptions options = base();
        options.dtype = options.output = dtype;
        options.heads = 2 * group;
        options.group = group;
        options.sq = sq;
        options.batch = 2;
        options.mask = Mask::causal;
        options.lse = true;
        options.dqk = 40;
        check(options, static_cast<uint64_t>(group));
        if (HasFailure()) return;
      }
}

TEST(Decode, Lengths) {
  for (int64_t sq : {0, 1, 3})
    for (int64_t sk : {0, 1, 15, 16, 63, 64, 65, 130, 200})
      for (Mask mask : {Mask::none, Mask::causal, Mask::causal_padding}) {
        CaseOptions options = base();
        options.sq = sq;
        options.sk = sk;
        options.mask = mask;
        options.batch = 2;
        options.lse = true;
        options.dqk = options.dv = 20;
        check(options, static_cast<uint64_t>(sk + 1));
        if (HasFailure()) return;
      }
}

TEST(Decode, MasksAndScores) {
  for (Mask mask : {Mask::none, Mask::causal, Mask::window, Mask::padding, Mask::tensor, Mask::everything})
    for (Score score : {Score::scale, Score::alibi, Score::softcap, Score::bias}) {
      const bool sink = (static_cast<int>(mask) + static_cast<int>(score)) % 2;
      CaseOptions options = base();
      options.mask = mask;
      options.score = score;
      options.sink = options.lse = sink;
      options.group = 2;
      options.batch = 3;
      options.sq = 3;
      options.dqk = 24;
      options.dv = 40;
      check(options);
      if (HasFailure()) return;
    }
}

TEST(Decode, Dropout) {
  for (Mask mask : {Mask::none, Mask::window, Mask::everything})
    for (DType dtype : {DType::f32, DType::f64, DType::bf16}) {
      CaseOptions options = base();
      options.dtype = dtype;
      options.mask = mask;
      options.dropout = true;
      options.lse = true;
      options.batch = options.heads = options.group = 2;
      options.sq = 3;
      options.sk = 103;
      options.dqk = 8;
      options.dv = 12;
      check(options);
      if (HasFailure()) return;
    }
}

TEST(Decode, Layouts) {
  for (Arrangement arrangement : {Arrangement::bhsd, Arrangement::bshd, Arrangement::merged, Arrangement::packed})
    for (Layout layout : {Layout::contiguous, Layout::permuted, Layout::gapped, Layout::reversed})
      for (DType dtype : {DType::f32, DType::bf16}) {
        CaseOptions options = base();
        options.arrangement = arrangement;
        options.layout = layout;
        options.dtype = options.output = dtype;
        options.group = 2;
        options.batch = 2;
        options.sq = 2;
        options.mask = Mask::causal_padding;
        options.dqk = 32;
        options.lse = true;
        check(options, 7);
        if (HasFailure()) return;
      }
}

TEST(Decode, WithoutNormaliser) {
  for (Mask mask : {Mask::none, Mask::causal, Mask::everything}) {
    CaseOptions options = base();
    options.normaliser = Normaliser::none;
    options.mask = mask;
    options.sq = 2;
    check(options);
    if (HasFailure()) return;
  }
}

TEST(Decode, MoreRowsThanOneTileTakes) {
  CaseOptions options = base();
  options.sq = 9;
  options.mask = Mask::causal;
  check(options);
}

TEST(Decode, ResultsDoNotDependOnHowItemsAreShared) {
  CaseOptions options = base();
  options.sk = 700;
  for (const CpuTarget& target : runnable_targets()) {
    std::vector<double> first;
    for (int64_t pieces : {1, 2, 7}) {
      std::mt19937_64 random(3);
      const AttentionCase test = make_case(options, random);
      run_case(test, schedule_decode(build_tile_program(test.spec), target), target, true, pieces);
      const TestTensor& out = test.tensors[static_cast<size_t>(test.spec.output.tensor)];
      std::vector<double> values;
      for (int64_t i = 0; i < out.size(); ++i) values.push_back(out.get(i));
      if (first.empty()) first = values;
      EXPECT_EQ(first, values);
    }
  }
}

}  // namespace
}  // namespace tilewright::testing
