// Names and accessors of a kernel's arguments in device text: what Args holds, and the functions that read it.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "codegen/kernel_abi.h"

namespace tilewright::cuda {

/// How device text stores an element: "float", "double", "F16", "BF16", "i64", "i32", "i8", "u8" (bool).
std::string_view storage_type(DType dtype);
/// What an element is computed in: "float", "double", "i64", "i32" (i8, too), "bool".
std::string_view value_type(DType dtype);

/// "  static constexpr i32 kHeadDim = 64;" and a line's end.
std::string constant_line(std::string_view type, std::string_view name, std::string_view value);

/// Text may use an accessor as soon as it was asked for here; text() then declares it.
class DeviceNames {
 public:
  /// Tensors that `layout` has not lie in the workspace, contiguous, one after the other.
  DeviceNames(const std::vector<SpecTensor>& tensors, const ArgsLayout& layout);

  /// A C++ identifier, unique among the tensors.
  const std::string& tensor(int index) const { return tensors_[static_cast<size_t>(index)]; }
  const std::vector<SpecTensor>& spec_tensors() const { return spec_tensors_; }
  /// "dim_Sq(args)", an i32: host refuses dims of 2^30 and more.
  std::string dim(const std::string& name) const;
  /// "args.meta[kStride_q + 2]"
  std::string stride(int tensor, int axis) const;
  std::string shape(int tensor, int axis) const;
  std::string base(int tensor) const;  ///< "((const float*)args.tensors[kTensor_q])", without const for outputs
  /// "after_computed_k(args)": an i64, bytes of the workspace that are such tensors; "0" where there are none.
  std::string workspace_used() const;

  /// Function over (args, one index per axis): the element in its value type. Clamped ones give 0 for empty tensors.
  std::string load(int tensor, bool in_bounds);
  /// Function over (args, lows, highs): extreme of a box, both ends inclusive and clamped. For whole warps.
  std::string extreme(int tensor, bool least);

  /// random_bits is called.
  void draw_random() { random_ = true; }

  /// What random_bits is made of where it is called, struct Args and the accessors asked for so far.
  std::string text() const;

 private:
  struct Use {
    int tensor;
    enum Kind { plain, clamped, least, greatest } kind;
    auto operator<=>(const Use&) const = default;
  };
  bool in_workspace(int tensor) const { return static_cast<size_t>(tensor) >= layout_.stride_offset.size(); }
  std::string workspace_text() const;
  std::string function(const Use& use) const;
  std::string declaration(const Use& use) const;
  std::string plain_load(const Use& use) const;
  std::string clamped_load(const Use& use) const;
  std::string box_extreme(const Use& use) const;

  const std::vector<SpecTensor>& spec_tensors_;
  const ArgsLayout layout_;
  std::vector<std::string> tensors_, dims_;
  std::set<Use> uses_;
  bool random_ = false;
};

}  // namespace tilewright::cuda
