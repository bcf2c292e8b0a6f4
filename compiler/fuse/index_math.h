// Index algebra: i64 expressions kept in a normal form (sums of coefficient · atom), so that the indices which fall out
// of reshapes, repeats and slices come back as the plain strided accesses they are.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "ir/row_program.h"

namespace tilewright::fusion {

using Indices = std::vector<ExprId>;

/// constant + Σ coefficient · atom; atoms are nodes of the pool that are no sums themselves.
struct Linear {
  std::map<int32_t, Dim> terms;
  Dim constant;
};

/// a / b when that is a dim again for all bindings.
std::optional<Dim> divide(const Dim& a, const Dim& b);
/// True when the dim cannot be negative (named dims are sizes).
bool provably_nonnegative(const Dim& dim);

class IndexMath {
 public:
  explicit IndexMath(Expr& pool) : pool_(pool) {}

  /// The index variable of `axis`, known to lie in [0, extent).
  ExprId axis(Axis axis, const Dim& extent);
  ExprId constant(const Dim& value) { return pool_.dim(value); }
  ExprId add(ExprId a, ExprId b);
  ExprId scale(ExprId a, const Dim& factor);
  /// floor(a / by) and a - by·floor(a / by) for by > 0.
  ExprId div(ExprId a, const Dim& by);
  ExprId mod(ExprId a, const Dim& by);

  Linear linear(ExprId id) const;
  /// What another pool's math knows of nodes that both pools hold under the same ids.
  void adopt(const IndexMath& other) { extents_ = other.extents_; }
  /// Declares 0 <= id < extent.
  void set_extent(ExprId id, const Dim& extent) { extents_[raw(id)] = extent; }

 private:
  struct Split {
    Linear quotient;  ///< value = by · quotient + rest
    Linear rest;
  };
  ExprId emit(Linear value);
  void fold_div_mod(Linear& value) const;
  Split split(const Linear& value, const Dim& by) const;
  std::optional<Dim> bound(const Linear& value) const;  ///< u with 0 <= value < u, when provable
  bool fits(const Linear& value, const Dim& extent) const;
  ExprId binary(Op op, ExprId a, const Dim& by);

  Expr& pool_;
  std::map<int32_t, Dim> extents_;
};

/// Which axes a node depends on, as in `dependencies`.
uint32_t depends(const Expr& pool, ExprId id);
/// The expression under `id` alone.
Expr extract(const Expr& pool, ExprId id);
/// `expr` with load tensor i renamed to moved[i].
Expr with_tensors(const Expr& expr, const std::vector<int>& moved);
RowProgram with_tensors(const RowProgram& row, const std::vector<int>& moved);

}  // namespace tilewright::fusion
