// What `run --target cuda-emu` finds in kernels that do what they must not.
#include "cli/run_emulated.h"

#include <gtest/gtest.h>

#include "ir/text.h"
#include "runtime/host_tensor.h"

namespace tilewright::cli {
namespace {

constexpr int64_t kRows = 5;

/// Twice %x, with `statement` before the kernel's own; empty when all executions are right.
std::string run_with(const std::string& statement, int executions) {
  const auto graph =
      parse_graph("graph @twice(%x: f32[N,8]) -> f32[N,8] {\n  %y = mul %x, 2.0 : f32[N,8]\n  return %y\n}\n");
  const CudaTarget target = *parse_cuda_target("sm_80");
  const auto made = compile_cuda_program(*graph, target);
  if (!made) return to_string(made.error());
  const auto program = std::make_shared<CudaProgram>(**made);
  std::string& text = program->steps[0].choices[0].source.parts.back();
  const size_t at = text.find("{ loop_pointwise");
  EXPECT_NE(at, std::string::npos) << text;
  if (at != std::string::npos) text.insert(at + 2, statement);
  const auto execution = std::make_shared<EmulatedExecution>();
  const auto kernel = CudaKernel::load(program, std::make_shared<EmulatorDevice>(target, execution));
  if (!kernel) return to_string(kernel.error());
  const auto x = make_tensor(DType::f32, {kRows, 8}), y = make_tensor(DType::f32, {kRows, 8});
  float* const from = static_cast<float*>(x->view.data);
  for (int64_t i = 0; i < kRows * 8; ++i) from[i] = static_cast<float>(i);
  std::vector<CudaStepRun> taken;
  const TensorView in[] = {x->view}, out[] = {y->view};
  const auto runs = run_emulated(*kernel, *execution, {executions, 1}, in, out, taken);
  if (!runs) return to_string(runs.error());
  EXPECT_EQ(runs->executions, executions);
  EXPECT_EQ(runs->statistics.blocks, 1);
  EXPECT_EQ(taken.size(), 1u);
  for (int64_t i = 0; i < kRows * 8; ++i) EXPECT_EQ(static_cast<const float*>(y->view.data)[i], 2 * from[i]);
  return {};
}

TEST(RunEmulated, NamesPlacesOutsideOfTensorsAndExecutionsThatDisagree) {
  const std::string clean = run_with("", 4);
  if (clean.find("C++ compiler") != std::string::npos) GTEST_SKIP() << clean;
  EXPECT_EQ(clean, "");
  const std::string beyond = run_with("if (thread_index() == 3) static_cast<float*>(args.tensors[1])[40] = 1;", 2);
  EXPECT_NE(beyond.find("4 bytes beyond %y"), std::string::npos) << beyond;
  EXPECT_NE(beyond.find("execution 1 (copies early"), std::string::npos) << beyond;
  const std::string input = run_with("if (thread_index() == 3) static_cast<float*>(args.tensors[0])[0] = 1;", 2);
  EXPECT_NE(input.find("%x, a buffer that is only read"), std::string::npos) << input;
  // All threads write one place, and no order of threads is promised.
  const std::string race = "if (thread_index() != 0) static_cast<float*>(args.tensors[1])[0] = thread_index(); else ";
  const std::string last = run_with(race, 3);
  EXPECT_NE(last.find("disagrees with the first one on %y"), std::string::npos) << last;
}

}  // namespace
}  // namespace tilewright::cli
