// The two products of the decode template, straight from K and V as they lie in memory, as internal functions. Rows of
// Q, S and the value sums are those of a few query heads and positions that share one KV head; they lie in scratch.
//
//   scores: lanes keys at a time, in register tiles of 4 rows × lanes / 4 keys (or 1 × 4) whose vectors run along d:
//
//             d →                          partial[row][key][lane]            S[row]
//     key k  ████████  · Q rows (L1)  →    16 vectors per row in L1    →   one vector: lane = key
//     key k+1 …                            (registers: 16 sums, 4 or 8 of Q, 2 of K)
//
//   outputs: 4 rows (or 1) × output_vectors sums in registers, one key after another; a run of keys at a time, so that
//     further columns of V find the run in L1.
#pragma once

#include "codegen/cpu/decode_layout.h"
#include "codegen/cpu/llvm_builder.h"

namespace tilewright::cpu {

/// Keys or values of one block: row k at base + min(k, last) · stride elements, innermost stride 1.
struct DecodeBlock {
  llvm::Value* base;
  llvm::Value* stride;
  llvm::Value* count;        ///< at least 1
  llvm::Value* from_memory;  ///< bool: all K and V are more than L3 holds, so that lines are asked for far ahead
};

class DecodeTiles {
 public:
  /// Emits the functions; that of the scores only where no tiles compute them.
  DecodeTiles(LlvmBuilder& builder, const DecodeLayout& layout);

  /// S[row][key] = Σ_d Q·K for the block's keys, up to the next multiple of lanes (copies of the last key beyond).
  void scores(llvm::Value* scratch, const DecodeBlock& keys, llvm::Value* rows);
  /// sums[row] = sums[row] · factor[row] + Σ_key P[row][key] · V.
  void outputs(llvm::Value* scratch, const DecodeBlock& values, llvm::Value* rows);
  /// sums[row] *= factor[row], emitted into a function whose first parameter is scratch.
  void rescale(llvm::Value* rows);

 private:
  /// void name(scratch, base, stride, count, from_memory, rows), and the block that its parameters are.
  llvm::Function* begin(const char* name);
  DecodeBlock parameters();
  void call(llvm::Function* function, llvm::Value* scratch, const DecodeBlock& block, llvm::Value* rows);
  void emit_scores();
  llvm::Value* at(llvm::Value* base, llvm::Value* elements) { return b_.element_pointer(l_.dtype, base, elements); }
  llvm::Value* scratch(int64_t elements) { return at(b_.argument(0), b_.i64(elements)); }
  Values read(const DecodeOperand& operand, llvm::Value* pointer, bool tail);
  void for_row_tiles(llvm::Value* rows, const std::function<void(llvm::Value* row, int64_t count)>& body);
  void prefetch(llvm::Value* near, llvm::Value* far);
  llvm::Value* far_keys(const DecodeBlock& block, const DecodeOperand& operand);

  void score_rows(const DecodeBlock& keys, llvm::Value* first_key, llvm::Value* row, int64_t rows);
  void dots(const DecodeBlock& keys, llvm::Value* first, int64_t count, llvm::Value* query, int64_t rows,
            llvm::Value* partial, llvm::Value* leads);
  llvm::Value* fold(llvm::Value* partial);
  /// A run of keys inside a block.
  struct KeyRun {
    const DecodeBlock& values;
    llvm::Value *begin, *end;
  };
  void output_rows(const KeyRun& run, llvm::Value* row, int64_t rows);
  void output_chunk(const KeyRun& run, llvm::Value* row, int64_t rows, llvm::Value* first_column, int64_t vectors,
                    bool tail);

  LlvmBuilder& b_;
  const DecodeLayout& l_;
  llvm::Function *scores_ = nullptr, *outputs_ = nullptr;
};

}  // namespace tilewright::cpu
