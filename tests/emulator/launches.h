// All phases of a CudaSource on the emulator: what a CudaKernel does on a device, on guarded memory and with the
// launch's buffers known to the emulator.
#pragma once

#include <algorithm>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "codegen/cuda/cuda_source.h"
#include "compiler/plan_cuda_rules.h"
#include "emulator/emulator_device.h"
#include "emulator/module.h"
#include "ir/interp.h"
#include "runtime/cuda/tensor_maps.h"
#include "tests/support/random_graph.h"
#include "tests/support/test_tensor.h"

namespace tilewright::testing {

/// What a fast template makes of a program, whatever else its plan prefers.
inline CudaOffer offer_of(CudaTemplate kernel, const TileProgram& program, const CudaTarget& target) {
  const TileProgram stored = with_stored_rows(program).program;
  if (kernel == CudaTemplate::decode) return plan_cuda_decode(stored, target);
  if (kernel == CudaTemplate::sm90_prefill) return plan_cuda_sm90_prefill(stored, target);
  return plan_cuda_sm80_prefill(stored, target);
}
/// Its rules' schedule; nothing where it refuses.
inline std::optional<CudaSchedule> schedule_of(CudaTemplate kernel, const TileProgram& program,
                                               const CudaTarget& target) {
  const CudaOffer offer = offer_of(kernel, program, target);
  const auto* choice = std::get_if<CudaPlan::Choice>(&offer);
  return choice ? std::optional(choice->schedule) : std::nullopt;
}
/// Why it refuses; empty where it does not.
inline std::string refusal_of(CudaTemplate kernel, const TileProgram& program, const CudaTarget& target) {
  const CudaOffer offer = offer_of(kernel, program, target);
  const auto* refusal = std::get_if<CudaPlan::Refusal>(&offer);
  return refusal ? refusal->reason : "";
}

inline int64_t value_of(const Expr& expr, const DimBindings& dims) {
  const std::vector<int64_t> axes(16, 0);
  return evaluate_int(expr, dims, {}, axes);
}

/// The words of Args.
inline std::vector<uint64_t> args_words(const ArgsLayout& layout, const DimBindings& dims,
                                        std::span<const TensorView> tensors, const void* workspace) {
  std::vector<uint64_t> words;
  for (const TensorView& view : tensors) words.push_back(reinterpret_cast<uint64_t>(view.data));
  uint64_t* const meta = &*words.insert(words.end(), static_cast<size_t>(std::max<int64_t>(layout.size, 1)), 0);
  for (size_t i = 0; i < layout.dims.size(); ++i) meta[i] = static_cast<uint64_t>(dims.at(layout.dims[i]));
  for (size_t t = 0; t < tensors.size(); ++t)
    for (int axis = 0; axis < tensors[t].rank; ++axis) {
      meta[layout.shape_offset[t] + axis] = static_cast<uint64_t>(tensors[t].shape[axis]);
      meta[layout.stride_offset[t] + axis] = static_cast<uint64_t>(tensors[t].strides[axis]);
    }
  words.push_back(reinterpret_cast<uint64_t>(workspace));
  return words;
}

inline TensorView workspace_view(const WorkspaceTensor& tensor, const DimBindings& dims, void* workspace) {
  return TensorView::contiguous(static_cast<std::byte*>(workspace) + value_of(tensor.offset_bytes, dims),
                                tensor.type.dtype, concrete_shape(tensor.type, dims));
}

/// What a launch of the phase makes of its plans, over the step's tensors and then the workspace's.
inline Result<std::vector<EmulatedTensorMap>> tensor_maps(const CudaPhase& phase, std::span<const TensorView> tensors) {
  alignas(16) static std::byte zeros[16] = {};
  std::vector<EmulatedTensorMap> maps;
  for (const TensorMapPlan& plan : phase.tensor_maps) {
    const auto view = view_tensor_map(plan, tensors[static_cast<size_t>(plan.tensor)], "t", zeros);
    if (!view) return view.error();
    auto map = encode_tensor_map(*view);
    if (!map) return map.error();
    maps.push_back(*map);
  }
  return maps;
}

/// Empty when all went well, else the sentence. The workspace is guarded and starts as NaN. Statistics are those of
/// matrix loads and asynchronous copies, of all phases.
inline std::string launch_all(const EmulatedModule& module, const CudaLaunch& launch, const ArgsLayout& layout,
                              const DimBindings& dims, std::span<const TensorView> tensors, EmulatorOptions options,
                              EmulatorStatistics* statistics = nullptr) {
  std::mt19937_64 random(0);
  const int64_t bytes = (value_of(launch.workspace_bytes, dims) + 255) / 256 * 256;
  TestTensor workspace(DType::i8, {bytes}, Layout::contiguous, random);
  workspace.poison();
  void* const memory = workspace.view().data;
  const std::vector<uint64_t> words = args_words(layout, dims, tensors, memory);
  std::vector<TensorView> reached(tensors.begin(), tensors.end());
  for (const WorkspaceTensor& tensor : launch.workspace_tensors)
    reached.push_back(workspace_view(tensor, dims, memory));
  options.buffers = {buffer_of(workspace.view())};
  for (const TensorView& view : tensors) options.buffers.push_back(buffer_of(view));
  for (const CudaPhase& phase : launch.phases) {
    const int64_t blocks = value_of(phase.blocks, dims);
    if (blocks == 0) continue;
    const auto maps = tensor_maps(phase, reached);
    if (!maps) return to_string(maps.error());
    const auto done = module.launch(
        {phase.symbol, blocks, phase.threads, phase.shared_bytes, words, *maps, phase.blocks_per_multiprocessor},
        options);
    if (!done) return to_string(done.error());
    if (!statistics) continue;
    statistics->cp_async += done->cp_async;
    statistics->matrix_loads.accesses += done->matrix_loads.accesses;
    statistics->matrix_loads.passes += done->matrix_loads.passes;
  }
  return workspace.gaps_intact() ? "" : "something was written beside the workspace";
}

}  // namespace tilewright::testing
