// The first pass over a unit's scores in the transposed form, S as [group][key][16 queries]: score and mask expressions
// once per score with queries as lanes, and the references that weights are taken against.
//
// A query's reference is the largest score so far, but it follows only when the block's largest score exceeds it by
// more than the schedule's threshold (base 2): the sums and outputs that were taken against the old one then wait for
// one multiplication in tens of blocks rather than one per block, and weights stay below 2^threshold.
#pragma once

#include "codegen/cpu/amx_prefill_layout.h"
#include "codegen/cpu/expr_emitter.h"
#include "compiler/passes.h"

namespace tilewright::cpu {

class AmxScorePass {
 public:
  /// Emits one internal function.
  AmxScorePass(LlvmBuilder& builder, const TileProgram& program, const AmxPrefillLayout& layout);

  struct Unit {
    llvm::Value *b, *h;
    llvm::Value *q, *rows;      ///< position of the first query, queries that exist
    llvm::Value *kv, *columns;  ///< position of the first key, keys that may be kept, at least 1
    llvm::Value* whole;         ///< i64: not 0 when every query keeps all of them
    llvm::Value* scores;        ///< S in; out, what pass two subtracts references from; beyond `columns` hidden
    llvm::Value *max, *sum;     ///< [32] each: references and sums of weights; sums are brought to new references
    llvm::Value* factor;        ///< [32] out: what outputs are to be multiplied by
  };
  /// i64: not 0 when a factor is not 1.
  llvm::Value* call(const Unit& unit);

  /// Scores are the products times plain_scale(), which is not negative.
  bool plain() const { return plain_; }
  /// The second pass multiplies scores by this before it subtracts: they are left as the product made them.
  double plain_scale() const { return plain_ ? plain_scale_ : 1; }
  /// What Q is multiplied by where the layout scales queries.
  double query_scale() const { return leading_.scale; }

 private:
  using Layout = AmxPrefillLayout;
  static constexpr int64_t kLanes = Layout::kGroup;

  void emit();
  // Of the group of lanes that starts at `lane`, 0 or 16.
  llvm::Value* emit_group(const Unit& unit, llvm::Value* lane);
  llvm::Value* group_scores(const Unit& unit, llvm::Value* lane);
  llvm::Value* visit(const Unit& unit, llvm::Value* lane, bool whole);
  llvm::Value* follow(const Unit& unit, llvm::Value* lane, llvm::Value* top);

  LlvmBuilder& b_;
  const AttentionSpec& spec_;
  const AmxPrefillLayout& layout_;
  const LeadingScale leading_;
  const Expr score_;        ///< of the scores that the product makes
  double score_scale_ = 1;  ///< what is left to multiply after it
  bool plain_;              ///< score_ is the raw score times plain_scale_, not negative
  double plain_scale_ = 1;
  llvm::Function* function_ = nullptr;
  std::optional<ExprEmitter> score_emitter_, keep_emitter_;
};

}  // namespace tilewright::cpu
