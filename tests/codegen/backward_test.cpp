// The backward templates against the f64 evaluation of their spec: dtypes, head dims, lengths, masks, layouts, captured
// sums, ISAs; and that the number of workers changes no bit.
#include <gtest/gtest.h>

#include "runtime/cpu_detect.h"
#include "tests/codegen/template_cases.h"
#include "tests/support/backward_case.h"
#include "tests/support/spec_kernel.h"

namespace tilewright::testing {
namespace {

/// The plan's own schedule with tiles so small that short sequences meet every kind of block.

void check_backward(const BackwardOptions& options, int workers = 1) {
  std::vector<OracleTensor> want;
  for (const CpuTarget& target : runnable_targets()) {
    for (bool generic : {false, true}) {
      SCOPED_TRACE(options.text() + " " + std::string(to_string(target.isa)) + (generic ? " generic" : " fast"));
      std::mt19937_64 random(1);
      const BackwardCase test = make_backward_case(options, random);
      run_backward_case(test, small_backward(test.spec, target, generic), target, workers);
      if (want.empty()) want = expected_gradients(test);
      check_backward_case(test, want);
      if (::testing::Test::HasFatalFailure() || ::testing::Test::HasFailure()) return;
    }
  }
}

TEST(Backward, HeadDims) {
  for (int64_t dim : {1, 31, 64, 80, 128, 200}) {
    check_backward(backward_options(14, 150, dim, Mask::causal));
    if (HasFailure()) return;
  }
  BackwardOptions options = backward_options(30, 70, 24);
  options.forward.dv = 48;
  check_backward(options);
  options.forward.dqk = 72;
  options.forward.dv = 5;
  check_backward(options);
}

TEST(Backward, WideHeads) {
  for (int64_t dim : {256, 512}) {
    check_backward(backward_options(9, 70, dim));
    if (HasFailure()) return;
  }
}

TEST(Backward, Dtypes) {
  for (DType dtype : {DType::f64, DType::bf16, DType::f16}) {
    BackwardOptions options = backward_options(40, 200, 33, Mask::causal);
    options.forward.dtype = options.forward.output = dtype;
    check_backward(options);
    options.wide_gradients = true;
    check_backward(options);
    if (HasFailure()) return;
  }
}

TEST(Backward, MasksAndLengths) {
  for (Mask mask :
       {Mask::none, Mask::causal, Mask::window, Mask::padding, Mask::causal_padding, Mask::tensor, Mask::everything})
    for (auto [sq, sk] : {std::pair<int64_t, int64_t>{1, 1}, {12, 64}, {33, 290}, {150, 65}}) {
      BackwardOptions options = backward_options(sq, sk, 16, mask);
      options.forward.batch = 2;
      options.forward.heads = 2;
      check_backward(options);
      if (HasFailure()) return;
    }
}

TEST(Backward, EmptySequences) {
  for (auto [sq, sk] : {std::pair<int64_t, int64_t>{0, 7}, {7, 0}, {0, 0}}) {
    BackwardOptions options = backward_options(sq, sk, 16);
    options.row_sum = options.key_sum = options.table = true;
    check_backward(options);
    if (HasFailure()) return;
  }
  BackwardOptions options = backward_options(7, 7, 16);
  options.forward.batch = 0;
  check_backward(options);
}

TEST(Backward, Arrangements) {
  for (Arrangement arrangement : {Arrangement::bhsd, Arrangement::bshd, Arrangement::merged, Arrangement::packed})
    for (Layout layout : {Layout::contiguous, Layout::gapped, Layout::reversed}) {
      BackwardOptions options = backward_options(20, 140, 17, Mask::causal_padding);
      options.forward.heads = 3;
      options.forward.arrangement = arrangement;
      options.forward.layout = layout;
      options.forward.score = Score::bias;
      options.captured = true;
      check_backward(options);
      if (HasFailure()) return;
    }
}

TEST(Backward, GroupsOfHeads) {
  BackwardOptions options = backward_options(30, 150, 8, Mask::causal);
  options.forward.heads = 6;
  for (int64_t group : {2, 3, 6}) {
    options.forward.group = group;
    check_backward(options);
    if (HasFailure()) return;
  }
}

TEST(Backward, Captured) {
  for (Score score : {Score::alibi, Score::softcap, Score::bias})
    for (DType dtype : {DType::f32, DType::bf16, DType::f64})
      for (Layout layout : {Layout::contiguous, Layout::gapped}) {
        BackwardOptions options = backward_options(40, 150, 16, Mask::causal);
        options.forward.batch = 2;
        options.forward.heads = 2;
        options.forward.score = score;
        options.forward.dtype = options.forward.output = dtype;
        options.forward.layout = layout;
        options.captured = options.row_sum = options.key_sum = options.table = true;
        check_backward(options);
        if (HasFailure()) return;
      }
}

TEST(Backward, TwoProducts) {
  BackwardOptions options = backward_options(40, 150, 32, Mask::causal);
  options.forward.two_dots = true;
  check_backward(options);
}

/// Items wait for others here: every number of workers ends, and with the same bits.
TEST(Backward, WorkersChangeNoBit) {
  BackwardOptions options = backward_options(100, 700, 16, Mask::causal);
  options.forward.batch = 2;
  options.forward.heads = 4;
  options.forward.group = 2;
  options.forward.score = Score::bias;
  options.captured = options.row_sum = options.key_sum = options.table = true;
  for (DType dtype : {DType::f32, DType::bf16})
    for (bool generic : {false, true}) {
      options.forward.dtype = options.forward.output = dtype;
      std::vector<double> first;
      for (int workers : {1, 2, 3, 8}) {
        std::mt19937_64 random(1);
        const BackwardCase test = make_backward_case(options, random);
        const CpuTarget target = detect_cpu();
        run_backward_case(test, small_backward(test.spec, target, generic), target, workers);
        std::vector<double> values;
        for (size_t i = 0; i < test.tensors.size(); ++i)
          for (int64_t at = 0; test.spec.tensors[i].output && at < test.tensors[i].size(); ++at)
            values.push_back(test.tensors[i].get(at));
        if (workers == 1) first = values;
        ASSERT_EQ(values, first) << workers << " workers, " << (generic ? "generic" : "fast");
      }
    }
}

}  // namespace
}  // namespace tilewright::testing
