#include "runtime/cuda/step_launcher.h"

#include "runtime/cuda/tensor_maps.h"
#include "runtime/inline_array.h"
#include "runtime/step_executor.h"

namespace tilewright {
namespace {

/// Blocks of a one-dimensional grid.
constexpr int64_t kLargestGrid = (int64_t{1} << 31) - 1;
constexpr size_t kInlineWords = 512;  // 4096 bytes of parameters, what every launch takes
constexpr size_t kMaxMaps = 16;

}  // namespace

Result<Done> StepLauncher::choose(std::vector<std::string>* passed_over) {
  const auto& choices = loaded_.step.choices;
  Diagnostics why;
  for (choice_ = 0; choice_ < choices.size(); ++choice_) {
    const auto pass_over = [&](const std::string& reason) {
      if (passed_over)
        passed_over->push_back(fmt::format("{}: {}", to_string(source().launch.schedule.kernel), reason));
    };
    if (!choices[choice_].use_when.evaluate(dims_)) {
      pass_over("it runs when " + choices[choice_].condition);
      continue;
    }
    auto fits = view_maps(nullptr, 0, nullptr);
    if (fits) return check_grids();
    pass_over(fits.error().list.front().message);
    why.add(fits.error().list.front());
  }
  if (why.empty()) why.error("no kernel of step %{} runs at these sizes", loaded_.step.name);
  return why;
}

Result<Done> StepLauncher::launch(void* workspace, void* stream) const {
  const CompiledStep& bound = loaded_.bound;
  InlineArray<void*, 32> pointers(views_.size());
  InlineArray<int64_t, 256> meta(static_cast<size_t>(bound.meta_words));
  fill_arguments(bound, views_, dims_, loaded_.device.zeros(), pointers, meta);
  InlineArray<uint64_t, kInlineWords> words(static_cast<size_t>(cuda_args_words(views_.size(), bound.meta_words)));
  size_t at = 0;
  for (size_t i = 0; i < pointers.size(); ++i) words[at++] = reinterpret_cast<uint64_t>(pointers[i]);
  for (size_t i = 0; i < meta.size(); ++i) words[at++] = static_cast<uint64_t>(meta[i]);
  words[words.size() - 1] = reinterpret_cast<uint64_t>(workspace);
  const CudaChoice& choice = loaded_.step.choices[choice_];
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
    if (auto ok = loaded_.modules[choice_]->launch(call); !ok) return ok;
  }
  return Done{};
}

/// The maps of one phase into `maps`, or with null the check that those of all phases can be had.
Result<Done> StepLauncher::view_maps(TensorMapView* maps, size_t only, void* workspace) const {
  const auto& phases = source().launch.phases;
  for (size_t phase = 0; phase < phases.size(); ++phase) {
    if (maps && phase != only) continue;
    TW_CHECK(phases[phase].tensor_maps.size() <= kMaxMaps);
    for (size_t i = 0; i < phases[phase].tensor_maps.size(); ++i) {
      const TensorMapPlan& plan = phases[phase].tensor_maps[i];
      const auto tensor = static_cast<size_t>(plan.tensor);
      auto map = tensor < views_.size()
                     ? view_tensor_map(plan, views_[tensor], loaded_.step.tensors[tensor], loaded_.device.zeros())
                     : view_workspace_map(plan, workspace ? workspace : loaded_.device.zeros());
      if (!map) return map.error();
      if (maps) maps[i] = *map;
    }
  }
  return Done{};
}

Result<TensorMapView> StepLauncher::view_workspace_map(const TensorMapPlan& plan, void* workspace) const {
  const auto& tensors = loaded_.step.choices[choice_].workspace_tensors;
  const WorkspaceView& tensor = tensors[static_cast<size_t>(plan.tensor) - views_.size()];
  return view_tensor_map(plan, tensor.at(workspace, dims_), tensor.name, loaded_.device.zeros());
}

Result<Done> StepLauncher::check_grids() const {
  const CudaChoice& choice = loaded_.step.choices[choice_];
  for (size_t phase = 0; phase < choice.blocks.size(); ++phase)
    if (const int64_t blocks = choice.blocks[phase].evaluate(dims_); blocks > kLargestGrid)
      return unsupported("the kernel {} would have {} blocks at these sizes, and a GPU launch takes at most {}",
                         choice.source.launch.phases[phase].symbol, blocks, kLargestGrid);
  return Done{};
}

}  // namespace tilewright
