// The pass between the products of the backward template: tiles of s and t become tiles of weights (P, dS, …) in
// place, each expression evaluated once per score, and captured sums are added up on the way.
#pragma once

#include <optional>

#include "codegen/cpu/backward_layout.h"
#include "codegen/cpu/expr_emitter.h"

namespace tilewright::cpu {

/// What one call works on.
struct ScoreBlock {
  llvm::Value *b, *h;
  llvm::Value* q;        ///< position of the first row
  llvm::Value* rows;     ///< at least 1
  llvm::Value* kv;       ///< position of the first column
  llvm::Value* columns;  ///< at least 1
  llvm::Value* whole;    ///< i1: all of them are kept by every row, and they are a multiple of the lanes
  llvm::Value* tiles;    ///< tile 0; the others follow
  llvm::Value* list;     ///< which partial tables the item adds to
};

/// i1, of a stored sum: no (b, h) before this one reaches its elements.
llvm::Value* reaches_first(LlvmBuilder& b, const BackwardSpec& spec, const BackwardLayout::Captured& sum,
                           llvm::Value* batch, llvm::Value* head);

class ScorePass {
 public:
  /// Emits internal functions; call with no function under construction.
  ScorePass(LlvmBuilder& builder, const BackwardSpec& spec, const BackwardLayout& layout, const ArgsLayout& args);
  void call(const ScoreBlock& block);

 private:
  /// One captured sum within a row.
  struct Sum {
    size_t number;
    DType type;                             ///< of the memory it is added up in
    llvm::Value* base = nullptr;            ///< of the table or output, of this item
    std::vector<llvm::Value*> limit, step;  ///< per axis: largest index, elements
    std::vector<size_t> varying;            ///< axes whose indices differ along kv; their place among the lane roots
    size_t first_root = 0;
    llvm::Value* row = nullptr;     ///< base with the row's indices applied
    llvm::Value* first = nullptr;   ///< i1: elements are stored, not added to
    llvm::Value* stream = nullptr;  ///< i1 of a row: whole vectors are stored past the caches
  };
  void emit_scatter();
  void start_sums(ArgsReader& args, const ScoreBlock& block);
  void start_row(const ScoreBlock& block, llvm::Value* q);
  void row(const ScoreBlock& block, llvm::Value* row);
  Values visit(const ScoreBlock& block, llvm::Value* tile_row, llvm::Value* column, const Values& carried, bool whole);
  void add_owned(Sum& sum, llvm::Value* kv, llvm::Value* weight, llvm::Value* inside, llvm::Value* count);
  void stream(llvm::Value* vector, llvm::Value* slot);
  void add_scattered(Sum& sum, const Values& indices, llvm::Value* weight);
  bool owned(const Sum& sum) const { return layout_.captured[sum.number].owned; }
  /// Neither owned nor varying: one sum per row.
  bool per_row(const Sum& sum) const { return !owned(sum) && sum.varying.empty(); }

  LlvmBuilder& b_;
  const BackwardSpec& spec_;
  const BackwardLayout& layout_;
  const ArgsLayout& args_layout_;
  std::vector<ExprId> roots_;  ///< weights by tile, then per captured sum its weight and its varying indices
  std::vector<Sum> sums_;
  std::vector<ExprId> row_roots_;  ///< indices that are one per row, by sum and axis
  std::optional<ExprEmitter> weights_, keep_, row_indices_;
  std::optional<ExprEmitter> ahead_;  ///< the weights of the next query block, when they stream a tensor from memory
  llvm::Function *function_ = nullptr, *scatter_ = nullptr;
};

}  // namespace tilewright::cpu
