// Runs one compiled step: picks nothing, allocates nothing, spreads work items over an executor.
#pragma once

#include "ir/tensor_view.h"
#include "runtime/compiled.h"

namespace tilewright {

struct StepMemory {
  void* workspace = nullptr;
  void* packed = nullptr;
  std::byte* scratch = nullptr;
  int64_t scratch_stride = 0;
};

/// `tensors` are the step's, in its order; `dims` are Signature::dims() values. Of every phase, the items
/// of `slice` run.
void run_step(const CompiledStep& step, const CompiledChoice& choice, std::span<const TensorView> tensors,
              std::span<const int64_t> dims, const StepMemory& memory, Executor& executor, const WorkSlice& slice = {});

}  // namespace tilewright
