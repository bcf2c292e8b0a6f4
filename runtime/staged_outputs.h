// StagedOutputs: outputs that lie on an inout parameter are computed beside it, and copied when every step has read its
// inputs.
#pragma once

#include "runtime/compiled.h"
#include "runtime/inline_array.h"

namespace tilewright {

class StagedOutputs {
 public:
  /// Arguments have been checked.
  StagedOutputs(const Signature& signature, std::span<const TensorView> inputs, std::span<const TensorView> outputs);

  /// Of memory for `place`.
  int64_t bytes() const { return bytes_; }
  /// Where the steps write: staged outputs contiguous in `memory`, the others where the caller has them.
  std::span<const TensorView> place(std::byte* memory);

  bool is_staged(size_t output) const { return on_inout_[output]; }
  /// After `place`.
  const TensorView& view(size_t output) const { return staged_[output]; }

 private:
  InlineArray<TensorView, 8> staged_;
  InlineArray<char, 8> on_inout_;
  int64_t bytes_ = 0;
};

/// Room to stage every result, for kernels whose outputs may lie on an inout parameter.
int64_t staging_bytes(const Compiled& compiled, std::span<const int64_t> dims);

}  // namespace tilewright
