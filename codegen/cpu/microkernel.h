// The register-tiled product that both halves of attention run on: S = Q·K^T over packed key panels, O = α·O + P·V.
//
//        B panel: k rows of nv vectors                 registers, AVX-512 f32, 6×4:
//           b0 b1 b2 b3   (4 loads per k)                24 sums, 4 of B, 1 of A = 29 of 32
//   A  a0 | c  c  c  c                                 per k: 24 FMAs over 10 loads, so the two FMA ports are the limit
//   mr a1 | c  c  c  c   (1 broadcast per row and k)
//      …  | …
#pragma once

#include "codegen/cpu/llvm_builder.h"

namespace tilewright::cpu {

/// mr rows × nv vectors of sums in registers.
struct RegisterTile {
  int64_t mr = 6, nv = 4;
};

/// Emits the internal function of one register tile. For every column tile (outer) and row tile (inner):
///   C[mr, nv·lanes] = (factors ? factors[row] · C : 0) + A[mr, k] · B[k, nv·lanes]
/// A·B is summed by itself before C joins, so that a long sum is a sum of pieces (rule 19 of docs/semantics.md).
/// A and B are dense in their inner dimension; k must be a positive multiple of k_unroll.
class TileProduct {
 public:
  TileProduct(LlvmBuilder& builder, DType dtype, int64_t lanes, RegisterTile tile, int64_t k_unroll,
              const std::string& name);

  struct Call {
    llvm::Value *a, *lda;  ///< elements between rows of A
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
  llvm::Function* function_ = nullptr;
};

}  // namespace tilewright::cpu
