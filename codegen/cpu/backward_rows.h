// Rows between scratch and strided tensors: written once, or added to.
#pragma once

#include <map>

#include "codegen/cpu/llvm_builder.h"

namespace tilewright::cpu {

/// A block of rows in a tensor of any strides.
struct StridedRows {
  llvm::Value* base;
  llvm::Value *row_stride, *column_stride;  ///< elements
  llvm::Value *rows, *width;
};

class RowWriter {
 public:
  /// `from` is the type of the rows in scratch.
  RowWriter(LlvmBuilder& builder, DType from, int64_t lanes) : b_(builder), from_(from), lanes_(lanes) {}
  enum class Mode : uint8_t { store, add, zero };
  /// Emits the internal function; call with no function under construction. `add` only to rows of `from`.
  void declare(Mode mode, DType to);
  /// `source` (dense rows, `source_stride` elements apart) is not read by `zero`.
  void call(Mode mode, DType to, const StridedRows& rows, llvm::Value* source, int64_t source_stride);

 private:
  LlvmBuilder& b_;
  DType from_;
  int64_t lanes_;
  std::map<std::pair<Mode, DType>, llvm::Function*> functions_;
};

}  // namespace tilewright::cpu
