#include "runtime/step_executor.h"

#include <algorithm>
#include <atomic>

#include "runtime/float_environment.h"
#include "runtime/host_tiles.h"
#include "runtime/inline_array.h"

namespace tilewright {
namespace {

/// What an empty tensor points to; strides 0 make every element this one. Read only.
alignas(64) constexpr std::byte kZeros[64] = {};

/// One phase being worked on. Workers claim shrinking runs of items: long ones first for few claims and for locality,
/// single ones at the end, so that uneven items (causal masks) leave nobody idle. Ordered phases claim one by one, so
/// that what an item waits for is always claimed before it, by a worker that runs it to its end.
struct PhaseRun {
  const CompiledPhase& phase;
  const KernelArgs* args;
  int64_t items;
  int workers;
  std::byte* scratch;
  int64_t scratch_stride;
  bool native_tiles;
  std::atomic<int64_t> next{0};

  bool claim(int64_t& begin, int64_t& end) {
    begin = next.load(std::memory_order_relaxed);
    do {
      if (begin >= items) return false;
      end = begin + (phase.ordered ? 1 : std::max<int64_t>(1, (items - begin) / (4 * workers)));
    } while (!next.compare_exchange_weak(begin, end, std::memory_order_relaxed));
    return true;
  }

  void work(int worker) {
    int64_t begin = 0, end = 0;
    if (!claim(begin, end)) return;
    const FloatEnvironment environment;
    const HostTiles host(native_tiles);
    do {
      phase.call(*args, begin, end, scratch + worker * scratch_stride);
    } while (claim(begin, end));
  }
};

TensorView temporary_view(const TensorSize& size, DType dtype, void* data, std::span<const int64_t> dims) {
  TensorView view{data, dtype, static_cast<int>(size.shape.size()), {}, {}};
  int64_t stride = 1;
  for (size_t i = size.shape.size(); i-- > 0;) {
    view.shape[i] = size.shape[i].evaluate(dims);
    view.strides[i] = stride;
    stride *= view.shape[i];
  }
  return view;
}

}  // namespace

void view_tensors(const Compiled& compiled, size_t step, const MemoryPlan& plan, std::span<const TensorView> inputs,
                  std::span<const TensorView> outputs, std::span<const int64_t> dims, std::byte* workspace,
                  std::span<TensorView> views) {
  for (size_t j = 0; j < views.size(); ++j) {
    const auto id = static_cast<size_t>(compiled.steps[step].tensors[j]);
    const ProgramTensor& tensor = compiled.program.tensors[id];
    switch (tensor.role) {
      case TensorRole::param: views[j] = inputs[static_cast<size_t>(tensor.position)]; break;
      case TensorRole::result: views[j] = outputs[static_cast<size_t>(tensor.position)]; break;
      case TensorRole::temporary:
        views[j] = temporary_view(compiled.tensors[id], tensor.type.dtype, workspace + plan.temporary(id), dims);
    }
  }
}

void fill_arguments(const CompiledStep& step, std::span<const TensorView> tensors, std::span<const int64_t> dims,
                    void* zeros, std::span<void*> pointers, std::span<int64_t> meta) {
  size_t word = 0;
  for (const size_t dim : step.dims) meta[word++] = dims[dim];
  for (size_t i = 0; i < tensors.size(); ++i) {
    const TensorView& view = tensors[i];
    // A load from a table without elements is clamped to index 0 and must give 0.
    const bool empty = view.element_count() == 0;
    pointers[i] = empty ? zeros : view.data;
    for (int axis = 0; axis < view.rank; ++axis) meta[word++] = view.shape[axis];
    for (int axis = 0; axis < view.rank; ++axis) meta[word++] = empty ? 0 : view.strides[axis];
  }
  TW_CHECK(word == meta.size());
}

void run_step(const CompiledStep& step, const CompiledChoice& choice, std::span<const TensorView> tensors,
              std::span<const int64_t> dims, const StepMemory& memory, Executor& executor, const WorkSlice& slice) {
  InlineArray<void*, 32> pointers(tensors.size());
  InlineArray<int64_t, 256> meta(static_cast<size_t>(step.meta_words));
  fill_arguments(step, tensors, dims, const_cast<std::byte*>(kZeros), pointers, meta);

  const KernelArgs args{pointers.data(), meta.data(), memory.workspace, memory.packed};
  for (const CompiledPhase& phase : choice.phases) {
    if (phase.only_when_packed && !memory.packed) continue;
    const int64_t all = phase.items.evaluate(dims);
    const int64_t items = all / slice.whole * slice.part + all % slice.whole * slice.part / slice.whole;
    if (items <= 0) continue;
    if (items == 1 || executor.workers() == 1) {
      const FloatEnvironment environment;
      const HostTiles host(choice.native_tiles);
      phase.call(args, 0, items, memory.scratch);
      continue;
    }
    PhaseRun run{phase, &args, items, executor.workers(), memory.scratch, memory.scratch_stride, choice.native_tiles};
    executor.run([&run](int worker) { run.work(worker); });
  }
}

}  // namespace tilewright
