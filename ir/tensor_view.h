// TensorView: someone else's memory, with dtype, shape and strides. The currency of interp and runtime alike.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "ir/dtype.h"

namespace tilewright {

constexpr int kMaxRank = 8;

struct TensorView {
  void* data = nullptr;
  DType dtype = DType::f32;
  int rank = 0;
  std::array<int64_t, kMaxRank> shape{};
  std::array<int64_t, kMaxRank> strides{};  ///< in elements; any sign, 0 allowed on inputs

  /// Row-major view of `data`.
  static TensorView contiguous(void* data, DType dtype, const std::vector<int64_t>& shape);
  /// Product of the shape.
  int64_t element_count() const;
};

}  // namespace tilewright
