// Tensor maps of a launch on the emulator: what the host encodes on a GPU.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "codegen/cuda/cuda_source.h"
#include "emulator/tensor_map.h"
#include "ir/tensor_view.h"

namespace tilewright::testing {

/// What a launch makes of a plan: the tensor as it lies in memory.
inline Result<EmulatedTensorMap> encode(const TensorMapPlan& plan, const TensorView& view) {
  TensorMapGeometry geometry;
  geometry.base = view.data;
  geometry.element_bytes = size_of(view.dtype);
  geometry.box = plan.box;
  for (const int axis : plan.axes) geometry.extents.push_back(std::max<int64_t>(view.shape[axis], 1));
  for (size_t i = 1; i < plan.axes.size(); ++i)
    geometry.stride_bytes.push_back(view.strides[plan.axes[i]] * geometry.element_bytes);
  return encode_tensor_map(geometry);
}

/// Of a phase, over the step's tensors.
inline Result<std::vector<EmulatedTensorMap>> encode(const CudaPhase& phase, std::span<const TensorView> tensors) {
  std::vector<EmulatedTensorMap> maps;
  for (const TensorMapPlan& plan : phase.tensor_maps) {
    auto map = encode(plan, tensors[static_cast<size_t>(plan.tensor)]);
    if (!map) return map.error();
    maps.push_back(*map);
  }
  return maps;
}

}  // namespace tilewright::testing
