#include "runtime/kernel.h"

#include <algorithm>
#include <cstddef>

#include "runtime/convert.h"
#include "runtime/limits.h"
#include "runtime/memory_plan.h"
#include "runtime/staged_outputs.h"
#include "runtime/step_executor.h"

namespace tilewright {
namespace {

void run_steps(const Compiled& compiled, const MemoryPlan& plan, std::span<const TensorView> inputs,
               std::span<const TensorView> outputs, std::span<const int64_t> dims, std::byte* workspace,
               Executor& executor, const RunOptions& options) {
  double* step_seconds = options.step_seconds;
  const TimeOf clock = executor.workers() == 1 ? TimeOf::thread : TimeOf::wall;
  for (size_t i = 0; i < compiled.steps.size(); ++i) {
    const CompiledStep& step = compiled.steps[i];
    InlineArray<TensorView, 24> views(step.tensors.size());
    view_tensors(compiled, i, plan, inputs, outputs, dims, workspace, views);
    const CompiledChoice& choice = step.choices[plan.choice(i)];
    StepMemory memory;
    memory.workspace = workspace + plan.step_area();
    if (plan.packed(i)) memory.packed = workspace + plan.step_area() + plan.workspace_bytes(i);
    memory.scratch = workspace + plan.scratch();
    memory.scratch_stride = plan.scratch_stride();
    const double start = step_seconds ? now(clock) : 0;
    run_step(step, choice, views, dims, memory, executor, i == options.slice.step ? options.slice : WorkSlice());
    if (step_seconds) step_seconds[i] = now(clock) - start;
  }
}

}  // namespace

namespace {

constexpr int64_t kLargestWhole = int64_t{1} << 30;

Result<Done> run_compiled(const Compiled& compiled, BufferPool& buffers, std::span<const TensorView> inputs,
                          std::span<const TensorView> outputs, std::span<const int64_t> dims, Executor& executor,
                          const RunOptions& options) {
  const WorkSlice& slice = options.slice;
  if (slice.whole < 1 || slice.whole > kLargestWhole || slice.part < 1 || slice.part > slice.whole)
    return invalid("a slice of {} parts of {} is none; 1 to all of up to {}", slice.part, slice.whole, kLargestWhole);
  StagedOutputs staged(compiled.signature, inputs, outputs);
  int64_t limit = options.workspace ? options.workspace_bytes : options.workspace_limit;
  if (limit >= 0) limit = std::max<int64_t>(0, limit - staged.bytes());
  const MemoryPlan plan(compiled, dims, executor.workers(), limit);
  if (auto ok = plan.check(); !ok) return ok;
  const int64_t total = plan.total() + staged.bytes();
  AlignedBuffer buffer;
  auto* workspace = static_cast<std::byte*>(options.workspace);
  if (workspace) {
    if (reinterpret_cast<uintptr_t>(workspace) % 64 != 0) return invalid("the workspace is not 64-byte aligned");
  } else if (total > 0) {
    buffer = buffers.take(total);
    workspace = static_cast<std::byte*>(buffer.data());
    if (!workspace)
      return Diagnostic{ErrorKind::io, fmt::format("a workspace of {} bytes cannot be allocated", total), {}, 0};
  }
  run_steps(compiled, plan, inputs, staged.place(workspace + plan.total()), dims, workspace, executor, options);
  for (size_t i = 0; i < outputs.size(); ++i)
    if (staged.is_staged(i)) convert(staged.view(i), outputs[i]);
  if (buffer.data()) buffers.give_back(std::move(buffer));
  return Done{};
}

/// What a limit is judged by.
bool fits(const Compiled& compiled, std::span<const int64_t> dims, int workers, int64_t limit) {
  return limit < 0 || MemoryPlan(compiled, dims, workers, limit).check();
}

}  // namespace

Result<Done> Kernel::run(std::span<const TensorView> inputs, std::span<const TensorView> outputs,
                         const RunOptions& options) const {
  const Compiled* compiled = &state_->current();
  InlineArray<int64_t, 32> dims(compiled->signature.dims().size());
  if (auto ok = compiled->signature.bind(inputs, dims); !ok) return ok;
  if (auto ok = compiled->signature.check_outputs(inputs, outputs, dims); !ok) return ok;
  Executor& executor = options.executor ? *options.executor : *state_->executor;
  // A workspace that was sized for the tier stays enough for it.
  const int64_t limit = options.workspace ? options.workspace_bytes : options.workspace_limit;
  if (state_->pending && compiled != state_->compiled.get() && !fits(*compiled, dims, executor.workers(), limit))
    compiled = state_->compiled.get();
  return run_compiled(*compiled, *state_->buffers, inputs, outputs, dims, executor, options);
}

ExecutionTier Kernel::tier() const { return state_->current().stats.tier; }
Result<Done> Kernel::wait_until_compiled() const { return state_->pending ? state_->pending->wait() : Done{}; }
Diagnostics Kernel::compile_errors() const { return state_->pending ? state_->pending->errors() : Diagnostics(); }

std::string_view to_string(ExecutionTier tier) { return tier == ExecutionTier::jit ? "jit" : "ahead_of_time"; }

Result<std::vector<std::vector<int64_t>>> Kernel::result_shapes(const DimBindings& bindings) const {
  const Signature& signature = state_->compiled->signature;
  const auto dims = signature.from_bindings(bindings);
  if (!dims) return dims.error();
  std::vector<std::vector<int64_t>> shapes;
  for (size_t i = 0; i < signature.outputs(); ++i) shapes.push_back(signature.result_shape(i, *dims));
  return shapes;
}

Result<DimBindings> Kernel::bind(std::span<const TensorView> inputs) const {
  const Signature& signature = state_->compiled->signature;
  std::vector<int64_t> dims(signature.dims().size());
  if (auto ok = signature.bind(inputs, dims); !ok) return ok.error();
  return signature.to_bindings(dims);
}

Result<int64_t> Kernel::workspace_bytes(const DimBindings& bindings, int workers) const {
  const auto dims = state_->compiled->signature.from_bindings(bindings);
  if (!dims) return dims.error();
  const Compiled& compiled = state_->current();
  const MemoryPlan plan(compiled, *dims, workers, -1);
  if (auto ok = plan.check(); !ok) return ok.error();
  return plan.total() + staging_bytes(compiled, *dims);
}

Result<MemoryEstimate> Kernel::memory_estimate(const DimBindings& bindings, int workers,
                                               int64_t workspace_limit) const {
  const Compiled& compiled = state_->current();
  const auto dims = compiled.signature.from_bindings(bindings);
  if (!dims) return dims.error();
  const MemoryPlan plan(compiled, *dims, workers, workspace_limit);
  if (auto ok = plan.check_sizes(); !ok) return ok.error();
  MemoryEstimate estimate;
  const auto add = [&](const TensorSize& tensor, int64_t& sum) {
    int64_t bytes = 0;
    if (!tensor.bytes(*dims, bytes) || __builtin_add_overflow(sum, bytes, &sum)) sum = INT64_MAX;
  };
  for (size_t i = 0; i < compiled.tensors.size(); ++i)
    if (compiled.program.tensors[i].role == TensorRole::result) add(compiled.tensors[i], estimate.outputs);
  for (const TensorSize& value : compiled.intermediates) add(value, estimate.unfused);
  estimate.scratch = plan.scratch_total();
  estimate.workspace = plan.shared_total() + staging_bytes(compiled, *dims);
  return estimate;
}

Result<std::vector<size_t>> Kernel::choices(const DimBindings& bindings) const {
  const auto dims = state_->compiled->signature.from_bindings(bindings);
  if (!dims) return dims.error();
  const Compiled& compiled = state_->current();
  const MemoryPlan plan(compiled, *dims, 1, -1);
  if (auto ok = plan.check(); !ok) return ok.error();
  std::vector<size_t> out;
  for (size_t i = 0; i < compiled.steps.size(); ++i) out.push_back(plan.choice(i));
  return out;
}

const Graph& Kernel::graph() const { return state_->graph; }
const Program& Kernel::program() const { return state_->current().program; }
const CompileStats& Kernel::stats() const {
  if (!state_->pending || !state_->pending->ready()) return state_->stats;
  return state_->stats.cache_hit ? state_->pending->hit_stats() : state_->pending->ready()->stats;
}
const std::string& Kernel::dump_path() const { return state_->current().dump_path; }

}  // namespace tilewright
