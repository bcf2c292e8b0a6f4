#include "runtime/staged_outputs.h"

#include "runtime/aligned_buffer.h"

namespace tilewright {

StagedOutputs::StagedOutputs(const Signature& signature, std::span<const TensorView> inputs,
                             std::span<const TensorView> outputs)
    : staged_(outputs.size()), on_inout_(outputs.size(), false) {
  for (size_t i = 0; i < outputs.size(); ++i) {
    staged_[i] = outputs[i];
    on_inout_[i] = signature.has_inout() && signature.aliases_inout(inputs, outputs[i]);
    if (on_inout_[i]) bytes_ += align_up(outputs[i].element_count() * size_of(outputs[i].dtype));
  }
}

std::span<const TensorView> StagedOutputs::place(std::byte* memory) {
  for (size_t i = 0; i < staged_.size(); ++i) {
    if (!on_inout_[i]) continue;
    TensorView& view = staged_[i];
    view.data = memory;
    int64_t stride = 1;
    for (int axis = view.rank; axis-- > 0; stride *= view.shape[axis]) view.strides[axis] = stride;
    memory += align_up(view.element_count() * size_of(view.dtype));
  }
  return {staged_.data(), staged_.size()};
}

int64_t staging_bytes(const Compiled& compiled, std::span<const int64_t> dims) {
  int64_t sum = 0, bytes = 0;
  if (!compiled.signature.has_inout()) return 0;
  for (size_t i = 0; i < compiled.tensors.size(); ++i)
    if (compiled.program.tensors[i].role == TensorRole::result && compiled.tensors[i].bytes(dims, bytes))
      sum += align_up(bytes);
  return sum;
}

}  // namespace tilewright
