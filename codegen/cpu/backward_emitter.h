// The emitter behind the fast backward template, one object per module; backward_template.cpp says how the kernel
// works.
#pragma once

#include <memory>

#include "codegen/cpu/backward_products.h"
#include "codegen/cpu/backward_rows.h"
#include "codegen/cpu/backward_scores.h"
#include "codegen/cpu/block_tests.h"

namespace tilewright::cpu {

class BackwardEmitter : private BackwardScratch {
 public:
  BackwardEmitter(LlvmBuilder& builder, const BackwardSpec& spec, const BackwardLayout& layout);

  // backward_template.cpp
  void main_kernel(const std::string& symbol);
  // backward_outputs.cpp: zeros before, and what the workspace gathered after.
  void clear_kernel(const std::string& symbol);
  void staged_kernel(const std::string& symbol);
  void table_kernel(const std::string& symbol, size_t captured);

 private:
  /// A chunk of keys of one b and KV head.
  struct Chunk {
    llvm::Value *number, *first, *count;
    llvm::Value *b, *head;  ///< the group's first query head
    llvm::Value* list;      ///< which partial tables it adds to
  };
  /// A query block of one head against a chunk.
  struct Block {
    RowBlock rows;
    llvm::Value* count;
    llvm::Value* number;
  };
  llvm::Value* size(ArgsReader& args, const Expr& expr);

  void item(ArgsReader& args, llvm::Value* number);
  void chunk(ArgsReader& args, const Chunk& chunk);
  void head(ArgsReader& args, const Chunk& chunk, llvm::Value* h);
  /// i1: something was visited.
  llvm::Value* visit_block(ArgsReader& args, const Chunk& chunk, const Block& block);
  void tile(const Chunk& chunk, const Block& block, const BlockTests::Keys& keys, llvm::Value* more);
  void strip(const Chunk& chunk, const Block& block, const BlockTests::Keys& keys, const BackwardProducts::Tile& tile,
             const BackwardProducts::Strip& strip, llvm::Value* full);
  void add_rows(ArgsReader& args, const Block& block);
  void store_columns(ArgsReader& args, const Chunk& chunk);

  void clear_output(ArgsReader& args, size_t captured);
  /// Zeros in the sums that are stored and not added to, where no tile does it.
  void clear_scores(ArgsReader& args, const RowBlock& rows, const BlockTests::Keys& keys);

  // Turns, backward_turns.cpp.
  llvm::Value* turn_counter(ArgsReader& args, llvm::Value* chunk, llvm::Value* b, llvm::Value* h);
  void wait_for(llvm::Value* counter, llvm::Value* least);
  void publish(llvm::Value* counter, llvm::Value* value);

  StridedRows output_rows(ArgsReader& args, const BackwardLayout::Product& product, llvm::Value* b, llvm::Value* h,
                          llvm::Value* first, llvm::Value* count);
  StridedRows staged_rows(ArgsReader& args, size_t product, llvm::Value* b, llvm::Value* h, llvm::Value* first,
                          llvm::Value* count);
  /// b, h and rows of a number below row_blocks().
  Block decode_rows(ArgsReader& args, llvm::Value* number);

  const BackwardSpec& spec_;
  ArgsLayout args_layout_;
  ScorePass scores_;
  std::unique_ptr<BackwardProducts> products_;
  RowWriter writer_;
  BlockTests tests_;

  // Of the main kernel.
  llvm::Value *kv_len_ = nullptr, *q_len_ = nullptr, *batch_ = nullptr, *heads_ = nullptr;
};

}  // namespace tilewright::cpu
