// Rows of Q and K that need not exist in memory: what RoPE and norms make of stored rows, read as a RowProgram.
#pragma once

#include "compiler/fuse/score_frame.h"
#include "ir/row_program.h"

namespace tilewright::fusion {

/// Loads of the row name `tensors` by position.
struct ComputedRow {
  RowProgram row;
  std::vector<ValueId> tensors;
};

struct RowReading {
  std::optional<ComputedRow> row;  ///< nullopt: the operand is read from memory
  std::string refused;             ///< why, when there was something that could have been absorbed
};

/// One side of a product of queries and keys.
struct RowSource {
  ValueId product = kNoValue;
  const DotOperand* operand = nullptr;  ///< how the matcher reads it
  /// Index into the product's operand for column `k` of the row, by nodes of the tracer's pool.
  std::function<Indices(Tracer&, ExprId k)> at;
  int64_t head_dim = 0;
  DType accumulate = DType::f32;
};

/// Absorbs what lies between the operand and memory (pointwise ops, views, concatenations and sums along the row,
/// loads) when nothing else reads it; what something else reads stays a value in memory, and so do products with their
/// epilogues. `base` holds the nodes that indices mention.
RowReading read_row(const GraphFacts& facts, const Tracer& base, const ScoreFrame& frame, const RowSource& source);

}  // namespace tilewright::fusion
