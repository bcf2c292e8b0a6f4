// First phase of the decode template: one split of one KV head's keys against all query rows that share it.
#pragma once

#include <map>
#include <optional>

#include "codegen/cpu/access.h"
#include "codegen/cpu/amx_decode_tiles.h"
#include "codegen/cpu/decode_weights.h"
#include "codegen/cpu/row_emitter.h"

namespace tilewright::cpu {

/// Items are (b, kv head, split), splits fastest. An item writes one record per row (see DecodeLayout): value sums, the
/// maximum of base-2 scores and the sum of weights; a sum of 0 means that the rest was not written.
/// The products, the weights and copies of K and V are functions compiled for speed; what is around them is not.
class DecodeSplit {
 public:
  /// Emits the functions that the kernel calls.
  DecodeSplit(LlvmBuilder& builder, const TileProgram& program, const DecodeLayout& layout);
  void kernel(const std::string& symbol);

 private:
  struct Emitters {
    ExprEmitter keep_kv, begin, end, skip;
    void set(Axis axis, llvm::Value* value);
  };
  struct Item {
    llvm::Value *b, *h;        ///< h: the group's first query head
    llvm::Value *begin, *end;  ///< keys of the split
    llvm::Value* state;        ///< the rows' records
  };

  void item(ArgsReader& args, Emitters& emit, const Item& item);
  void rows(ArgsReader& args, Emitters& emit, const Item& item, llvm::Value* first_row, llvm::Value* count,
            llvm::Value* begin, llvm::Value* end);
  Values key_range(Emitters& emit, const Item& item);
  llvm::Value* skipped(Emitters& emit, const Item& item, llvm::Value* first, llvm::Value* last);
  Values over_heads(const std::vector<const Expr*>& exprs, const Item& item, Emitters& emit, const Values& start,
                    const std::function<Values(const Values&)>& body);
  void pack_queries(ArgsReader& args, const Item& item, llvm::Value* first_row, llvm::Value* count);
  /// One query, `stride` elements between its columns: scaled, in the order in which vectors read keys; or rounded to
  /// bf16 and spread over tiles.
  void pack_for_vectors(DType dtype, llvm::Value* from, llvm::Value* stride, llvm::Value* row);
  void pack_for_tiles(DType dtype, llvm::Value* from, llvm::Value* stride, llvm::Value* row);
  /// Computed rows, or stored ones.
  DecodeBlock keys(Emitters& emit, const RowAccess& key, const DecodeRows& rows);
  /// `exactly`: whether vectors multiply V even where there are tiles (bool; null = no).
  void block(Emitters& emit, const DecodeRows& rows, const RowAccess& key, const RowAccess& value,
             llvm::Value* exactly);
  llvm::Value* sums_are_finite(llvm::Value* rows);
  llvm::Function* emit_copy(DType dtype, bool hide);
  DecodeBlock natural_or_copied(Emitters& emit, const DecodeOperand& operand, const RowAccess& access,
                                const DecodeRows& rows, int64_t copy_at, bool hide);
  llvm::Value* at(llvm::Value* base, llvm::Value* elements) { return b_.element_pointer(l_.dtype, base, elements); }
  llvm::Value* scratch(int64_t elements) { return at(b_.argument(3), b_.i64(elements)); }
  bool hides() const { return !spec_.keep_kv.is_constant_true(); }
  bool softmax() const { return spec_.normaliser == Normaliser::softmax; }

  LlvmBuilder& b_;
  const AttentionSpec& spec_;
  const DecodeLayout& l_;
  ArgsLayout args_layout_;
  LeadingScale leading_;
  DotRows computed_;
  DecodeTiles vectors_;
  std::optional<AmxDecodeTiles> tiles_;
  DecodeWeights weights_;
  llvm::Value* from_memory_ = nullptr;                        ///< of the kernel: all K and V are more than half of L3
  std::map<std::pair<DType, bool>, llvm::Function*> copies_;  ///< by dtype and whether keys are hidden
};

}  // namespace tilewright::cpu
