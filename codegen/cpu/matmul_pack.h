// Operand movement of the matmul and matvec templates: rows of A and panels of B, read through their expressions (any
// layout, broadcast or cast will do), widened to the accumulation type and zero padded; and C's way out.
#pragma once

#include <functional>
#include <optional>

#include "codegen/cpu/matmul_layout.h"

namespace tilewright::cpu {

class MatmulPacker {
 public:
  /// Emits the internal functions it needs; call with no function under construction.
  MatmulPacker(LlvmBuilder& builder, const LoopStep& step, const ArgsLayout& args, const MatmulLayout& layout,
               const std::string& prefix);

  /// `rows` rows of A from row on, at depths [k, k + depth), to dst[row][lda], depth padded.
  void pack_rows(llvm::Value* outer, llvm::Value* row, llvm::Value* rows, llvm::Value* k, llvm::Value* depth,
                 llvm::Value* stage, llvm::Value* dst);
  /// `columns` columns of B from column on, at depths [k, k + depth), to panels [nr columns][depth padded][nr],
  /// `panel_step` elements apart; columns of the last panel beyond them are zero.
  void pack_columns(llvm::Value* outer, llvm::Value* column, llvm::Value* columns, llvm::Value* k, llvm::Value* depth,
                    llvm::Value* panel_step, llvm::Value* stage, llvm::Value* dst);
  /// C [rows][ldc] through the epilogue to the output.
  void store(llvm::Value* outer, llvm::Value* row, llvm::Value* rows, llvm::Value* column, llvm::Value* columns,
             llvm::Value* c);
  llvm::Value* padded(llvm::Value* depth) { return b_.mul(b_.ceil_div(depth, layout_.k_unit), b_.i64(layout_.k_unit)); }

 private:
  llvm::Value* at(llvm::Value* base, llvm::Value* elements) {
    return b_.element_pointer(layout_.dtype, base, elements);
  }
  void set_row(LoopFrame& frame, std::optional<ExprEmitter>& emitter, llvm::Value* row);
  /// A second emitter, to ask for the memory that is read some steps of `moving` later; none where that is no stream.
  std::optional<ExprEmitter> ahead(LoopFrame& frame, const Expr& expr, int vary, int moving);
  void ask(std::optional<ExprEmitter>& later, int moving, llvm::Value* position);
  llvm::Value* read(ExprEmitter& value, llvm::Value* position, llvm::Value* mask);
  void emit_pack_rows(ArgsReader& args);
  void emit_pack_columns(ArgsReader& args);
  void emit_store(ArgsReader& args);
  /// `lanes` rows of the stage, filled by read_row(row, position, mask), to dst[0 … count rounded up)[lanes].
  void transposed(llvm::Value* count, llvm::Value* stage, llvm::Value* dst, int64_t pitch,
                  const std::function<void(llvm::Value* row)>& start_row,
                  const std::function<llvm::Value*(llvm::Value* position, llvm::Value* mask)>& read_row);

  LlvmBuilder& b_;
  const LoopStep& step_;
  const MatmulLayout& layout_;
  llvm::Function *rows_ = nullptr, *columns_ = nullptr, *store_ = nullptr;
};

}  // namespace tilewright::cpu
