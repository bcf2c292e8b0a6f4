// Kernels of fused attention specs on the emulator: all phases of a CudaSource on the guarded tensors of a case.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "emulator/module.h"
#include "ir/interp.h"
#include "tests/emulator/tensor_maps.h"
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

/// Runs all phases, workspace guarded and poisoned. Empty when all went well, else the sentence.
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
    const auto maps = encode(phase, views_of(tensors));
    if (!maps) return to_string(maps.error());
    one.tensor_maps = *maps;
    auto result = module.launch(one, options);
    if (!result) return to_string(result.error());
    if (statistics) *statistics = *result;
  }
  return workspace.gaps_intact() ? "" : "something was written beside the workspace";
}

}  // namespace tilewright::testing
