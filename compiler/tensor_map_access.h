// Which axes of a stored tensor hold the rows and the columns of an operand, for copies of whole boxes (TMA).
#pragma once

#include <string>
#include <variant>

#include "ir/score_space.h"

namespace tilewright {

/// The constant coefficient with which `axis` enters an access axis; the contract of Access says that there is one.
int64_t coefficient(const Expr& expr, Axis axis);

struct TensorMapAccess {
  int column_axis = -1;  ///< the tensor axis of d; its stride must be 1 at a launch
  int row_axis = -1;     ///< that of q or kv
  /// Column d is index d there and the axis ends with the operand: what a box reads beyond it is zero, and not written.
  bool exact_columns = false;
  bool exact_rows = false;  ///< likewise the sequence
};

/// `position` is Axis::q or Axis::kv, with `length` rows. Else one sentence that says why boxes do not reach the
/// operand.
std::variant<TensorMapAccess, std::string> analyze_tensor_map(const ScoreSpace& space, const Access& access,
                                                              Axis position, const Dim& length, int64_t columns);

}  // namespace tilewright
