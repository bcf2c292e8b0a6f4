// The backward template on AMX tiles, emulated where the CPU has none: against the f64 evaluation of its spec, bit for
// bit the same with any number of workers, refusals, and what the native module is made of.
#include <gtest/gtest.h>

#include "runtime/cpu_detect.h"
#include "tests/support/backward_case.h"
#include "tests/support/spec_kernel.h"

namespace tilewright::testing {
namespace {

BackwardOptions options_of(int64_t sq, int64_t sk, int64_t dim, Mask mask = Mask::none) {
  BackwardOptions options;
  options.forward.dtype = options.forward.output = DType::bf16;
  options.forward.sq = sq;
  options.forward.sk = sk;
  options.forward.dqk = options.forward.dv = dim;
  options.forward.heads = 1;
  options.forward.mask = mask;
  return options;
}

/// Tiles so small that short sequences meet every kind of block.
CpuSchedule small_schedule(const BackwardCase& test, const CpuTarget& target) {
  CpuSchedule schedule = plan_backward(test.spec, target).choices[0].schedule;
  EXPECT_EQ(schedule.kernel, CpuTemplate::amx_backward);
  schedule.block_q = schedule.block_kv = 64;
  schedule.chunk_kv = 128;
  return schedule;
}

void check(const BackwardOptions& options, int workers = 1) {
  for (const CpuTarget& target : tile_targets()) {
    SCOPED_TRACE(options.text() + " " + std::string(to_string(target.isa)));
    std::mt19937_64 random(1);
    const BackwardCase test = make_backward_case(options, random);
    run_backward_case(test, small_schedule(test, target), target, workers);
    check_backward_case(test, expected_gradients(test), kNarrowWeights);
  }
}

TEST(AmxBackward, HeadDims) {
  for (int64_t dim : {1, 31, 64, 80, 200}) {
    check(options_of(70, 150, dim, Mask::causal));
    if (HasFailure()) return;
  }
  BackwardOptions options = options_of(30, 70, 24);
  options.forward.dv = 48;
  check(options);
  options.forward.dqk = 72;
  options.forward.dv = 5;
  check(options);
}

TEST(AmxBackward, WideHeads) { check(options_of(40, 70, 512)); }

TEST(AmxBackward, MasksAndLengths) {
  for (Mask mask :
       {Mask::none, Mask::causal, Mask::window, Mask::padding, Mask::causal_padding, Mask::tensor, Mask::everything})
    for (auto [sq, sk] : {std::pair<int64_t, int64_t>{1, 1}, {33, 290}, {150, 65}}) {
      BackwardOptions options = options_of(sq, sk, 16, mask);
      options.forward.batch = 2;
      options.forward.heads = 2;
      check(options);
      if (HasFailure()) return;
    }
}

TEST(AmxBackward, EmptySequences) {
  for (auto [sq, sk] : {std::pair<int64_t, int64_t>{0, 7}, {7, 0}, {0, 0}}) {
    BackwardOptions options = options_of(sq, sk, 16);
    options.row_sum = options.key_sum = options.table = true;
    check(options);
    if (HasFailure()) return;
  }
}

TEST(AmxBackward, Arrangements) {
  for (Arrangement arrangement : {Arrangement::bhsd, Arrangement::bshd, Arrangement::merged, Arrangement::packed})
    for (Layout layout : {Layout::contiguous, Layout::gapped, Layout::reversed}) {
      BackwardOptions options = options_of(20, 140, 17, Mask::causal_padding);
      options.forward.heads = 6;
      options.forward.group = 3;
      options.forward.arrangement = arrangement;
      options.forward.layout = layout;
      options.forward.score = Score::bias;
      options.captured = true;
      check(options);
      if (HasFailure()) return;
    }
}

TEST(AmxBackward, Captured) {
  for (Score score : {Score::alibi, Score::softcap, Score::bias}) {
    BackwardOptions options = options_of(40, 150, 16, Mask::causal);
    options.forward.batch = 2;
    options.forward.heads = 2;
    options.forward.score = score;
    options.captured = options.row_sum = options.key_sum = options.table = true;
    check(options);
    options.forward.dropout = true;
    check(options);
    if (HasFailure()) return;
  }
}

TEST(AmxBackward, TwoProducts) {
  BackwardOptions options = options_of(40, 150, 32, Mask::causal);
  options.forward.two_dots = true;
  check(options);
}

TEST(AmxBackward, WorkersChangeNoBit) {
  BackwardOptions options = options_of(100, 700, 16, Mask::causal);
  options.forward.batch = 2;
  options.forward.heads = 4;
  options.forward.group = 2;
  options.forward.score = Score::bias;
  options.captured = options.row_sum = options.key_sum = options.table = true;
  for (const CpuTarget& target : tile_targets()) {
    std::vector<double> first;
    for (int workers : {1, 2, 3, 8}) {
      std::mt19937_64 random(1);
      const BackwardCase test = make_backward_case(options, random);
      run_backward_case(test, small_schedule(test, target), target, workers);
      std::vector<double> values;
      for (size_t i = 0; i < test.tensors.size(); ++i)
        for (int64_t at = 0; test.spec.tensors[i].output && at < test.tensors[i].size(); ++at)
          values.push_back(test.tensors[i].get(at));
      if (workers == 1) first = values;
      ASSERT_EQ(values, first) << workers << " workers";
    }
  }
}

CpuTarget native_target() {
  CpuTarget target = detect_cpu();
  target.isa = CpuIsa::amx;
  target.avx512_bf16 = true;
  return target;
}

TEST(AmxBackward, IsChosenWhereItCanAndSaysWhyNot) {
  std::mt19937_64 random(1);
  const CpuTarget target = native_target();
  const auto refusal = [&](BackwardOptions options) -> std::string {
    const CpuPlan plan = plan_backward(make_backward_case(options, random).spec, target);
    EXPECT_EQ(plan.choices.size(), 1u);
    for (const CpuPlan::Refusal& refused : plan.refused)
      if (refused.kernel == CpuTemplate::amx_backward) return refused.reason;
    EXPECT_EQ(plan.choices[0].schedule.kernel, CpuTemplate::amx_backward);
    return {};
  };
  BackwardOptions options = options_of(64, 64, 64);
  EXPECT_EQ(refusal(options), "");
  options.wide_gradients = true;
  EXPECT_NE(refusal(options).find("weights may not be rounded to bf16 where they meet %k"), std::string::npos);
  options.wide_gradients = false;
  for (const DType dtype : {DType::f16, DType::f64}) {
    options.forward.dtype = options.forward.output = dtype;
    EXPECT_NE(refusal(options), "");
  }
  // A machine without tiles does not mention them.
  CpuTarget plain = target;
  plain.isa = CpuIsa::avx512;
  EXPECT_TRUE(plan_backward(make_backward_case(options_of(64, 64, 64), random).spec, plain).refused.empty());
}

TEST(AmxBackward, NativeModulesHoldTheInstructions) {
  if (detect_cpu().isa < CpuIsa::avx512) GTEST_SKIP() << "the CPU lacks AVX-512, which the test's target has";
  std::mt19937_64 random(1);
  const BackwardCase test = make_backward_case(options_of(256, 256, 64, Mask::causal), random);
  const CpuTarget target = native_target();
  const CpuSchedule schedule = plan_backward(test.spec, target).choices[0].schedule;
  CpuKernelSource source = generate_backward(test.spec, schedule, target, "case");
  EXPECT_TRUE(source.launch.native_tiles);
  const auto object = compile_module(std::move(source.module), target, {.verify = true, .want_text = true});
  ASSERT_TRUE(object) << to_string(object.error());
  const auto count = [&](const char* what) {
    int found = 0;
    for (size_t at = object->assembly.find(what); at != std::string::npos; at = object->assembly.find(what, at + 1))
      ++found;
    return found;
  };
  // Two products, one that starts sums and one that adds: each has a first step and the steps of its loop.
  EXPECT_EQ(count("tdpbf16ps"), 2 * 2 * 4);
  EXPECT_EQ(count("tilezero"), 4);
  EXPECT_EQ(count("tilestored"), 2 * 2 * 4);
  EXPECT_EQ(count("ldtilecfg"), 1);
  EXPECT_EQ(count("tilerelease"), 1);
  EXPECT_GE(count("vcvtne2ps2bf16"), 1);
}

}  // namespace
}  // namespace tilewright::testing
