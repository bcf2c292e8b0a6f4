// Runs one compiled step: picks nothing, allocates nothing, spreads work items over an executor.
#pragma once

#include "ir/tensor_view.h"
#include "runtime/compiled.h"
#include "runtime/memory_plan.h"

namespace tilewright {

struct StepMemory {
  void* workspace = nullptr;
  void* packed = nullptr;
  std::byte* scratch = nullptr;
  int64_t scratch_stride = 0;
};

/// The views that a step reads and writes: arguments as given, temporaries at their places in `workspace`. `views` has
/// a place for each of the step's tensors.
void view_tensors(const Compiled& compiled, size_t step, const MemoryPlan& plan, std::span<const TensorView> inputs,
                  std::span<const TensorView> outputs, std::span<const int64_t> dims, std::byte* workspace,
                  std::span<TensorView> views);

/// What a kernel is told of them: base pointers, and the words of its ArgsLayout. Tensors without elements point to
/// `zeros`, with strides 0 (docs/ir.md, load). `meta` has the step's meta_words.
void fill_arguments(const CompiledStep& step, std::span<const TensorView> tensors, std::span<const int64_t> dims,
                    void* zeros, std::span<void*> pointers, std::span<int64_t> meta);

/// `tensors` are the step's, in its order; `dims` are Signature::dims() values. Of every phase, the items
/// of `slice` run.
void run_step(const CompiledStep& step, const CompiledChoice& choice, std::span<const TensorView> tensors,
              std::span<const int64_t> dims, const StepMemory& memory, Executor& executor, const WorkSlice& slice = {});

}  // namespace tilewright
