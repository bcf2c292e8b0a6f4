// The generic template's emitter: any TileProgram, op by op, over tiles in scratch. Obvious rather than fast: K and V
// are copied into dense tiles of the accumulation type first, so that dtypes, strides, hidden keys and tails are dealt
// with in one place and every op after that is a plain loop nest.
#pragma once

#include <optional>

#include "codegen/cpu/access.h"
#include "codegen/cpu/expr_emitter.h"
#include "codegen/cpu/row_emitter.h"

namespace tilewright::cpu {

class GenericTemplate {
 public:
  /// `rows` holds the computed rows' emitters, by dot term.
  GenericTemplate(const TileProgram& program, const CpuSchedule& schedule, LlvmBuilder& builder, ArgsReader& args,
                  const std::vector<DotRows>& rows);
  /// The loop over work items; the function is left open.
  void emit_items(llvm::Value* begin, llvm::Value* end);
  int64_t scratch_bytes() const { return scratch_bytes_; }

 private:
  /// A row-major tile of the accumulation type in scratch. Columns are one row of `width` query rows.
  struct Tile {
    TileShape shape;
    int64_t offset = 0;  ///< bytes
    int64_t width = 0;   ///< elements per row, a multiple of the lanes
  };
  Tile place(TileShape shape, int64_t rows, int64_t width);
  const Tile& tile(int value) const { return tiles_[static_cast<size_t>(value)]; }

  // generic_template.cpp: the loops around the ops.
  void emit_item(llvm::Value* item);
  void emit_block();
  void emit_op(const TileInst& inst);
  /// Sets b, h and the item's rows, and hoists.
  void enter_item(ExprEmitter& expr);

  // generic_tiles.cpp: ops on tiles.
  void elementwise(const TileInst& inst);
  llvm::Value* combine(const TileInst& inst, llvm::Value* a, llvm::Value* b);
  void row_reduce(const TileInst& inst);
  void map_score(const TileInst& inst);
  void mask(const TileInst& inst);
  void map_weight(const TileInst& inst);
  void load_sink(const TileInst& inst);
  llvm::Value* pointer(const Tile& tile, llvm::Value* row, llvm::Value* column);
  llvm::Value* load(const Tile& tile, llvm::Value* row, llvm::Value* column, int64_t lanes);
  void store(const Tile& tile, llvm::Value* row, llvm::Value* column, llvm::Value* value);
  void for_rows(const std::function<void(llvm::Value* row)>& body);
  void for_scores(ExprEmitter& expr,
                  const std::function<void(llvm::Value* row, llvm::Value* column, llvm::Value* active)>& body);
  void for_vectors(int64_t width, const std::function<void(llvm::Value* column)>& body);

  // generic_operands.cpp: memory to tiles and back, and the two products.
  void load_queries();
  void load_keys_and_values();
  /// One row of a dot's operand: where it is stored, or where its emitter has just put it.
  RowAccess operand_row(const RowAccess& stored, const std::optional<RowEmitter>& computed, DType dtype,
                        llvm::Value* position);
  void copy_in(DType dtype, llvm::Value* source, llvm::Value* stride, int64_t count, llvm::Value* target,
               int64_t target_stride);
  llvm::Value* accumulated(DType dtype, llvm::Value* value);
  llvm::Value* rounded_to(DType dtype, llvm::Value* value);
  Values multiply_add(llvm::Value* count, llvm::Value* left, llvm::Value* right, int64_t right_width, Values sums);
  void dot(const TileInst& inst);
  void dot_value(const TileInst& inst);
  void store_output(const TileInst& inst);
  void store_lse(const TileInst& inst);
  void for_groups(int64_t width, const std::function<void(llvm::Value* column, int64_t vectors)>& body);
  DType dtype_of(const Access& access) const;
  int64_t total_head_dim() const;

  const TileProgram& program_;
  const AttentionSpec& spec_;
  LlvmBuilder& b_;
  ArgsReader& args_;
  DType type_;  ///< accumulation type
  int64_t lanes_, block_q_, block_kv_, scratch_bytes_ = 0;
  std::vector<Tile> tiles_;  ///< by tile value
  Tile queries_;             ///< [block_q, Σ head_dim]
  Tile keys_;                ///< [Σ head_dim, block_kv]: transposed, so that lanes run along kv
  Tile values_;              ///< [block_kv, value_dim]
  Tile row_;                 ///< one computed row
  const std::vector<DotRows>& computed_;
  ItemDecoder items_;
  llvm::Value* kv_len_;
  ExprEmitter score_, keep_;                                        ///< lanes along kv
  std::optional<ExprEmitter> weight_;                               ///< likewise
  std::optional<ExprEmitter> keep_kv_, begin_, end_, skip_, sink_;  ///< scalars; absent when trivial

  // Of the item being emitted.
  Item item_{};
  llvm::Value* rows_ = nullptr;
  std::vector<RowAccess> query_rows_, key_rows_;
  RowAccess value_rows_{}, output_rows_{}, lse_rows_{};
  llvm::Value *kv_begin_ = nullptr, *kv_end_ = nullptr;  ///< of the block being emitted
};

}  // namespace tilewright::cpu
