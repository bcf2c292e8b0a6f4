// The two products of the decode template, straight from K and V as they lie in memory. Rows of Q, S and the sums are
// those of a few query heads and positions that share one KV head.
#pragma once

#include "codegen/cpu/decode_layout.h"
#include "codegen/cpu/llvm_builder.h"

namespace tilewright::cpu {

/// Keys or values of one block: row k at base + min(k, last) · stride elements, innermost stride 1.
struct DecodeBlock {
  llvm::Value* base;
  llvm::Value* stride;
  llvm::Value* count;  ///< at least 1
};

class DecodeTiles {
 public:
  DecodeTiles(LlvmBuilder& builder, const DecodeLayout& layout, llvm::Value* scratch)
      : b_(builder), l_(layout), scratch_(scratch) {}

  /// S[row][key] = Σ_d Q·K for the block's keys, up to the next multiple of lanes (copies of the last key beyond).
  void scores(const DecodeBlock& keys, llvm::Value* rows);
  /// sums[row] = sums[row] · factor[row] + Σ_key P[row][key] · V; rows of sums are a record apart.
  void outputs(const DecodeBlock& values, llvm::Value* rows, llvm::Value* sums);

  llvm::Value* at(llvm::Value* base, llvm::Value* elements) { return b_.element_pointer(l_.dtype, base, elements); }
  llvm::Value* scratch(int64_t elements) { return at(scratch_, b_.i64(elements)); }

  /// Vectors `first` … of a K or V row at `pointer`, widened: two for pairs, else one; the tail is masked.
  Values read(const DecodeOperand& operand, llvm::Value* pointer, llvm::Value* first, bool tail);

 private:
  void score_rows(const DecodeBlock& keys, llvm::Value* first_key, llvm::Value* row, int64_t rows);
  llvm::Value* dots(const DecodeBlock& keys, llvm::Value* key, int64_t count, llvm::Value* query, int64_t rows);
  llvm::Value* fold(Values vectors);
  /// A run of keys inside a block.
  struct KeyRun {
    const DecodeBlock& values;
    llvm::Value *begin, *end;
  };
  void output_rows(const KeyRun& run, llvm::Value* row, int64_t rows, llvm::Value* sums);
  void output_chunk(const KeyRun& run, llvm::Value* row, int64_t rows, llvm::Value* sums, llvm::Value* first_vector,
                    int64_t vectors, bool tail);
  void for_row_tiles(llvm::Value* rows, const std::function<void(llvm::Value* row, int64_t count)>& body);
  void prefetch_key_line(const DecodeBlock& keys, llvm::Value* ahead, llvm::Value* vector, int64_t i, int64_t count);
  llvm::Value* whole_rows(llvm::Value* rows);
  void prefetch(llvm::Value* near, llvm::Value* far);

  LlvmBuilder& b_;
  const DecodeLayout& l_;
  llvm::Value* scratch_;
};

}  // namespace tilewright::cpu
