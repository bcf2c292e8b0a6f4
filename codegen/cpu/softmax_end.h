// The end of an online softmax, for a row or for lanes of rows: a sink joined, empty rows, the LSE. All values are of
// one type, scalar or vector; maxima, or whatever weights were taken against, are in base 2.
#pragma once

#include "codegen/cpu/llvm_builder.h"

namespace tilewright::cpu {

class SoftmaxEnd {
 public:
  /// `sink` (natural units, may be null) is one more score, that no value row belongs to.
  SoftmaxEnd(LlvmBuilder& builder, llvm::Value* max, llvm::Value* sum, llvm::Value* sink);
  /// A part of O, as summed.
  llvm::Value* normalise(llvm::Value* output);
  llvm::Value* logsumexp();

 private:
  void add_sink(llvm::Value* sink);
  llvm::Value* constant(double value);

  LlvmBuilder& b_;
  llvm::Value *max_, *sum_;
  llvm::Value* factor_ = nullptr;  ///< what O is still to be multiplied by, where a sink joined
  llvm::Value *empty_, *divisor_;  ///< i1: nothing was kept; never 0
};

}  // namespace tilewright::cpu
