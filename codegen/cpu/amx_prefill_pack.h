// Operand movement of the AMX prefill template: rows of Q, K and V, stored or computed, staged in f32, zero padded and
// with hidden keys zero (inf · 0 is NaN in tiles, too), then packed as tiles (amx_pack.h).
#pragma once

#include "codegen/cpu/access.h"
#include "codegen/cpu/amx_pack.h"
#include "codegen/cpu/amx_prefill_layout.h"
#include "codegen/cpu/row_copy.h"
#include "codegen/cpu/row_emitter.h"

namespace tilewright::cpu {

class AmxPrefillPacker {
 public:
  /// Emits the internal functions it needs; call with no function under construction.
  AmxPrefillPacker(LlvmBuilder& builder, const AttentionSpec& spec, const ArgsLayout& args,
                   const AmxPrefillLayout& layout);

  /// Rows [begin, begin + count) of (b, h), times `scale` where the layout scales queries, as whole units of tiles to
  /// scratch; sets the flag of the item.
  void pack_queries(const RowAccess& query, llvm::Value* b, llvm::Value* h, llvm::Value* begin, llvm::Value* count,
                    double scale, llvm::Value* scratch);
  /// Keys [first, first + count) of (b, kv head) to dst, a packed block; the rest of the block is zero.
  void pack_block(const RowAccess& key, const RowAccess& value, llvm::Value* first, llvm::Value* count, llvm::Value* b,
                  llvm::Value* h, llvm::Value* scratch, llvm::Value* dst);

  // What goes through FMA instead, in a layout that is checked; dense f32 rows in scratch.
  /// Up to 32 rows of Q, as panels of 16.
  void widen_queries(const RowAccess& query, llvm::Value* b, llvm::Value* h, llvm::Value* begin, llvm::Value* count,
                     double scale, llvm::Value* scratch);
  /// A block of K, and of V transposed.
  void widen_block(const RowAccess& key, const RowAccess& value, llvm::Value* first, llvm::Value* count, llvm::Value* b,
                   llvm::Value* h, llvm::Value* scratch);
  /// 16 × 16 words; strides are in words.
  void transpose(llvm::Value* from, int64_t from_stride, llvm::Value* to, int64_t to_stride) {
    tiles_.transpose(from, from_stride, to, to_stride);
  }

 private:
  using Layout = AmxPrefillLayout;

  class KeyStage;
  llvm::Function* begin_query_function(const std::string& name);
  llvm::Function* begin_block_function(const std::string& name);
  void stage_queries(llvm::Value* group);
  void emit_pack_queries();
  void emit_widen_queries();
  void emit_pack_block();
  void emit_widen_block();
  void call_queries(llvm::Function* function, const RowAccess& query, llvm::Value* b, llvm::Value* h,
                    llvm::Value* begin, llvm::Value* count, double scale, llvm::Value* scratch);
  void call_block(llvm::Function* function, const RowAccess& key, const RowAccess& value, llvm::Value* first,
                  llvm::Value* count, llvm::Value* b, llvm::Value* h, llvm::Value* scratch, llvm::Value* dst);

  LlvmBuilder& b_;
  const AttentionSpec& spec_;
  const ArgsLayout& args_;
  const AmxPrefillLayout& layout_;
  DType query_type_, key_type_, value_type_;
  RowCopy copy_;
  DotRows computed_;
  TilePacker tiles_;
  TilePacker::Shape queries_, keys_, values_;
  llvm::Function *pack_queries_ = nullptr, *pack_block_ = nullptr, *widen_queries_ = nullptr, *widen_block_ = nullptr;
};

}  // namespace tilewright::cpu
