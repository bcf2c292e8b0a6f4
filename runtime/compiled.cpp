#include "runtime/compiled.h"

namespace tilewright {

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
