// Between the two products of decode: S becomes P in place, row by row, as an internal function.
#pragma once

#include "codegen/cpu/decode_layout.h"
#include "codegen/cpu/expr_emitter.h"
#include "compiler/passes.h"

namespace tilewright::cpu {

/// Rows of one block of keys.
struct DecodeRows {
  llvm::Value *b, *h;      ///< h: the group's first query head
  llvm::Value* first_row;  ///< of q_len · head_group
  llvm::Value* count;
  llvm::Value *kv, *keys;  ///< position of the first key, and their number
};

class DecodeWeights {
 public:
  /// Emits the function. `score` is the program's without its leading scale, which Q bears.
  DecodeWeights(LlvmBuilder& builder, const TileProgram& program, const Expr& score, const DecodeLayout& layout);
  /// The maximum, the sum of weights and the factor of earlier sums advance; all in `scratch`. Emitted into a function
  /// whose first parameter is the kernel's arguments.
  void call(llvm::Value* scratch, const DecodeRows& rows);

 private:
  void emit_row(const DecodeRows& rows, llvm::Value* i, ExprEmitter* score, ExprEmitter* keep, ExprEmitter* weight);
  llvm::Value* scratch(int64_t start, llvm::Value* offset);
  bool softmax() const { return spec_.normaliser == Normaliser::softmax; }

  LlvmBuilder& b_;
  const AttentionSpec& spec_;
  const DecodeLayout& l_;
  double scale_;  ///< of the score, after its expression
  llvm::Function* function_;
};

}  // namespace tilewright::cpu
