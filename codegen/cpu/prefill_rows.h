// The row pass of the prefill template: a strip's S tile in L1 becomes its P tile, and the online softmax advances.
// The score expression runs once, in the max pass; keep only where a strip's columns are not known to be all kept.
#pragma once

#include <optional>

#include "codegen/cpu/expr_emitter.h"
#include "codegen/cpu/prefill_layout.h"

namespace tilewright::cpu {

/// What one call works on; pointers are to the strip's first row.
struct StripState {
  llvm::Value *b, *h;
  llvm::Value* q;        ///< position of the first row
  llvm::Value* rows;     ///< rows that exist, at least 1
  llvm::Value* kv;       ///< position of the first column
  llvm::Value* columns;  ///< columns that may be kept, at least 1
  llvm::Value* whole;    ///< i1: all of them are kept, by every row, and they are a multiple of row_step · lanes
  llvm::Value* scores;   ///< S in, P out: zeros from `columns` up to a multiple of row_step · lanes
  llvm::Value* max;      ///< [row]: running maximum, base 2
  llvm::Value* sum;      ///< [row][lanes]: running sums, one per lane
  llvm::Value* factor;   ///< [row] out: what earlier sums and outputs are multiplied by
};

class RowPass {
 public:
  /// `score` is the program's without what Q was scaled by. Emits one internal function.
  RowPass(LlvmBuilder& builder, const TileProgram& program, const Expr& score, const PrefillLayout& layout);
  void call(const StripState& strip);
  /// Nothing happens to scores and only the end of the sequence hides any: `whole` is not read.
  bool plain() const { return plain_score_ && spec_.keep.is_constant_true(); }

 private:
  struct Row;
  void emit_row(const StripState& strip, llvm::Value* row, ExprEmitter* score, ExprEmitter* keep, ExprEmitter* ahead,
                ExprEmitter* weight);
  /// Scores of `count` vectors from `column` on, -inf (0 without softmax) where hidden; stored when they changed.
  Values visit(const Row& row, llvm::Value* column, int64_t count, bool whole);
  llvm::Value* maxima(const Row& row);
  void softmax(const Row& row, llvm::Value* top);
  Values factors_at(const Row& row, llvm::Value* column);

  LlvmBuilder& b_;
  const AttentionSpec& spec_;
  const PrefillLayout& layout_;
  const double scale_;
  const bool plain_score_;
  llvm::Function* function_ = nullptr;
};

}  // namespace tilewright::cpu
