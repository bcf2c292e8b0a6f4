// Operand movement that the fast templates share: rows widened to the accumulation type and zero padded, and rows
// turned into k-major panels.
#pragma once

#include <functional>
#include <map>

#include "codegen/cpu/llvm_builder.h"

namespace tilewright::cpu {

/// dst[i] = src[i · stride] · scale for i < count, zero up to `padded`; dst is dense and of type `to`.
class RowCopy {
 public:
  RowCopy(LlvmBuilder& builder, DType to, int64_t lanes) : b_(builder), to_(to), lanes_(lanes) {}
  /// Emits the internal function for rows of `from`; call with no function under construction.
  void declare(DType from);
  void call(DType from, llvm::Value* dst, llvm::Value* src, llvm::Value* stride, llvm::Value* count, int64_t padded,
            double scale = 1);
  void call(DType from, llvm::Value* dst, llvm::Value* src, llvm::Value* stride, llvm::Value* count, int64_t padded,
            llvm::Value* scale);

 private:
  LlvmBuilder& b_;
  DType to_;
  int64_t lanes_;
  std::map<DType, llvm::Function*> functions_;
};

/// Elements that transpose_to_panel moves of each row at a time.
inline int64_t transpose_step(DType dtype) { return 16 / size_of(dtype); }

/// Columns 0 … e - 1 of `lanes` rows, `row_stride` elements apart, to e panel rows of `lanes` elements, `panel` apart;
/// e = 16 bytes / element size.
void transpose_to_panel(LlvmBuilder& b, DType dtype, int64_t lanes, llvm::Value* rows, int64_t row_stride,
                        llvm::Value* columns, int64_t panel);
/// The same of rows that begin at row(0), row(1), …
void transpose_to_panel(LlvmBuilder& b, DType dtype, int64_t lanes,
                        const std::function<llvm::Value*(int64_t row)>& rows, llvm::Value* columns, llvm::Value* panel);

}  // namespace tilewright::cpu
