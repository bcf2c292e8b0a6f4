// RowProgram: how a row of Q or K is computed from what lies in memory, where the row is about to enter the dot
// product: RoPE, normalisation over the head dim, and what else runs along a row.
#pragma once

#include <cstdint>
#include <vector>

#include "ir/expr.h"

namespace tilewright {

/// Σ of `value` over i < count. In the row's Expr it is score leaf number 0 (`s`) or 1 (`t`).
struct RowSum {
  int64_t count = 0;
  ExprId value{-1};
  friend bool operator==(const RowSum&, const RowSum&) = default;
};

/// Columns begin + step · i of the row, i < count.
struct RowPiece {
  int64_t begin = 0, step = 1, count = 0;
  ExprId value{-1};
  friend bool operator==(const RowPiece&, const RowPiece&) = default;
};

/// One row per (b, h, position); i is Axis::d, so that the partner of a column is a load at another affine index.
/// Sums and values are of the score space's `accumulate`. Pieces write every column once.
struct RowProgram {
  Expr values;                   ///< one DAG for all roots; its own root is unused
  std::vector<RowSum> sums;      ///< at most kMaxRowSums; the second may read the first
  std::vector<RowPiece> pieces;  ///< may read all sums
  DType dtype = DType::f32;      ///< f16 and bf16: what the rows may be rounded to; else nothing
  friend bool operator==(const RowProgram&, const RowProgram&) = default;
};
constexpr size_t kMaxRowSums = 2;
constexpr int64_t kMaxRowColumns = 1 << 16;

/// All roots, sums first.
std::vector<ExprId*> roots(RowProgram& row);
std::vector<ExprId> roots(const RowProgram& row);

}  // namespace tilewright
