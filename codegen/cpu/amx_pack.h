// Operands as tiles: rows of f32 in a stage become bf16 parts (split_terms.h) in the order that AmxTiles::dp_bf16
// reads.
//
//   as A      16 rows × 32 columns as they are                                    [part][column / 32] tiles
//   as B      the same transposed by pairs: row r = columns 2r, 2r + 1            [part][column / 32] tiles
//   as Aᵀ     32 rows × 16 columns transposed: row r = column r of 32 rows        [column / 16][part] tiles
//   as Bᵀ     32 rows × 16 columns by pairs: row r = rows 2r, 2r + 1              [column / 16][part] tiles
//
// Parts of values that are bf16 already are the values.
#pragma once

#include "codegen/cpu/llvm_builder.h"

namespace tilewright::cpu {

/// The leading bf16 of f32 lanes as the upper halves of 32-bit lanes, whose lower halves are zero; `rest` becomes what
/// is left. Halves round away from zero; lanes in range only (split_terms.h).
llvm::Value* peel_bf16(LlvmBuilder& b, llvm::Value*& rest);
/// The nearest bf16 in upper halves, lower halves undefined. A NaN whose payload reaches into the lowest bits may wrap
/// to a zero unless `keep_nan`.
llvm::Value* round_bf16(LlvmBuilder& b, llvm::Value* lanes, bool keep_nan);
/// Upper halves of `even` and `odd` as pairs, even below.
llvm::Value* pair_bf16(LlvmBuilder& b, llvm::Value* even, llvm::Value* odd);
// Of f32 lanes, NaN kept, subnormals possibly zeros; 32 bf16, in one conversion where the target has it.
/// Pairs, even below.
llvm::Value* nearest_pairs(LlvmBuilder& b, llvm::Value* even, llvm::Value* odd);
/// `low`, then `high`.
llvm::Value* nearest_row(LlvmBuilder& b, llvm::Value* low, llvm::Value* high);

/// One function serves every form: where its 16 lines begin, which two vectors make a line and in which order, and
/// where tiles go are arguments.
class TilePacker {
 public:
  explicit TilePacker(LlvmBuilder& builder) : b_(builder) {}

  enum class Form : uint8_t { a, b, a_transposed, b_transposed };
  struct Shape {
    Form form;
    int64_t columns;  ///< multiple of 32
    int64_t stride;   ///< elements between rows of the stage
    int64_t
        parts;  ///< more than one: elements are checked for the range that may be split, and remainders replace them
  };
  /// Emits the internal functions that it needs; call with no function under construction.
  void declare(const Shape& shape);
  /// `temporary` is one tile of scratch. Returns i64, not 0 when an element is out of range (always 0 for one part).
  llvm::Value* call(const Shape& shape, llvm::Value* stage, llvm::Value* temporary, llvm::Value* dst);

  void declare_transpose();
  /// 16 × 16 words; strides are in words.
  void transpose(llvm::Value* from, int64_t from_stride, llvm::Value* to, int64_t to_stride);

 private:
  void emit(bool split);
  llvm::Value* out_of_range(llvm::Value* lanes, llvm::Value* before);

  LlvmBuilder& b_;
  llvm::Function *whole_ = nullptr, *split_ = nullptr, *transpose_ = nullptr;
};

}  // namespace tilewright::cpu
