// The emitter behind the prefill template, one object per module; prefill_template.cpp says how the kernel works.
#pragma once

#include <optional>

#include "codegen/cpu/block_tests.h"
#include "codegen/cpu/prefill_pack.h"
#include "codegen/cpu/prefill_rows.h"
#include "compiler/passes.h"

namespace tilewright::cpu {

class PrefillEmitter {
 public:
  PrefillEmitter(LlvmBuilder& builder, const TileProgram& program, const PrefillLayout& layout);

  void pack_kernel(const std::string& symbol);
  void main_kernel(const std::string& symbol);

 private:
  llvm::Value* at(llvm::Value* base, llvm::Value* elements) {
    return b_.element_pointer(layout_.dtype, base, elements);
  }
  llvm::Value* at(llvm::Value* base, int64_t elements) { return at(base, b_.i64(elements)); }
  llvm::Value* scratch(int64_t elements) { return at(b_.argument(3), elements); }
  TileProduct& outputs() { return outputs_ ? *outputs_ : scores_; }

  void item(ArgsReader& args, const Item& item, llvm::Value* kv_head);
  /// Rows [row, row + rows) of an item against keys [kv, end) of a packed block; `full` is the whole item's block test,
  /// null where a strip's own test is cheap: those that scan tables are made for an item first, and for its strips only
  /// where that leaves them open.
  void strip(const Item& item, llvm::Value* row, llvm::Value* rows, llvm::Value* kv, llvm::Value* end,
             llvm::Value* block, llvm::Value* full);
  void finish(ArgsReader& args, const Item& item);

  LlvmBuilder& b_;
  const AttentionSpec& spec_;
  const PrefillLayout& layout_;
  ArgsLayout args_layout_;
  LeadingScale leading_;
  TileProduct scores_;
  std::optional<TileProduct> outputs_;
  RowPass rows_;
  PrefillPacker packer_;

  BlockTests tests_;

  // Of the main kernel.
  llvm::Value* kv_len_ = nullptr;
};

}  // namespace tilewright::cpu
