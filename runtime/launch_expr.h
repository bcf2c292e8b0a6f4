// LaunchExpr: a LaunchInfo Expr (items, sizes, conditions over dims) in a form that runs without allocating.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "ir/expr.h"

namespace tilewright {

/// An affine dim over positions in a list of dim values.
struct DimFormula {
  DimFormula() = default;
  /// CHECKs that every name of `dim` is in `names`.
  DimFormula(const Dim& dim, std::span<const std::string> names);
  /// Wraps on overflow; argument checking has excluded that for the dims of tensors.
  int64_t evaluate(std::span<const int64_t> dims) const;
  /// False when the sum overflows.
  bool evaluate_checked(std::span<const int64_t> dims, int64_t& value) const;

  int64_t constant = 0;
  std::vector<std::pair<size_t, int64_t>> terms;  ///< position, coefficient
};

class LaunchExpr {
 public:
  LaunchExpr() = default;
  /// An empty expression evaluates to 0. CHECKs that the expression has only integer ops, constants and dims.
  LaunchExpr(const Expr& expr, std::span<const std::string> names);
  int64_t evaluate(std::span<const int64_t> dims) const;

 private:
  struct Step {
    ExprKind kind;
    Op op;
    DType dtype, operands;  // of the result and of the first operand
    int args[3] = {0, 0, 0};
    DimFormula dim;  // kind dim; constants are its constant part
  };
  std::vector<Step> steps_;
};

}  // namespace tilewright
