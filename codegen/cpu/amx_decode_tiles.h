// The two products of decode on AMX tiles, as internal functions that keep S, P and the value sums where DecodeTiles
// keeps them. K and V are read where they lie, once, and written nowhere: rows of bf16 are tiles as they are.
//
//   scores     Sᵀ[16 keys × rows] = K[16 keys × 32 d] · Qᵀ[32 d × rows]       A = K in memory, B = Q, packed per item
//
//   outputs    O[rows × 32 columns] += P[rows × 16 keys] · V[16 keys × 32 columns]
//
//       A tile of B holds pairs of keys of a column side by side; V as it lies holds pairs of columns of a key. So a
//       tile of V is multiplied twice, by weights with zeros between them:
//
//          B = V   row k:  v[k][0] v[k][1] │ v[k][2] v[k][3] │ …        (16 rows of 64 bytes, strides of V)
//          A even  row r:  p[r][0]  0      │ p[r][1]  0      │ …        C even[r][n] += Σ_k p[r][k] · v[k][2n]
//          A odd   row r:   0      p[r][0] │  0      p[r][1] │ …        C odd [r][n] += Σ_k p[r][k] · v[k][2n+1]
//
//       and C is what decode keeps of bf16 columns anyhow (DecodeOperand::pairs), or, where units of 32 columns leave a
//       rest, sums of the block that join the others when they are zipped. Half of the multiplications are by zero.
//       They cost nothing where memory is the limit, while bringing keys side by side would cost a shuffle, a store and
//       a load per line of V. An infinity or NaN in V makes a NaN of its neighbour there: sums that end up not finite
//       are computed once more by vectors (DecodeSplit).
//
// Tiles     scores: C 0 1 (two groups of 16 keys), A 2 3, B 4; outputs: A 0 1, B 2 3, C 4 5 6 7 (two units of 32
// columns). What 32 leave of a head dim, an even number of columns, has tiles that are narrower, so that nothing is
//           read past a row: A 5 6 and B 7 of scores; B 3, C 6 7 of outputs, whose other units then go one by one.
//           Tiles have as many rows, or columns, as there are query rows: few rows take few cycles.
// Scratch   per key and row 4 bytes of Sᵀ and 8 of P besides DecodeTiles'; 16 keys of a tail.
// Per 16 keys of d = dv = 128, 8 KB of K and V: 8 tile loads straight from them, 2 of Q and 4 of P from L1, 20
// products,
//           128 prefetches, 4 vectors of weights: about 350 cycles, where L3 takes about 800 to deliver 8 KB.
// A last group of fewer than 16 keys is copied, with zeros behind it: nothing is read past a tensor.
#pragma once

#include "codegen/cpu/amx_tiles.h"
#include "codegen/cpu/decode_tiles.h"

namespace tilewright::cpu {

class AmxDecodeTiles {
 public:
  /// Emits the functions. `vectors` rescales the sums.
  AmxDecodeTiles(LlvmBuilder& builder, const DecodeLayout& layout, DecodeTiles& vectors);

  /// The query that stands in scratch as bf16 (DecodeLayout::Tiles::query_at) becomes column `row` of the B tiles.
  void pack_query(llvm::Value* scratch, llvm::Value* row);
  /// As DecodeTiles::scores, of the packed queries; whatever lies beyond the block's last key.
  void scores(llvm::Value* scratch, const DecodeBlock& keys, llvm::Value* rows);
  /// As DecodeTiles::outputs, of P rounded to bf16.
  void outputs(llvm::Value* scratch, const DecodeBlock& values, llvm::Value* rows);

 private:
  static constexpr int64_t kKeys = 16, kDepth = 32;  ///< of a tile of K or V: keys, columns
  static constexpr int64_t kLine = 64;               ///< bytes of its rows
  static constexpr int64_t kNear = 32, kFar = 128;

  llvm::Function* begin(const char* name);
  void emit_pack();
  void emit_scores();
  void emit_outputs(DecodeTiles& vectors);
  llvm::Value* words(int64_t at, llvm::Value* offset);
  /// Columns beyond whole units of 32.
  static int64_t rest(const DecodeOperand& operand) { return operand.dim % kDepth; }
  /// 16 keys of a block: where they start and how many bytes lie between them.
  struct Group {
    llvm::Value *pointer, *stride;
  };
  /// Keys [first, first + 16); those of a last, smaller group are in the copy that copy_tail makes.
  Group group(const DecodeBlock& block, const DecodeOperand& operand, llvm::Value* first);
  void copy_tail(const DecodeBlock& block, const DecodeOperand& operand);
  /// Where K and V come from memory, lines of the keys that lie kNear keys on, and kFar.
  void prefetch(const DecodeBlock& block, const Group& group, llvm::Value* first_byte, int64_t lines);
  void score_groups(const DecodeBlock& keys, llvm::Value* first, int count);
  void transpose(llvm::Value* count);
  void pack_weights(llvm::Value* count, llvm::Value* rows);
  /// 32 columns of V, or the rest: its tile of B and the first of two of C.
  struct Unit {
    llvm::Value* number;
    int b, c;
  };
  void output_units(const DecodeBlock& values, const std::vector<Unit>& units);
  void each_output(const DecodeBlock& values);
  void zip_sums(llvm::Value* rows);

  LlvmBuilder& b_;
  const DecodeLayout& l_;
  AmxTiles tiles_;
  llvm::Function *pack_ = nullptr, *scores_ = nullptr, *outputs_ = nullptr;
};

}  // namespace tilewright::cpu
