// Where operands lie: spec accesses resolved to a base pointer and two strides, and work items to (b, h, query block).
#pragma once

#include "codegen/cpu/llvm_builder.h"
#include "codegen/kernel_abi.h"
#include "ir/score_space.h"

namespace tilewright::cpu {

/// Element (s, d) of one operand for fixed b and h lies at base + (s · stride_seq + d · stride_dim) elements.
/// Loop-invariant for a work item: resolve once, outside all loops.
struct RowAccess {
  llvm::Value* base;
  llvm::Value* stride_seq;
  llvm::Value* stride_dim;
};
RowAccess resolve_access(LlvmBuilder& builder, ArgsReader& args, const ScoreSpace& spec, const Access& access,
                         llvm::Value* b, llvm::Value* h);

/// Product of run-time extents; 1 for none.
llvm::Value* extent_product(LlvmBuilder& builder, ArgsReader& args, const std::vector<Dim>& dims);

/// Query rows [q_begin, q_end) of one head, q_begin < q_end <= q_len.
struct RowBlock {
  llvm::Value *b, *h, *q_begin, *q_end;
};

/// Work items are (b, h, query block) in row-major order, query blocks fastest, so that one worker's neighbouring
/// items share K and V. item_count (codegen/kernel_abi.h) says how many there are.
using Item = RowBlock;
class ItemDecoder {
 public:
  /// `head_step` query heads form one item (its first one is Item::h): 1, or spec.head_group for templates that take a
  /// GQA group at once. Emits the loop-invariant parts here.
  ItemDecoder(LlvmBuilder& builder, ArgsReader& args, const ScoreSpace& spec, int64_t block_q, int64_t head_step = 1);
  Item decode(llvm::Value* item);
  llvm::Value* heads() { return heads_; }  ///< items along h
  llvm::Value* q_blocks() { return q_blocks_; }
  llvm::Value* q_len() { return q_len_; }

 private:
  LlvmBuilder& b_;
  int64_t block_q_, head_step_;
  llvm::Value *q_len_, *q_blocks_, *heads_, *per_batch_;
};

}  // namespace tilewright::cpu
