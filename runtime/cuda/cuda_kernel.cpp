#include "runtime/cuda/cuda_kernel.h"

#include <atomic>
#include <map>
#include <thread>

#include "runtime/cuda/tensor_maps.h"
#include "runtime/memory_plan.h"
#include "runtime/step_executor.h"
#include "runtime/stopwatch.h"

namespace tilewright {
namespace {

constexpr int64_t kWorkspaceAlignment = 256;
/// Blocks of a one-dimensional grid.
constexpr int64_t kLargestGrid = (int64_t{1} << 31) - 1;
constexpr size_t kInlineWords = 512;  // 4096 bytes of parameters, what every launch takes

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

}  // namespace

Result<CudaKernel> CudaKernel::load(std::shared_ptr<const CudaProgram> program,
                                    std::shared_ptr<const CudaDevice> device) {
  const Stopwatch watch;
  struct Job {
    const CudaSource* source;
    Result<std::shared_ptr<const CudaModule>> module = invalid("not loaded");
  };
  std::vector<Job> jobs;
  std::map<std::string, size_t> by_text;  // layers repeat their steps
  CudaKernel kernel;
  std::vector<std::vector<size_t>> numbers;
  for (const CudaStep& step : program->steps) {
    auto& of_step = numbers.emplace_back();
    for (const CudaChoice& choice : step.choices) {
      if (auto ok = check_shared_memory(choice.source, device->target()); !ok) return ok.error();
      const auto [found, is_new] = by_text.emplace(nvrtc_text(choice.source), jobs.size());
      if (is_new) jobs.push_back({&choice.source});
      of_step.push_back(found->second);
    }
  }
  std::atomic<size_t> next{0};
  const auto work = [&] {
    for (size_t i = next.fetch_add(1); i < jobs.size(); i = next.fetch_add(1))
      jobs[i].module = device->load(*jobs[i].source);
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

/// One step of a run: which choice, with what arguments. Holds everything that a launch points to.
class CudaKernel::Launcher {
 public:
  Launcher(const CudaKernel& kernel, size_t step, std::span<const TensorView> views, std::span<const int64_t> dims)
      : kernel_(kernel), step_(step), views_(views), dims_(dims) {}

  /// Finds the choice; errors name why none runs at these sizes and layouts.
  Result<Done> choose() {
    const auto& choices = kernel_.program_->steps[step_].choices;
    Diagnostics why;
    for (choice_ = 0; choice_ < choices.size(); ++choice_) {
      if (!choices[choice_].use_when.evaluate(dims_)) continue;
      auto fits = view_maps(nullptr, 0, nullptr);
      if (fits) return check_grids();
      why.add(fits.error().list.front());
    }
    if (why.empty()) why.error("no kernel of step %{} runs at these sizes", kernel_.program_->steps[step_].name);
    return why;
  }

  Result<Done> launch(void* workspace, void* stream) {
    const CompiledStep& bound = kernel_.program_->compiled.steps[step_];
    InlineArray<void*, 32> pointers(views_.size());
    InlineArray<int64_t, 256> meta(static_cast<size_t>(bound.meta_words));
    fill_arguments(bound, views_, dims_, kernel_.device_->zeros(), pointers, meta);
    InlineArray<uint64_t, kInlineWords> words(static_cast<size_t>(cuda_args_words(views_.size(), bound.meta_words)));
    size_t at = 0;
    for (size_t i = 0; i < pointers.size(); ++i) words[at++] = reinterpret_cast<uint64_t>(pointers[i]);
    for (size_t i = 0; i < meta.size(); ++i) words[at++] = static_cast<uint64_t>(meta[i]);
    words[words.size() - 1] = reinterpret_cast<uint64_t>(workspace);
    const CudaChoice& choice = this->choice();
    for (size_t phase = 0; phase < choice.blocks.size(); ++phase) {
      CudaKernelCall call;
      call.phase = phase;
      call.blocks = choice.blocks[phase].evaluate(dims_);
      if (call.blocks <= 0) continue;
      std::array<TensorMapView, kMaxMaps> maps;
      const size_t count = choice.source.launch.phases[phase].tensor_maps.size();
      if (auto ok = view_maps(maps.data(), phase, workspace); !ok) return ok;
      call.args = {words.data(), words.size()};
      call.tensor_maps = {maps.data(), count};
      call.stream = stream;
      if (auto ok = kernel_.module(step_, choice_).launch(call); !ok) return ok;
    }
    return Done{};
  }

 private:
  static constexpr size_t kMaxMaps = 16;
  const CudaChoice& choice() const { return kernel_.program_->steps[step_].choices[choice_]; }

  /// The maps of one phase into `maps`, or with null the check that those of all phases can be had.
  Result<Done> view_maps(TensorMapView* maps, size_t only, void* workspace) const {
    const auto& phases = choice().source.launch.phases;
    const auto& tensors = kernel_.program_->compiled.program;
    for (size_t phase = 0; phase < phases.size(); ++phase) {
      if (maps && phase != only) continue;
      TW_CHECK(phases[phase].tensor_maps.size() <= kMaxMaps);
      for (size_t i = 0; i < phases[phase].tensor_maps.size(); ++i) {
        const TensorMapPlan& plan = phases[phase].tensor_maps[i];
        const auto tensor = static_cast<size_t>(plan.tensor);
        const bool stored = tensor < views_.size();
        const std::string& name = stored
                                      ? tensors.tensors[static_cast<size_t>(tensors.steps[step_].tensors[tensor])].name
                                      : choice().workspace_tensors[tensor - views_.size()].name;
        const TensorView view = stored ? views_[tensor]
                                       : choice().workspace_tensors[tensor - views_.size()].at(
                                             workspace ? workspace : kernel_.device_->zeros(), dims_);
        auto map = view_tensor_map(plan, view, name, kernel_.device_->zeros());
        if (!map) return map.error();
        if (maps) maps[i] = *map;
      }
    }
    return Done{};
  }

  Result<Done> check_grids() const {
    for (size_t phase = 0; phase < choice().blocks.size(); ++phase)
      if (const int64_t blocks = choice().blocks[phase].evaluate(dims_); blocks > kLargestGrid)
        return unsupported("the kernel {} would have {} blocks at these sizes, and a GPU launch takes at most {}",
                           choice().source.launch.phases[phase].symbol, blocks, kLargestGrid);
    return Done{};
  }

  const CudaKernel& kernel_;
  size_t step_;
  std::span<const TensorView> views_;
  std::span<const int64_t> dims_;
  size_t choice_ = 0;
};

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
    if (program_->compiled.signature.has_inout() && program_->compiled.signature.aliases_inout(inputs, outputs[i]))
      return unsupported("%{} lies on an inout parameter: on a GPU give it memory of its own", result_name(graph, i));
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
  if (auto ok = check_places(inputs, outputs, options, plan.total()); !ok) return ok;
  auto* workspace = static_cast<std::byte*>(options.workspace);
  // Twice over the steps: the first launch must not happen when a later one cannot.
  for (const bool launch : {false, true})
    for (size_t i = 0; i < compiled.steps.size(); ++i) {
      InlineArray<TensorView, 24> views(compiled.steps[i].tensors.size());
      view_tensors(compiled, i, plan, inputs, outputs, dims, workspace, views);
      Launcher launcher(*this, i, views, dims);
      if (auto ok = launcher.choose(); !ok) return ok;
      if (launch)
        if (auto ok = launcher.launch(workspace ? workspace + plan.step_area() : nullptr, options.stream); !ok)
          return ok;
    }
  return Done{};
}

Result<int64_t> CudaKernel::workspace_bytes(const DimBindings& bindings) const {
  const auto dims = program_->compiled.signature.from_bindings(bindings);
  if (!dims) return dims.error();
  const MemoryPlan plan(program_->compiled, *dims, 1, -1);
  if (auto ok = plan.check(); !ok) return ok.error();
  return plan.total();
}

Result<std::vector<std::vector<int64_t>>> CudaKernel::result_shapes(const DimBindings& bindings) const {
  const Signature& signature = program_->compiled.signature;
  const auto dims = signature.from_bindings(bindings);
  if (!dims) return dims.error();
  std::vector<std::vector<int64_t>> shapes;
  for (size_t i = 0; i < signature.outputs(); ++i) shapes.push_back(signature.result_shape(i, *dims));
  return shapes;
}

Result<std::vector<size_t>> CudaKernel::choices(const DimBindings& bindings) const {
  const auto dims = program_->compiled.signature.from_bindings(bindings);
  if (!dims) return dims.error();
  std::vector<size_t> out;
  for (const CudaStep& step : program_->steps) {
    size_t choice = 0;
    while (choice + 1 < step.choices.size() && !step.choices[choice].use_when.evaluate(*dims)) ++choice;
    out.push_back(choice);
  }
  return out;
}

}  // namespace tilewright
