// Scores to weights with queries as lanes: what the AMX prefill template's two ways of summing outputs share.
#pragma once

#include "codegen/cpu/amx_prefill_scores.h"

namespace tilewright::cpu {

class AmxWeights {
 public:
  /// In the function that uses it, for one (b, h).
  AmxWeights(LlvmBuilder& builder, const AttentionSpec& spec, double scale, llvm::Value* b, llvm::Value* h);

  /// Sixteen queries of a unit: where they lie, which exist, and what their scores are taken against.
  struct Group {
    llvm::Value *first, *exists, *reference;
  };
  Group group(llvm::Value* q, llvm::Value* rows, llvm::Value* lane, llvm::Value* max);

  /// One key's scores as the score pass left them; `sum` grows by the weights (softmax), which are returned times their
  /// factor.
  llvm::Value* weigh(const Group& group, llvm::Value* kv, llvm::Value* scores, llvm::Value*& sum);
  bool has_factor() const { return factor_.has_value(); }
  bool normalised() const { return spec_.normaliser == Normaliser::softmax; }

 private:
  static constexpr int64_t kLanes = AmxPrefillLayout::kGroup;

  LlvmBuilder& b_;
  const AttentionSpec& spec_;
  bool coarse_;  ///< weights become bf16, and nobody reads their sum but the normalisation
  double scale_;
  std::optional<ExprEmitter> factor_;
};

/// O of a unit follows its references: times the factors, [32], that the score pass gave.
void rescale_outputs(LlvmBuilder& b, const AmxPrefillLayout& layout, llvm::Value* outputs, llvm::Value* factors);

}  // namespace tilewright::cpu
