// The emitter behind the generic backward template; backward_generic.cpp says how the kernel works.
#pragma once

#include <map>
#include <optional>

#include "codegen/cpu/access.h"
#include "codegen/cpu/backward_rows.h"
#include "codegen/cpu/backward_tables.h"
#include "codegen/cpu/expr_emitter.h"
#include "codegen/cpu/row_copy.h"
#include "compiler/fold_weights.h"

namespace tilewright::cpu {

class GenericBackward {
 public:
  GenericBackward(LlvmBuilder& builder, const FoldedWeights& folded, const CpuSchedule& schedule);

  void row_kernel(const std::string& symbol);
  void column_kernel(const std::string& symbol);
  void captured_kernel(const std::string& symbol);

  Expr row_items() const;
  Expr column_items() const;
  Expr table_at(size_t captured) const;
  Expr workspace_bytes() const { return table_at(spec_.captured.size()); }
  int64_t scratch_bytes() const { return scratch_elements_ * size_of(type_); }

 private:
  /// Rows of an operand in scratch, dense, zero padded to whole vectors.
  struct Rows {
    Access access;
    DType type;
    int64_t width, stride, at;
  };
  struct Pair {
    int product;
    size_t queries, keys;
  };
  struct Product {
    const BackwardProduct* what;
    size_t operand;
    int64_t stride, at;
    DType type;
  };
  struct Place {
    llvm::Value *b, *h, *q, *q_count, *kv, *kv_count;
  };
  size_t rows_of(std::vector<Rows>& list, const Access& access, int64_t width, int64_t block);
  int64_t take(int64_t elements);
  void start(ArgsReader& args, const std::vector<ExprId>& roots);
  void load(ArgsReader& args, const std::vector<Rows>& list, llvm::Value* b, llvm::Value* h, llvm::Value* first,
            llvm::Value* count, ExprEmitter* visible);
  /// Every kept score of the blocks that are loaded; `body` gets its row and column and the values of the roots.
  using Body = std::function<void(llvm::Value* row, llvm::Value* column, const Values& roots)>;
  void points(const Place& place, const Body& body);
  llvm::Value* dot(const Pair& pair, llvm::Value* row, llvm::Value* column);
  void add_scaled(llvm::Value* target, llvm::Value* weight, llvm::Value* source, int64_t width);
  void clear(int64_t at, int64_t elements);
  llvm::Value* scratch(const Rows& rows, llvm::Value* row) {
    return b_.element_pointer(type_, b_.argument(3), b_.add(b_.i64(rows.at), b_.mul(row, b_.i64(rows.stride))));
  }
  llvm::Value* scratch(const Product& product, llvm::Value* row) {
    return b_.element_pointer(type_, b_.argument(3), b_.add(b_.i64(product.at), b_.mul(row, b_.i64(product.stride))));
  }
  void over_queries(ArgsReader& args, llvm::Value* b, llvm::Value* h,
                    const std::function<void(llvm::Value*, llvm::Value*)>& body);
  void over_keys(ArgsReader& args, llvm::Value* b, llvm::Value* h,
                 const std::function<void(llvm::Value*, llvm::Value*)>& body);
  void store(ArgsReader& args, const Product& product, llvm::Value* b, llvm::Value* h, llvm::Value* first,
             llvm::Value* count);

  LlvmBuilder& b_;
  const BackwardSpec& spec_;
  int64_t score_chain_;
  ArgsLayout args_layout_;
  DType type_;
  int64_t lanes_, block_q_, block_kv_, scratch_elements_ = 0;
  std::vector<Rows> q_rows_, kv_rows_;
  std::vector<Pair> pairs_;
  std::vector<Product> rows_, columns_;
  RowCopy copy_;
  RowWriter writer_;

  // Of the kernel being emitted.
  std::optional<ExprEmitter> weights_, keep_, keep_kv_;
};

}  // namespace tilewright::cpu
