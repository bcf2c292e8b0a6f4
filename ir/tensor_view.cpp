#include "ir/tensor_view.h"

#include "ir/result.h"

namespace tilewright {

TensorView TensorView::contiguous(void* data, DType dtype, const std::vector<int64_t>& shape) {
  TW_CHECK(shape.size() <= kMaxRank);
  TensorView view{data, dtype, static_cast<int>(shape.size()), {}, {}};
  int64_t stride = 1;
  for (int i = view.rank - 1; i >= 0; --i) {
    view.shape[i] = shape[static_cast<size_t>(i)];
    view.strides[i] = stride;
    stride *= view.shape[i];
  }
  return view;
}

int64_t TensorView::element_count() const {
  int64_t count = 1;
  for (int i = 0; i < rank; ++i) count *= shape[i];
  return count;
}

}  // namespace tilewright
