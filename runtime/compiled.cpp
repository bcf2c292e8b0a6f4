#include "runtime/compiled.h"

#include <algorithm>

namespace tilewright {
namespace {

ArgsLayout layout_of(const LoopStep& step) { return args_layout(step); }
template <class Fused>
ArgsLayout layout_of(const Fused& step) {
  return args_layout(step.spec);
}

}  // namespace

TensorSize tensor_size(const TensorType& type, std::span<const std::string> names) {
  TensorSize size{size_of(type.dtype), {}};
  for (const Dim& dim : type.shape) size.shape.emplace_back(dim, names);
  return size;
}

CompiledStep bind_step(const Step& step, std::span<const std::string> names) {
  CompiledStep out;
  out.tensors = step.tensors;
  const ArgsLayout layout = std::visit([](const auto& what) { return layout_of(what); }, step.what);
  for (const std::string& dim : layout.dims) {
    const auto found = std::find(names.begin(), names.end(), dim);
    TW_CHECK(found != names.end());
    out.dims.push_back(static_cast<size_t>(found - names.begin()));
  }
  out.meta_words = layout.size;
  return out;
}

CompiledChoice make_choice(const LaunchInfo& launch, const Expr& use_when, std::span<const std::string> names,
                           const std::vector<KernelFunction>& functions, std::shared_ptr<const TierKernel> tier) {
  CompiledChoice choice;
  choice.kernel = launch.schedule.kernel;
  choice.use_when = LaunchExpr(use_when, names);
  choice.workspace_bytes = LaunchExpr(launch.workspace_bytes, names);
  choice.packed_bytes = LaunchExpr(launch.packed_bytes, names);
  choice.scratch_bytes = launch.scratch_bytes;
  choice.native_tiles = launch.native_tiles;
  for (size_t i = 0; i < launch.phases.size(); ++i) {
    const LaunchPhase& phase = launch.phases[i];
    choice.phases.push_back({i < functions.size() ? functions[i] : nullptr, tier, LaunchExpr(phase.items, names),
                             phase.only_when_packed, phase.ordered});
  }
  return choice;
}

}  // namespace tilewright
