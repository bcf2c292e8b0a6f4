// A unit of the AMX prefill template whose operands may not be split (split_terms.h): the same passes over the same
// regions of scratch, products by FMA on f32 (microkernel.h), weights left in f32 where their scores were. Infinities,
// NaN, huge and tiny operands thus give what FMA on f32 gives.
//
//   Sᵀ[keys][16] = K·Qᵀ per group, from rows of K and panels of Q;  Oᵀ[columns][16] += Vᵀ·Pᵀ, from rows of Vᵀ
//
// What is rare here is to compile fast: one product serves both, and what stands around it is not optimised.
#pragma once

#include "codegen/cpu/amx_prefill_weights.h"
#include "codegen/cpu/microkernel.h"

namespace tilewright::cpu {

class AmxFmaUnit {
 public:
  /// Emits internal functions; call with no function under construction.
  AmxFmaUnit(LlvmBuilder& builder, AmxScorePass& scores, const AttentionSpec& spec, const AmxPrefillLayout& layout);

  struct Unit {
    llvm::Value *b, *h;
    llvm::Value *row, *q, *rows;  ///< the first of the item, its position, how many
    llvm::Value *kv, *columns;    ///< position of the first key, keys that may be kept
    llvm::Value* whole;           ///< i64, as for the score pass
    llvm::Value* step;            ///< of 32 keys, in the block that was widened: where kv lies
    llvm::Value* scratch;
  };
  void call(const Unit& unit);

 private:
  using Layout = AmxPrefillLayout;
  static constexpr int64_t kLanes = Layout::kGroup;
  static constexpr RegisterTile kTile{8, 1};  // small: few blocks come here

  void emit();

  LlvmBuilder& b_;
  AmxScorePass& scores_;
  const AttentionSpec& spec_;
  const AmxPrefillLayout& layout_;
  TileProduct product_;
  int64_t piece_;
  llvm::Function* function_ = nullptr;
};

}  // namespace tilewright::cpu
