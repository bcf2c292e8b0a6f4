// The emitter behind the AMX prefill template, one object per module; amx_prefill_template.cpp says how it works.
#pragma once

#include "codegen/cpu/amx_prefill_fma.h"
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
  using Layout = AmxPrefillLayout;
  using State = AmxPipelineState;
  using Field = AmxUnitFields;
  static constexpr int64_t kLanes = Layout::kGroup;

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
  /// Keys [kv, end), packed; `full` is the whole item's test where tests scan tables, else null.
  struct KeyBlock {
    llvm::Value *kv, *end, *packed, *full;
    llvm::Value* wide;  ///< i1: something in it or in the item's Q may not be split; null where nothing is
  };
  void unit(const Item& item, const RowAccess& query, llvm::Value* row, llvm::Value* rows, const KeyBlock& block);
  void push(const Item& item, llvm::Value* row, const RowBlock& rows, const BlockTests::Keys& keys,
            const KeyBlock& block);
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
  std::optional<AmxFmaUnit> fma_;  ///< where operands are split
  BlockTests tests_;
  llvm::Function* advance_ = nullptr;

  // Of the main kernel.
  llvm::Value* kv_len_ = nullptr;
};

}  // namespace tilewright::cpu
