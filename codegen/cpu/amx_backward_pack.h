// Operand movement of the backward template on AMX: rows of a query block and of a chunk of keys become tiles of bf16
// parts, f32 weights of a strip become tiles twice, and transposed sums become rows; f32 rows of what may not be split.
#pragma once

#include "codegen/cpu/amx_pack.h"
#include "codegen/cpu/backward_source.h"

namespace tilewright::cpu {

class AmxBackwardPacker {
 public:
  /// Emits the internal functions it needs; call with no function under construction.
  AmxBackwardPacker(LlvmBuilder& builder, const BackwardSpec& spec, const ArgsLayout& args,
                    const BackwardLayout& layout);

  /// Rows [begin, begin + count) of every q operand of (b, h), zeros up to whole steps of 32 rows; zeros the row sums
  /// and, in checked layouts, sets the flag of the query block.
  void load_queries(llvm::Value* b, llvm::Value* h, llvm::Value* begin, llvm::Value* count, llvm::Value* scratch);
  /// Keys [first, first + count) of (b, h), zeros up to whole steps of 32 keys; zeros the column sums and, in checked
  /// layouts, sets the flag of the chunk.
  void load_chunk(llvm::Value* b, llvm::Value* h, llvm::Value* first, llvm::Value* count, llvm::Value* scratch);
  /// The tiles of f32 weights, 32 rows by ceil(columns / 32) · 32, as strip `number` of the block. i64: not 0 when some
  /// may not be split; then what was stored is nothing to multiply.
  llvm::Value* store_weights(llvm::Value* number, llvm::Value* columns, llvm::Value* scratch);
  /// Zeros in place of that strip's.
  void clear_weights(llvm::Value* number, llvm::Value* scratch);
  // Of checked layouts, what FMA reads: up to 32 rows of q operands; up to block_kv keys as rows and panels, zeros up
  // to whole steps of 32.
  void widen_queries(llvm::Value* b, llvm::Value* h, llvm::Value* begin, llvm::Value* count, llvm::Value* scratch);
  void widen_keys(llvm::Value* b, llvm::Value* h, llvm::Value* first, llvm::Value* count, llvm::Value* scratch);
  /// Sums of a column product for keys [16 · group, + 16) of the chunk, to dense rows of `padded` columns in the stage.
  void turn_columns(size_t product, llvm::Value* group, llvm::Value* scratch);

 private:
  static constexpr int64_t kTile = AmxBackwardLayout::kTile, kGroup = AmxBackwardLayout::kGroup,
                           kStep = AmxBackwardLayout::kStep;
  llvm::Value* place(llvm::Value* scratch, int64_t at) { return b_.byte_pointer(scratch, b_.i64(at)); }
  llvm::Value* row(llvm::Value* scratch, int64_t at, llvm::Value* number, int64_t width) {
    return b_.byte_pointer(place(scratch, at), b_.mul(number, b_.i64(4 * width)));
  }
  TilePacker::Shape shape(TilePacker::Form form, int64_t columns, int64_t parts) const;
  void start_flag(int64_t at, llvm::Value* scratch);
  void join_flag(int64_t at, llvm::Value* scratch, llvm::Value* flag);
  void emit_zero();
  void emit_queries();
  void emit_chunk();
  void emit_weights();
  void emit_turn();
  void emit_widen_queries();
  void emit_widen_keys();
  /// One row of a weight's two vectors for each of two rows q, q + 1, in all parts. `largest`: none, or the largest
  /// magnitudes of lanes so far as integers; returned with these.
  Values store_pair(size_t weight, llvm::Value* strip, llvm::Value* pair, llvm::Value* column, llvm::Value* scratch,
                    Values largest);
  llvm::Value* largest_is_out_of_range(llvm::Value* magnitudes);

  LlvmBuilder& b_;
  const BackwardLayout& layout_;
  const AmxBackwardLayout& amx_;
  BackwardSource source_;
  TilePacker tiles_;
  llvm::Function *zero_ = nullptr, *queries_ = nullptr, *chunk_ = nullptr, *weights_ = nullptr, *turn_ = nullptr;
  llvm::Function *widen_queries_ = nullptr, *widen_keys_ = nullptr;
};

}  // namespace tilewright::cpu
