// Operand movement of the backward template's FMA products: rows of a query block, and rows and k-major panels of a
// chunk of keys; widened to the accumulation type, zero padded, keys hidden by keep_kv as zeros.
#pragma once

#include "codegen/cpu/backward_source.h"

namespace tilewright::cpu {

class BackwardPacker {
 public:
  /// Emits the internal functions it needs; call with no function under construction.
  BackwardPacker(LlvmBuilder& builder, const BackwardSpec& spec, const ArgsLayout& args, const BackwardLayout& layout);

  /// Rows [begin, begin + count) of every q operand of (b, h), scaled, zeros up to a multiple of k_unroll rows.
  void load_queries(llvm::Value* b, llvm::Value* h, llvm::Value* begin, llvm::Value* count, llvm::Value* scratch);
  /// Keys [first, first + count) of (b, h), count > 0; columns of panels up to a whole panel are zero.
  void load_chunk(llvm::Value* b, llvm::Value* h, llvm::Value* first, llvm::Value* count, llvm::Value* scratch);

 private:
  void emit_queries();
  void emit_chunk();
  llvm::Value* at(llvm::Value* base, int64_t elements) {
    return b_.element_pointer(layout_.dtype, base, b_.i64(elements));
  }

  LlvmBuilder& b_;
  const BackwardLayout& layout_;
  BackwardSource source_;
  llvm::Function *queries_ = nullptr, *chunk_ = nullptr;
};

}  // namespace tilewright::cpu
