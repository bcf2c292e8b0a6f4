// The emitter behind the AMX prefill template, one object per module; amx_prefill_template.cpp says how it works.
#pragma once

#include "codegen/cpu/amx_prefill_pack.h"
#include "codegen/cpu/amx_prefill_step.h"
#include "codegen/cpu/block_tests.h"

namespace tilewright::cpu {

class AmxPrefillEmitter {
 public:
  AmxPrefillEmitter(LlvmBuilder& builder, const TileProgram& program, const AmxPrefillLayout& layout);

  void pack_kernel(const std::string& symbol);
  void main_kernel(const std::string& symbol);

 private:
  llvm::Value* place(int64_t at) { return b_.byte_pointer(b_.argument(3), b_.i64(at)); }
  llvm::Value* state_word(int64_t word) { return place(layout_.state_at + 8 * word); }
  llvm::Value* per_row(int64_t at, llvm::Value* row, int64_t unit_bytes) {
    return b_.byte_pointer(place(at), b_.mul(row, b_.i64(unit_bytes / AmxPrefillLayout::kUnit)));
  }
  void fill(int64_t from, int64_t to, double with);

  void emit_advance();
  /// Shifts the units of the pipeline by one, runs a step, and leaves the next unit empty.
  void advance(const Item& item);
  void drain(const Item& item);
  void item(ArgsReader& args, const Item& item, llvm::Value* kv_head);
  /// Rows [row, row + rows) of an item against keys [kv, end) of a packed block; `full` is the whole item's test where
  /// tests scan tables, else null.
  void unit(const Item& item, llvm::Value* row, llvm::Value* rows, llvm::Value* kv, llvm::Value* end,
            llvm::Value* block, llvm::Value* full);
  void finish(ArgsReader& args, const Item& item);
  void store_rows(const RowAccess& out, llvm::Value* q, llvm::Value* count);

  LlvmBuilder& b_;
  const AttentionSpec& spec_;
  const AmxPrefillLayout& layout_;
  ArgsLayout args_layout_;
  AmxTiles tiles_;
  AmxPrefillPacker packer_;
  AmxScorePass scores_;
  AmxPrefillStep step_;
  BlockTests tests_;
  llvm::Function* advance_ = nullptr;

  // Of the main kernel.
  llvm::Value* kv_len_ = nullptr;
};

}  // namespace tilewright::cpu
