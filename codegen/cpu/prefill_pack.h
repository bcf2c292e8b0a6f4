// Operand movement of the prefill template: Q rows scaled, K into k-major panels, V into dense rows; widened to the
// accumulation type, zero padded, keys hidden by keep_kv (and those beyond kv_len) as zeros.
#pragma once

#include "codegen/cpu/access.h"
#include "codegen/cpu/prefill_layout.h"
#include "codegen/cpu/row_copy.h"
#include "codegen/cpu/row_emitter.h"

namespace tilewright::cpu {

class PrefillPacker {
 public:
  /// Emits the internal functions it needs; call with no function under construction.
  PrefillPacker(LlvmBuilder& builder, const AttentionSpec& spec, const ArgsLayout& args, const PrefillLayout& layout);

  /// Rows [begin, begin + count) of Q times `scale` to dst[row][padded_head_dim]. `rows` is scratch for computed ones.
  void pack_queries(const RowAccess& query, llvm::Value* b, llvm::Value* h, llvm::Value* begin, llvm::Value* count,
                    double scale, llvm::Value* rows, llvm::Value* dst);

  /// Keys [first, first + count) of (b, h) to dst, a packed block, count > 0; the block's other keys up to a multiple
  /// of the panel are zero. `stage` is scratch, rows_at follows it as in the layout.
  void pack_block(const RowAccess& key, const RowAccess& value, llvm::Value* first, llvm::Value* count, llvm::Value* b,
                  llvm::Value* h, llvm::Value* stage, llvm::Value* dst);

 private:
  void emit_pack_block();

  LlvmBuilder& b_;
  const AttentionSpec& spec_;
  const ArgsLayout& args_;
  const PrefillLayout& layout_;
  DType query_type_, key_type_, value_type_;
  RowCopy copy_;
  DotRows computed_;
  llvm::Function* pack_ = nullptr;
};

}  // namespace tilewright::cpu
