// Computed rows of Q and K (ir/row_program.h) for templates that read operands where they lie: a phase before theirs
// writes the rows to the workspace, once, and what follows sees tensors like others.
#pragma once

#include <string>
#include <vector>

#include "ir/tile_program.h"

namespace tilewright {

/// Contiguous, in the workspace of a step.
struct WorkspaceTensor {
  std::string name;
  TensorType type;
  Expr offset_bytes;  ///< i64 over dims, a multiple of 16
};

struct WorkspaceRows {
  AttentionSpec step;   ///< as it was given: what Args has, and how rows are computed
  TileProgram program;  ///< reads stored rows
  /// The last tensors of program.spec, which the step has not: rows of Q, then those of K, [batch…, heads…, position,
  /// columns], of the type that they may be rounded to. Rows begin at multiples of 16 bytes.
  std::vector<WorkspaceTensor> tensors;
  Expr bytes;  ///< i64 over dims: of all of them

  bool has_query() const { return step.dots[0].query_row.has_value() && !program.spec.dots[0].query_row; }
  bool has_key() const { return step.dots[0].key_row.has_value() && !program.spec.dots[0].key_row; }
};

/// Without computed rows, the program itself. Rows stay computed where the score is a sum of several products, and
/// those of K where the KV heads are no shape: the last of several extents of heads is no multiple of the group.
WorkspaceRows with_stored_rows(const TileProgram& program);

}  // namespace tilewright
