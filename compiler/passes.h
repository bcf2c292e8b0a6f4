// The compiler's passes: free functions named by verbs, in the order they run (see compile.cpp for the table).
#pragma once

#include "compiler/program.h"
#include "ir/tile_program.h"

namespace tilewright {

/// Expands sugar, raises decomposed softmax and logsumexp spellings, folds constants, removes dead and duplicate
/// nodes. The result verifies and means the same.
Result<Graph> canonicalize(const Graph& graph);

/// Algebraic simplification that keeps values: constant folding, x·1, x+0, double casts, affine integer forms
/// (div/mod of known ranges), select and logic identities. Never reorders float arithmetic. `extents` bounds the
/// axes: 0 <= axis < extent.
struct AxisExtents {
  std::vector<std::pair<Axis, Dim>> known;
};
Expr simplify(const Expr& expr, const AxisExtents& extents = {});

/// Finds attention in a canonical graph and cuts the rest into loop steps. Never fails on a verified graph: what does
/// not fuse runs unfused, with a note. Specs come out with kv_range analysed.
Result<Program> fuse(const Graph& canonical);
/// Every op a step of its own with its value in memory: attention as it runs without fusion, for comparison.
Result<Program> lower_unfused(const Graph& canonical);

/// Fills spec.keep_kv and spec.kv_range from spec.keep.
void analyze_mask(ScoreSpace& spec);
/// Whether query heads that share K and V hide different keys: then rows that are loaded once for all of them cannot be
/// cleared by keep_kv.
bool hides_keys_by_head(const ScoreSpace& spec);

/// `expr` · factor with the factor merged into constants and row-uniform parts where that is free; `left_over` is
/// what could not be merged (1 or factor).
struct FoldedScale {
  Expr expr;
  double left_over = 1;
};
FoldedScale fold_softmax_scale(const Expr& expr, double factor);

/// Where the raw score enters `expr` only as s · c (c constant), `scale` is c and `expr` has the bare s instead, so
/// that a template may scale Q. Otherwise 1 and `expr` as it is. Call it after fold_softmax_scale.
struct LeadingScale {
  double scale = 1;
  Expr expr;
};
LeadingScale leading_scale(const Expr& expr);

TileProgram build_tile_program(const AttentionSpec& spec);

}  // namespace tilewright
