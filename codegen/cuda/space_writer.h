// What forward and backward passes have in common, as members of a struct of device functions: the index space, which
// points are kept, where work is.
#pragma once

#include <string>

#include "codegen/cuda/expr_writer.h"
#include "ir/score_space.h"

namespace tilewright::cuda {

/// Axes by what a function is about: a query row, a key, a score, the rows of a block, a block.
extern const AxisNames kRowAxes, kKeyAxes, kScoreAxes, kRangeAxes, kBlockAxes;

class SpaceWriter {
 public:
  SpaceWriter(DeviceNames& names, const ScoreSpace& space) : names_(names), space_(space) {}

 protected:
  DType dtype_of(const Access& access) const { return space_.tensors[static_cast<size_t>(access.tensor)].type.dtype; }

  void type(DType dtype, std::string_view name);
  void constant(std::string_view name, int64_t value);
  void flag(std::string_view name, bool value);
  /// On one line where it is short.
  void function(std::string_view type, std::string_view name, const std::string& parameters, const std::string& body);
  static std::string returning(const std::string& value) { return "  return " + value + ";\n"; }

  /// kHeadGroup, kMasked, kHasKeepKv, kHasSkip, kHasFull.
  void space_constants();
  /// batch, heads, q_len, kv_len.
  void sizes();
  /// keep, keep_kv.
  void masks();
  /// kv_range, skip, full.
  void ranges();

  DeviceNames& names_;
  const ScoreSpace& space_;
  std::string text_;
};

}  // namespace tilewright::cuda
