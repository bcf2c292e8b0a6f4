// The register-tiled product that both halves of attention run on: S = Q·K^T over packed key panels, O = α·O + P·V.
//
//        B panel: k rows of nv vectors                 registers, AVX-512 f32, 6×4:
//           b0 b1 b2 b3   (4 loads per k)                24 sums, 4 of B, 1 of A = 29 of 32
//   A  a0 | c  c  c  c                                 per k: 24 FMAs over 10 loads, so the two FMA ports are the limit
//   mr a1 | c  c  c  c   (1 broadcast per row and k)
//      …  | …
//
// Tiles of two vectors whose A lies column by column (14×2 in AVX-512, 28 sums and 2 of B) have the products broadcast
// A themselves, from memory: 28 FMAs with their loads and 2 loads of B are 30 issue slots per k in place of 44. That is
// no faster while a core is one thread's own and 20 % faster while its other hardware thread takes half of the slots.
#pragma once

#include "codegen/cpu/llvm_builder.h"

namespace tilewright::cpu {

/// The length of chains of at most `chain` columns that a sum over padded_dim columns is cut into evenly, a multiple of
/// `unit` (compiler/score_chain.h).
int64_t chain_length(int64_t padded_dim, int64_t unit, int64_t chain);

/// mr rows × nv vectors of sums in registers.
struct RegisterTile {
  int64_t mr = 6, nv = 4;
};

/// The shape for an output of `vectors` columns where `preferred` serves the other products: that one too when its
/// width divides the columns or wastes little; narrow outputs get tall tiles.
RegisterTile tile_for_columns(RegisterTile preferred, int64_t vectors, const CpuTarget& target);

/// How A lies in memory: row after row, or column after column (a transposed operand, element (row, k) at k · lda +
/// row).
enum class AOrder : uint8_t { rows, columns };

/// Elements between rows where they are known when the code is made, which saves address registers; 0 = see Call.
struct FixedStrides {
  int64_t a = 0, b = 0, c = 0;
};

/// Emits the internal function of one register tile. For every column tile (outer) and row tile (inner):
///   C[mr, nv·lanes] = (factors ? factors[row] · C : 0) + A[mr, k] · B[k, nv·lanes]
/// A·B is summed by itself before C joins, so that a long sum is a sum of pieces (rule 19 of docs/semantics.md).
/// A (along its order) and B are dense in their inner dimension; k must be a positive multiple of k_unroll.
class TileProduct {
 public:
  TileProduct(LlvmBuilder& builder, DType dtype, int64_t lanes, RegisterTile tile, int64_t k_unroll,
              const std::string& name, AOrder order = AOrder::rows, FixedStrides fixed = {});

  struct Call {
    llvm::Value *a, *lda;  ///< elements between rows of A (or between its columns, by AOrder)
    llvm::Value *b, *ldb;  ///< elements between k rows of B
    llvm::Value* b_step;   ///< elements between column tiles of B
    llvm::Value *c, *ldc;
    llvm::Value* k;
    llvm::Value *column_tiles, *row_tiles;  ///< at least one each
    llvm::Value* factors;                   ///< one per row, or null pointer constant
  };
  void call(const Call& call);
  RegisterTile tile() const { return tile_; }

 private:
  void emit_tile(llvm::Value* a, llvm::Value* b, llvm::Value* c, llvm::Value* factors);

  LlvmBuilder& b_;
  DType dtype_;
  int64_t lanes_;
  RegisterTile tile_;
  int64_t k_unroll_;
  AOrder order_;
  FixedStrides fixed_;
  llvm::Function* function_ = nullptr;
};

}  // namespace tilewright::cpu
