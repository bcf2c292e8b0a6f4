// Captured sums with an element per (q, kv), which the fast template stores at their first visit: every way in which b
// and h share elements, blocks that nothing is kept of, layouts that vectors and streaming stores fit and do not fit.
#include <gtest/gtest.h>

#include "runtime/cpu_detect.h"
#include "tests/support/backward_case.h"

namespace tilewright::testing {
namespace {

struct Shared {
  bool by_batch, by_head, by_group;
  int64_t more = 0;  ///< rows and columns of the tensor that no score reaches
};

BackwardCase make_case(const BackwardOptions& options, const std::vector<Shared>& sums) {
  std::mt19937_64 random(3);
  BackwardCase test = make_backward_case(options, random);
  BackwardSpec& spec = test.spec;
  const ExprId weight = spec.captured[0].weight;
  for (const Shared& sum : sums) {
    Expr& e = spec.weights;
    const auto one = [&] { return e.constant_int(0, DType::i64); };
    CapturedSum captured{weight, static_cast<int>(spec.tensors.size()), {}, true};
    Shape shape;
    shape.push_back(sum.by_batch ? Dim::named("B") : Dim(1));
    captured.index.push_back(sum.by_batch ? e.index(Axis::b) : one());
    const int64_t group = sum.by_group ? spec.head_group : 1;
    shape.push_back(sum.by_head ? options.forward.heads / group : 1);
    ExprId head = e.index(Axis::h);
    if (group > 1) head = e.op(Op::div, DType::i64, {head, e.constant_int(group, DType::i64)});
    captured.index.push_back(sum.by_head ? head : one());
    captured.index.insert(captured.index.end(), {e.index(Axis::q), e.index(Axis::kv)});
    shape.push_back(spec.q_len + sum.more);
    shape.push_back(spec.kv_len + sum.more);
    std::vector<int64_t> sizes;
    for (const Dim& dim : shape) sizes.push_back(*dim.evaluate(test.dims));
    spec.tensors.push_back({"sum" + std::to_string(captured.tensor), {spec.accumulate, shape}, true});
    test.tensors.emplace_back(spec.accumulate, sizes, options.forward.layout, random);
    test.tensors.back().poison();
    spec.captured.push_back(captured);
  }
  return test;
}

void check_sums(const BackwardOptions& options, const std::vector<Shared>& sums) {
  std::vector<OracleTensor> want;
  CpuTarget target = detect_cpu();
  for (const CpuIsa isa : {target.isa, CpuIsa::avx2}) {
    target.isa = isa;
    for (const int workers : {1, 3}) {
      SCOPED_TRACE(options.text() + " " + std::string(to_string(isa)) + " workers " + std::to_string(workers));
      const BackwardCase test = make_case(options, sums);
      CpuSchedule schedule = plan_backward(test.spec, target).choices[0].schedule;
      ASSERT_EQ(schedule.kernel, CpuTemplate::backward);
      schedule.block_q = 2 * schedule.mr;
      schedule.block_kv = schedule.nr();
      schedule.chunk_kv = 2 * schedule.block_kv;
      run_backward_case(test, schedule, target, workers);
      if (want.empty()) want = expected_gradients(test);
      check_backward_case(test, want);
      if (::testing::Test::HasFatalFailure() || ::testing::Test::HasFailure()) return;
    }
  }
}

BackwardOptions sums_options(int64_t sq, int64_t sk, Mask mask) {
  BackwardOptions options;
  options.forward.sq = sq;
  options.forward.sk = sk;
  options.forward.dqk = options.forward.dv = 16;
  options.forward.batch = 2;
  options.forward.heads = 4;
  options.forward.score = Score::bias;
  options.forward.mask = mask;
  options.captured = true;
  return options;
}

const std::vector<Shared> kEvery = {
    {true, true, false}, {true, false, false}, {false, true, false}, {false, false, false}};

TEST(BackwardSums, StoreAtTheFirstVisit) {
  for (Mask mask : {Mask::none, Mask::causal, Mask::window, Mask::padding, Mask::tensor, Mask::everything})
    for (auto [sq, sk] : {std::pair<int64_t, int64_t>{1, 1}, {30, 256}, {70, 290}}) {
      check_sums(sums_options(sq, sk, mask), kEvery);
      if (HasFailure()) return;
    }
}

TEST(BackwardSums, Layouts) {
  for (Layout layout : {Layout::contiguous, Layout::gapped, Layout::reversed})
    for (DType dtype : {DType::f32, DType::f64, DType::bf16}) {
      BackwardOptions options = sums_options(40, 384, Mask::causal);
      options.forward.layout = layout;
      options.forward.dtype = options.forward.output = dtype;
      check_sums(options, kEvery);
      if (HasFailure()) return;
    }
}

TEST(BackwardSums, GroupsOfHeads) {
  BackwardOptions options = sums_options(30, 200, Mask::window);
  options.forward.group = 2;
  check_sums(options, {{true, true, true}, {false, true, true}, {false, true, false}, {false, false, false}});
}

TEST(BackwardSums, TensorsBeyondTheScores) {
  check_sums(sums_options(30, 200, Mask::causal), {{true, true, false, 5}, {false, true, false, 64}});
}

TEST(BackwardSums, WithoutBatch) {
  BackwardOptions options = sums_options(20, 90, Mask::none);
  options.forward.batch = 0;
  check_sums(options, kEvery);
}

}  // namespace
}  // namespace tilewright::testing
