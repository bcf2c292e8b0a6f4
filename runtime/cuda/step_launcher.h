// StepLauncher: one step of a run on a GPU: which choice takes these sizes and layouts, and its launches.
#pragma once

#include "runtime/cuda/cuda_device.h"
#include "runtime/cuda/cuda_program.h"

namespace tilewright {

/// A step with its kernels on a device.
struct LoadedCudaStep {
  const CudaStep& step;
  const CompiledStep& bound;
  std::span<const std::shared_ptr<const CudaModule>> modules;  ///< per choice
  const CudaDevice& device;
};

/// Holds everything that a launch points to; allocates nothing unless a choice is passed over.
class StepLauncher {
 public:
  /// `views` are the step's tensors, `dims` the signature's.
  StepLauncher(const LoadedCudaStep& loaded, std::span<const TensorView> views, std::span<const int64_t> dims)
      : loaded_(loaded), views_(views), dims_(dims) {}

  /// Finds the choice: the first whose condition holds and whose tensor maps the layouts allow. Errors name why none
  /// runs. `passed_over`, where not null, gets a sentence for each choice before it.
  Result<Done> choose(std::vector<std::string>* passed_over);
  size_t choice() const { return choice_; }

  /// After `choose`.
  Result<Done> launch(void* workspace, void* stream) const;

 private:
  const CudaSource& source() const { return loaded_.step.choices[choice_].source; }
  Result<Done> view_maps(TensorMapView* maps, size_t only, void* workspace) const;
  Result<TensorMapView> view_workspace_map(const TensorMapPlan& plan, void* workspace) const;
  Result<Done> check_grids() const;

  LoadedCudaStep loaded_;
  std::span<const TensorView> views_;
  std::span<const int64_t> dims_;
  size_t choice_ = 0;
};

}  // namespace tilewright
