// First phase of the decode template: one split of one KV head's keys against all query rows that share it.
#pragma once

#include "codegen/cpu/access.h"
#include "codegen/cpu/decode_tiles.h"
#include "codegen/cpu/expr_emitter.h"
#include "compiler/passes.h"

namespace tilewright::cpu {

/// Items are (b, kv head, split), splits fastest. An item writes one record per row (see DecodeLayout): value sums, the
/// maximum of base-2 scores and the sum of weights; a sum of 0 means that the rest was not written.
class DecodeSplit {
 public:
  DecodeSplit(LlvmBuilder& builder, const TileProgram& program, const DecodeLayout& layout)
      : b_(builder),
        program_(program),
        spec_(program.spec),
        l_(layout),
        args_layout_(args_layout(program.spec)),
        leading_(leading_scale(program.score)) {}
  void kernel(const std::string& symbol);

 private:
  struct Emitters {
    ExprEmitter score, keep, keep_kv, keep_kv_one, begin, end, skip;
    void set(Axis axis, llvm::Value* value);
    void hoist();
  };
  struct Item {
    llvm::Value *b, *h;        ///< h: the group's first query head
    llvm::Value *begin, *end;  ///< keys of the split
    llvm::Value* state;        ///< the rows' records
  };

  void item(ArgsReader& args, Emitters& emit, const Item& item);
  void rows(ArgsReader& args, Emitters& emit, const Item& item, llvm::Value* first_row, llvm::Value* count,
            llvm::Value* begin, llvm::Value* end);
  Values key_range(ArgsReader& args, Emitters& emit, const Item& item);
  llvm::Value* skipped(ArgsReader& args, Emitters& emit, const Item& item, llvm::Value* first, llvm::Value* last);
  llvm::Value* over_heads(const std::vector<const Expr*>& exprs, const Item& item, Emitters& emit, const Values& start,
                          const std::function<Values(const Values&)>& body, Values& result);
  void pack_queries(ArgsReader& args, const Item& item, llvm::Value* first_row, llvm::Value* count);
  void block(Emitters& emit, const Item& item, llvm::Value* first_row, llvm::Value* count, const RowAccess& key,
             const RowAccess& value, llvm::Value* kv, llvm::Value* keys);
  void weights(Emitters& emit, const Item& item, llvm::Value* first_row, llvm::Value* count, llvm::Value* kv,
               llvm::Value* keys);
  DecodeBlock natural_or_staged(Emitters& emit, const DecodeOperand& operand, const RowAccess& access, llvm::Value* kv,
                                llvm::Value* keys, int64_t stage_at, bool hide);
  bool softmax() const { return spec_.normaliser == Normaliser::softmax; }

  LlvmBuilder& b_;
  const TileProgram& program_;
  const AttentionSpec& spec_;
  const DecodeLayout& l_;
  ArgsLayout args_layout_;
  LeadingScale leading_;
  DecodeTiles* tiles_ = nullptr;
};

}  // namespace tilewright::cpu
