#include "runtime/cuda/cuda_kernel.h"

#include <atomic>
#include <map>
#include <thread>

#include "runtime/cuda/step_launcher.h"
#include "runtime/inline_array.h"
#include "runtime/memory_plan.h"
#include "runtime/staged_outputs.h"
#include "runtime/step_executor.h"
#include "runtime/stopwatch.h"

namespace tilewright {
namespace {

constexpr int64_t kWorkspaceAlignment = 256;

const std::string& param_name(const Graph& graph, size_t i) { return graph[graph.params[i]].name; }
std::string result_name(const Graph& graph, size_t i) {
  const std::string& name = graph[graph.results[i]].name;
  return name.empty() ? fmt::format("result{}", i) : name;
}

Result<Done> check_shared_memory(const CudaSource& source, const CudaTarget& target) {
  for (const CudaPhase& phase : source.launch.phases)
    if (phase.shared_bytes > target.shared_bytes_per_block)
      return unsupported("the kernel {} ({}) needs {} bytes of shared memory per block, and the device has {}",
                         phase.symbol, print(source.launch.schedule), phase.shared_bytes,
                         target.shared_bytes_per_block);
  return Done{};
}

/// Its steps, then its copies.
std::vector<const CudaStep*> all_steps(const CudaProgram& program) {
  std::vector<const CudaStep*> steps;
  for (const CudaStep& step : program.steps) steps.push_back(&step);
  for (const CudaCopy& copy : program.copies) steps.push_back(&copy.step);
  return steps;
}

}  // namespace

Result<CudaKernel> CudaKernel::load(std::shared_ptr<const CudaProgram> program,
                                    std::shared_ptr<const CudaDevice> device, const CudaKernel* like) {
  const Stopwatch watch;
  struct Job {
    const CudaSource* source;
    Result<std::shared_ptr<const CudaModule>> module = invalid("not loaded");
  };
  std::vector<Job> jobs;
  std::map<std::string, size_t> by_text;  // layers repeat their steps
  CudaKernel kernel;
  std::vector<std::vector<size_t>> numbers;
  if (like) {
    const std::vector<const CudaStep*> steps = all_steps(*like->program_);
    for (size_t i = 0; i < steps.size(); ++i)
      for (size_t choice = 0; choice < steps[i]->choices.size(); ++choice)
        if (by_text.emplace(nvrtc_text(steps[i]->choices[choice].source), jobs.size()).second)
          jobs.push_back({nullptr, like->modules_[i][choice]});
  }
  for (const CudaStep* step : all_steps(*program)) {
    auto& of_step = numbers.emplace_back();
    for (const CudaChoice& choice : step->choices) {
      if (auto ok = check_shared_memory(choice.source, device->target()); !ok) return ok.error();
      const auto [found, is_new] = by_text.emplace(nvrtc_text(choice.source), jobs.size());
      if (is_new) jobs.push_back({&choice.source});
      of_step.push_back(found->second);
    }
  }
  std::atomic<size_t> next{0};
  const auto work = [&] {
    for (size_t i = next.fetch_add(1); i < jobs.size(); i = next.fetch_add(1))
      if (jobs[i].source) jobs[i].module = device->load(*jobs[i].source);
  };
  std::vector<std::thread> helpers;
  const size_t threads = std::min<size_t>(jobs.size(), std::max(1u, std::thread::hardware_concurrency()));
  for (size_t i = 1; i < threads; ++i) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
  for (const auto& of_step : numbers) {
    auto& modules = kernel.modules_.emplace_back();
    for (const size_t number : of_step) {
      if (!jobs[number].module) return jobs[number].module.error();
      modules.push_back(*jobs[number].module);
    }
  }
  kernel.program_ = std::move(program);
  kernel.device_ = std::move(device);
  kernel.load_ms_ = watch.milliseconds();
  return kernel;
}

Result<Done> CudaKernel::check_sizes(std::span<const int64_t> dims, std::span<const TensorView> inputs) const {
  const auto& names = program_->compiled.signature.dims();
  for (size_t i = 0; i < dims.size(); ++i)
    if (dims[i] >= kLargestSize)
      return unsupported("dim {} is {}: GPU kernels take sizes below {}", names[i], dims[i], kLargestSize);
  for (size_t i = 0; i < inputs.size(); ++i)
    for (int axis = 0; axis < inputs[i].rank; ++axis)
      if (inputs[i].shape[axis] >= kLargestSize)
        return unsupported("%{}: axis {} has size {}: GPU kernels take sizes below {}", param_name(program_->graph, i),
                           axis, inputs[i].shape[axis], kLargestSize);
  for (const CudaStep& step : program_->steps) {
    int64_t heads = 1;
    for (const DimFormula& size : step.head_count)
      if (const int64_t factor = size.evaluate(dims);
          __builtin_mul_overflow(heads, factor, &heads) || heads >= kLargestSize)
        return unsupported("%{}: batches times heads are {} or more: GPU kernels take products below {}", step.name,
                           kLargestSize, kLargestSize);
  }
  return Done{};
}

Result<Done> CudaKernel::check_places(std::span<const TensorView> inputs, std::span<const TensorView> outputs,
                                      const CudaRunOptions& options, int64_t workspace_bytes) const {
  const Graph& graph = program_->graph;
  if (auto ok = device_->check_stream(options.stream); !ok) return ok;
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i].element_count() > 0)
      if (auto ok = device_->check_memory("%" + param_name(graph, i), inputs[i].data); !ok) return ok;
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i].element_count() == 0) continue;
    if (auto ok = device_->check_memory("%" + result_name(graph, i), outputs[i].data); !ok) return ok;
  }
  if (workspace_bytes == 0) return Done{};
  if (!options.workspace || options.workspace_bytes < workspace_bytes)
    return invalid("the workspace has {} bytes, and {} are needed at these sizes",
                   options.workspace ? options.workspace_bytes : 0, workspace_bytes);
  if (reinterpret_cast<uintptr_t>(options.workspace) % kWorkspaceAlignment != 0)
    return invalid("the workspace at {} is not {}-byte aligned", options.workspace, kWorkspaceAlignment);
  return device_->check_memory("the workspace", options.workspace);
}

Result<Done> CudaKernel::run(std::span<const TensorView> inputs, std::span<const TensorView> outputs,
                             const CudaRunOptions& options) const {
  const Compiled& compiled = program_->compiled;
  InlineArray<int64_t, 32> dims(compiled.signature.dims().size());
  if (auto ok = compiled.signature.bind(inputs, dims); !ok) return ok;
  if (auto ok = compiled.signature.check_outputs(inputs, outputs, dims); !ok) return ok;
  if (auto ok = check_sizes(dims, inputs); !ok) return ok;
  const MemoryPlan plan(compiled, dims, 1, -1);
  if (auto ok = plan.check(); !ok) return ok;
  StagedOutputs staged(compiled.signature, inputs, outputs);
  if (auto ok = check_places(inputs, outputs, options, plan.total() + staged.bytes()); !ok) return ok;
  auto* workspace = static_cast<std::byte*>(options.workspace);
  void* const step_area = workspace ? workspace + plan.step_area() : nullptr;
  const auto places = staged.place(workspace ? workspace + plan.total() : nullptr);
  if (options.taken) options.taken->clear();
  // Twice over the launches: the first must not happen when a later one cannot.
  for (const bool launch : {false, true}) {
    for (size_t i = 0; i < compiled.steps.size(); ++i) {
      InlineArray<TensorView, 24> views(compiled.steps[i].tensors.size());
      view_tensors(compiled, i, plan, inputs, places, dims, workspace, views);
      StepLauncher launcher({program_->steps[i], compiled.steps[i], modules_[i], *device_}, views, dims);
      CudaStepRun taken;
      if (auto ok = launcher.choose(launch && options.taken ? &taken.passed_over : nullptr); !ok) return ok;
      if (!launch) continue;
      CudaClock* const clock = i == options.timed_step ? options.clock : nullptr;
      if (clock)
        if (auto ok = clock->begin(options.stream); !ok) return ok;
      if (auto ok = launcher.launch(step_area, options.stream); !ok) return ok;
      if (clock)
        if (auto ok = clock->end(options.stream); !ok) return ok;
      if (!options.taken) continue;
      taken.choice = launcher.choice();
      options.taken->push_back(std::move(taken));
    }
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (!staged.is_staged(i)) continue;
      const TensorView views[] = {staged.view(i), outputs[i]};
      const CudaCopy& copy = program_->copies[i];
      StepLauncher launcher({copy.step, copy.bound, modules_[compiled.steps.size() + i], *device_}, views, dims);
      if (auto ok = launcher.choose(nullptr); !ok) return ok;
      if (!launch) continue;
      if (auto ok = launcher.launch(step_area, options.stream); !ok) return ok;
    }
  }
  return Done{};
}

Result<int64_t> CudaKernel::workspace_bytes(const DimBindings& bindings) const {
  const auto dims = program_->compiled.signature.from_bindings(bindings);
  if (!dims) return dims.error();
  const MemoryPlan plan(program_->compiled, *dims, 1, -1);
  if (auto ok = plan.check(); !ok) return ok.error();
  return plan.total() + staging_bytes(program_->compiled, *dims);
}

Result<std::vector<std::vector<int64_t>>> CudaKernel::result_shapes(const DimBindings& bindings) const {
  const Signature& signature = program_->compiled.signature;
  const auto dims = signature.from_bindings(bindings);
  if (!dims) return dims.error();
  std::vector<std::vector<int64_t>> shapes;
  for (size_t i = 0; i < signature.outputs(); ++i) shapes.push_back(signature.result_shape(i, *dims));
  return shapes;
}

}  // namespace tilewright
