#include "runtime/cuda/tensor_maps.h"

namespace tilewright {
namespace {

// CUDA Driver API, cuTensorMapEncodeTiled.
constexpr int64_t kAlignment = 16;
constexpr int64_t kLargestStride = int64_t{1} << 40;

}  // namespace

Result<TensorMapView> view_tensor_map(const TensorMapPlan& plan, const TensorView& view, const std::string& name,
                                      void* zeros) {
  TW_CHECK(plan.axes.size() == plan.box.size() && plan.axes.size() <= TensorMapView::kMaxAxes);
  const int64_t element = size_of(view.dtype);
  const bool empty = view.element_count() == 0;
  TensorMapView map;
  map.address = empty ? zeros : view.data;
  map.dtype = view.dtype;
  map.rank = static_cast<int>(plan.axes.size());
  if (reinterpret_cast<uintptr_t>(map.address) % kAlignment != 0)
    return invalid("%{}: its data is not {}-byte aligned, as tensor maps want it", name, kAlignment);
  int64_t dense = kAlignment;
  for (size_t i = 0; i < plan.axes.size(); ++i) {
    const int axis = plan.axes[i];
    const int64_t size = view.shape[axis];
    int64_t stride = element;
    if (i == 0) {
      if (size > 1 && view.strides[axis] != 1)
        return invalid("%{}: axis {} has stride {}, and tensor maps want 1", name, axis, view.strides[axis]);
    } else if (empty || size == 1) {
      stride = dense;
    } else if (__builtin_mul_overflow(view.strides[axis], element, &stride) || stride <= 0 ||
               stride % kAlignment != 0 || stride >= kLargestStride) {
      return invalid("%{}: axis {} has a stride of {} elements, and tensor maps want positive multiples of {} bytes",
                     name, axis, view.strides[axis], kAlignment);
    }
    map.sizes[i] = empty ? 1 : size;
    map.byte_strides[i] = stride;
    map.box[i] = plan.box[i];
    dense = std::max(dense, (stride * map.sizes[i] + kAlignment - 1) / kAlignment * kAlignment);
  }
  return map;
}

}  // namespace tilewright
