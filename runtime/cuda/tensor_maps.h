// Tensor maps of a launch: what the tensor memory accelerator asks of a tensor's layout.
#pragma once

#include "runtime/cuda/cuda_device.h"

namespace tilewright {

/// The plan over `view`. Axes of size 1 take any stride, a tensor without elements points to `zeros`. Errors: one
/// sentence naming `name`, where the layout cannot be described (another kernel has to run).
Result<TensorMapView> view_tensor_map(const TensorMapPlan& plan, const TensorView& view, const std::string& name,
                                      void* zeros);

}  // namespace tilewright
