// The row pass of the prefill template: a strip's S tile in L1 becomes its P tile, the online softmax advances.
#pragma once

#include "codegen/cpu/prefill_layout.h"

namespace tilewright::cpu {

/// What one call works on; pointers are to the strip's first row.
struct StripState {
  llvm::Value *b, *h;
  llvm::Value* q;          ///< position of the first row
  llvm::Value* rows;       ///< rows that exist, at least 1
  llvm::Value* kv;         ///< position of the first column
  llvm::Value* columns;    ///< columns that may be kept, at least 1
  llvm::Value* scores;     ///< S in, P out: zeros from `columns` up to a multiple of row_step · lanes
  llvm::Value* max;        ///< [row]: running maximum, base 2
  llvm::Value* sum;        ///< [row][lanes]: running sums, one per lane
  llvm::Value* factor;     ///< [row] out: what earlier sums and outputs are multiplied by
};

class RowPass {
 public:
  RowPass(LlvmBuilder& builder, const TileProgram& program, const PrefillLayout& layout);
  /// Every column of every row is kept, and there are a multiple of row_step · lanes of them.
  void full(const StripState& strip);
  void partial(const StripState& strip);

 private:
  llvm::Function* emit(const std::string& name, bool whole);
  void emit_row(const StripState& strip, llvm::Value* row, bool whole);
  void call(llvm::Function* function, const StripState& strip);

  LlvmBuilder& b_;
  const TileProgram& program_;
  const PrefillLayout& layout_;
  llvm::Function* full_ = nullptr;
  llvm::Function* partial_ = nullptr;
};

}  // namespace tilewright::cpu
