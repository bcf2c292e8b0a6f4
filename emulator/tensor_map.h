// What the emulator's tensor memory accelerator reads: a box that moves over a tensor in global memory.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "ir/result.h"

namespace tilewright {

/// In place of a CUtensorMap: 128 bytes, opaque to kernels.
struct alignas(64) EmulatedTensorMap {
  std::array<uint64_t, 16> words{};
};

/// The tiled mode of cuTensorMapEncodeTiled, element strides 1, zeros outside the tensor. Axes innermost first.
struct TensorMapGeometry {
  const void* base = nullptr;
  int64_t element_bytes = 2;
  std::vector<int64_t> extents;       ///< elements, 1 to 5 axes
  std::vector<int64_t> stride_bytes;  ///< of axes 1 and on; axis 0 is contiguous
  std::vector<int64_t> box;           ///< elements
  int64_t swizzle_bytes = 128;        ///< 0, 32, 64 or 128
};
/// Errors: what the driver refuses, too; one sentence.
Result<EmulatedTensorMap> encode_tensor_map(const TensorMapGeometry& geometry);
/// Nothing when it was not made by encode_tensor_map.
std::optional<TensorMapGeometry> decode_tensor_map(const EmulatedTensorMap& map);

}  // namespace tilewright
