#include "emulator/launch.h"

namespace tilewright {

EmulatedBuffer buffer_of(const TensorView& view, bool writable) {
  if (view.element_count() == 0) return {view.data, 0, writable};
  int64_t first = 0, last = 0;  // in elements, of view.data
  for (size_t axis = 0; axis < static_cast<size_t>(view.rank); ++axis)
    (view.strides[axis] < 0 ? first : last) += (view.shape[axis] - 1) * view.strides[axis];
  const auto size = static_cast<int64_t>(size_of(view.dtype));
  return {static_cast<const std::byte*>(view.data) + first * size, static_cast<size_t>((last - first + 1) * size),
          writable};
}

}  // namespace tilewright
