// Kernels of fused attention specs on the emulator: all phases of a CudaSource on the guarded tensors of a case.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "emulator/module.h"
#include "emulator/tensor_map.h"
#include "ir/interp.h"
#include "tests/emulator/kernel.h"
#include "tests/emulator/tensor_maps.h"
#include "tests/support/attention_case.h"
#include "tests/support/test_tensor.h"

namespace tilewright::testing {

inline int64_t value_of(const Expr& expr, const DimBindings& dims) {
  const std::vector<int64_t> axes(12, 0);
  return evaluate_int(expr, dims, {}, axes);
}

/// The words of Args.
inline std::vector<uint64_t> spec_args(const ArgsLayout& layout, const DimBindings& dims,
                                       const std::vector<TestTensor>& tensors, const void* workspace) {
  std::vector<uint64_t> words;
  for (const TestTensor& tensor : tensors) words.push_back(reinterpret_cast<uint64_t>(tensor.view().data));
  const size_t meta = words.size();
  words.resize(meta + static_cast<size_t>(layout.size) + 1);
  for (size_t i = 0; i < layout.dims.size(); ++i)
    words[meta + i] = static_cast<uint64_t>(dims.find(layout.dims[i])->second);
  for (size_t t = 0; t < tensors.size(); ++t) {
    const TensorView& view = tensors[t].view();
    for (size_t axis = 0; axis < static_cast<size_t>(view.rank); ++axis) {
      words[meta + static_cast<size_t>(layout.shape_offset[t]) + axis] = static_cast<uint64_t>(view.shape[axis]);
      words[meta + static_cast<size_t>(layout.stride_offset[t]) + axis] = static_cast<uint64_t>(view.strides[axis]);
    }
  }
  words.back() = reinterpret_cast<uint64_t>(workspace);
  return words;
}

/// Runs all phases, workspace guarded and poisoned. Empty when all went well, else the sentence. Statistics are of the
/// first phase.
inline std::string launch_spec(const EmulatedModule& module, const CudaLaunch& launch, const ArgsLayout& layout,
                               const DimBindings& dims, const std::vector<TestTensor>& tensors,
                               const EmulatorOptions& options, EmulatorStatistics* statistics = nullptr) {
  std::mt19937_64 random(0);
  const int64_t bytes = (value_of(launch.workspace_bytes, dims) + 255) / 256 * 256;
  TestTensor workspace(DType::i8, {bytes}, Layout::contiguous, random);
  workspace.poison();
  const std::vector<uint64_t> words = spec_args(layout, dims, tensors, workspace.view().data);
  for (const CudaPhase& phase : launch.phases) {
    EmulatedLaunch one;
    one.symbol = phase.symbol;
    one.blocks = value_of(phase.blocks, dims);
    one.threads = phase.threads;
    one.shared_bytes = phase.shared_bytes;
    one.args = words;
    if (one.blocks == 0) continue;
    std::vector<EmulatedTensorMap> maps;
    for (const TensorMapPlan& plan : phase.tensor_maps) {
      auto map = encode(plan, tensors[static_cast<size_t>(plan.tensor)].view());
      if (!map) return to_string(map.error());
      maps.push_back(*map);
    }
    one.tensor_maps = maps;
    auto result = module.launch(one, options);
    if (!result) return to_string(result.error());
    if (statistics && &phase == &launch.phases.front()) *statistics = *result;
  }
  return workspace.gaps_intact() ? "" : "something was written beside the workspace";
}

/// A spec, its data and the schedule of a fast template.
struct SpecRun {
  std::string name;
  CaseOptions options;
  CudaSchedule schedule;
  friend void PrintTo(const SpecRun& run, std::ostream* out) { *out << run.name; }
};

/// bf16 or f16 throughout; weights may be rounded to it.
inline CaseOptions narrow(CaseOptions options, DType dtype = DType::bf16) {
  options.dtype = options.output = dtype;
  return options;
}

/// Runs the kernel in all legal executions and compares each with a plain evaluation of the spec.
inline void check_spec_run(const SpecRun& run) {
  std::mt19937_64 random(7);
  AttentionCase test = make_case(run.options, random);
  test.spec.weights = run.options.dtype;
  const auto source = generate_cuda(build_tile_program(test.spec), run.schedule, *parse_cuda_target("sm_80"), "k");
  ASSERT_TRUE(source) << to_string(source.error());
  const auto module = EmulatedModule::build(*source);
  ASSERT_TRUE(module) << to_string(module.error());
  for (const EmulatorOptions& options : legal_executions()) {
    SCOPED_TRACE(fmt::format("seed {}, {} copies", options.seed, options.late_copies ? "late" : "early"));
    for (size_t i = 0; i < test.tensors.size(); ++i)
      if (test.spec.tensors[i].output) test.tensors[i].poison();
    EmulatorStatistics statistics;
    ASSERT_EQ(
        launch_spec(*module, source->launch, args_layout(test.spec), test.dims, test.tensors, options, &statistics),
        "");
    check_case(test, run.options.dtype);
    EXPECT_EQ(statistics.matrix_loads.passes, statistics.matrix_loads.accesses) << "bank conflicts of ldmatrix";
    const bool vectors = run.options.arrangement == Arrangement::bhsd && run.options.layout == Layout::contiguous &&
                         run.options.dqk % 8 == 0;
    if (vectors && run.options.sq * run.options.sk > 0 && run.options.mask != Mask::everything) {
      EXPECT_GT(statistics.cp_async, 0) << "rows that could be copied by vectors were not";
    }
    if (::testing::Test::HasFailure()) break;
  }
}

}  // namespace tilewright::testing
