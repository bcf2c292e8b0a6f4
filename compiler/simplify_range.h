// Numeric ranges of integer expressions, and exact evaluation of ops on constants.
#pragma once

#include <optional>
#include <vector>

#include "ir/expr.h"

namespace tilewright {

/// Inclusive. Arithmetic that could leave its dtype gives the dtype's whole range, because it wraps.
struct IntRange {
  int64_t lo = INT64_MIN, hi = INT64_MAX;

  bool is_constant() const { return lo == hi; }
  bool within(int64_t least, int64_t most) const { return lo >= least && hi <= most; }
  friend bool operator==(const IntRange&, const IntRange&) = default;
};

/// Sequence positions lie below 2^31 (IR contract); other extents and dims below 2^40, so that sums of them are exact.
constexpr int64_t kMaxPosition = (int64_t{1} << 31) - 1;
constexpr int64_t kMaxExtent = int64_t{1} << 40;

IntRange full_range(DType dtype);
IntRange range_of_axis(Axis axis, const Dim* extent);
IntRange range_of_dim(const Dim& dim);
/// Range of an integer- or bool-valued op node from its operands' ranges; `operand` is the first operand's dtype.
IntRange range_of_op(Op op, DType dtype, DType operand, const std::vector<IntRange>& args);

/// `value` wrapped to the width of `dtype`; bool keeps the truth value.
int64_t wrap(int64_t value, DType dtype);
/// Result of an op on integer or bool constants, nullopt when the op has no integer meaning.
std::optional<int64_t> fold_integer(Op op, DType dtype, DType operand, const std::vector<int64_t>& args);
/// Result of an op on float constants with a float result, for the ops where folding loses nothing.
std::optional<double> fold_float(Op op, const std::vector<double>& args);

constexpr bool is_integer_or_bool(DType t) { return is_integer(t) || t == DType::boolean; }
constexpr bool is_compare(Op op) {
  return op == Op::eq || op == Op::ne || op == Op::lt || op == Op::le || op == Op::gt || op == Op::ge;
}
/// a op b == !(a negated b) on integers.
Op negated_compare(Op op);
/// a op b == b swapped a.
Op swapped_compare(Op op);

}  // namespace tilewright
