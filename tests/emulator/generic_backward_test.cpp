// The generic GPU backward template on the emulator against the spec's interpreter: every kind of sum, every item
// shape.
#include <gtest/gtest.h>

#include "tests/emulator/emulated_program.h"
#include "tests/support/backward_case.h"

namespace tilewright::testing {
namespace {

class GenericBackward : public ::testing::TestWithParam<BackwardOptions> {};

TEST_P(GenericBackward, MatchesTheInterpreter) {
  std::mt19937_64 random(17);
  const BackwardCase test = make_backward_case(GetParam(), random);
  const CudaTarget target = *parse_cuda_target("sm_80");
  CudaSchedule schedule = plan_cuda(test.spec, target).choices.back().schedule;
  // Small tiles, so that small cases have several.
  schedule.block_q = std::min<int64_t>(schedule.block_q, 8);
  schedule.block_kv = std::min<int64_t>(schedule.block_kv, 16);
  schedule.warps = 2;
  const auto step =
      EmulatedStep::create(generate_cuda(test.spec, schedule, target, "backward"), args_layout(test.spec));
  ASSERT_TRUE(step) << to_string(step.error());
  EXPECT_EQ(step->run(test.dims, views_of(test.tensors), {.seed = 2}), "");
  check_backward_case(test, expected_gradients(test));
}

std::vector<BackwardOptions> backward_cases() {
  using enum DType;
  std::vector<BackwardOptions> cases;
  const auto add = [&](BackwardOptions options) { cases.push_back(options); };
  add({.forward = {.sq = 19, .sk = 37}});
  add({.forward = {.heads = 4, .group = 2, .sq = 21, .sk = 18, .mask = Mask::causal, .layout = Layout::reversed}});
  add({.forward = {.sq = 9, .sk = 33, .dqk = 9, .dv = 5, .mask = Mask::causal_padding}});
  add({.forward = {.batch = 2, .heads = 4, .group = 2, .sq = 9, .sk = 33, .mask = Mask::holes}});
  add({.forward = {.dtype = f64, .output = f64, .batch = 2, .sk = 20, .mask = Mask::window, .two_dots = true}});
  add({.forward = {.batch = 2, .sq = 18, .sk = 21, .mask = Mask::causal, .score = Score::bias}, .captured = true});
  add({.forward = {.batch = 2, .score = Score::alibi}, .captured = true, .row_sum = true});
  add({.forward = {.batch = 2, .sq = 10, .sk = 19, .mask = Mask::tensor}, .key_sum = true, .table = true});
  add({.forward = {.dtype = bf16, .output = bf16, .score = Score::bias}, .captured = true, .table = true});
  add({.forward = {.sq = 3, .sk = 5, .dqk = 256, .dv = 256, .dropout = true}, .wide_gradients = true});
  add({.forward = {.sq = 0, .sk = 5, .score = Score::bias}, .captured = true, .table = true});
  add({.forward = {.sk = 0}, .key_sum = true, .table = true});
  return cases;
}

INSTANTIATE_TEST_SUITE_P(All, GenericBackward, ::testing::ValuesIn(backward_cases()),
                         [](const auto& test) { return std::to_string(test.index); });

}  // namespace
}  // namespace tilewright::testing
