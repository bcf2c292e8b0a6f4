// Products of packed tiles: C = A·B or C += A·B over a grid of 2×2 blocks of tiles, for operands in bf16 parts.
//
//              B: two tiles of 16 columns        tiles 0 1   sums, 2×2 of 16×16 f32
//                   6      7                           2 3
//   A: two   4 |    0      1                     tiles 4 5   of A, 16 rows × 32 of the summed dimension k
//      tiles 5 |    2      3                     tiles 6 7   of B, 32 of k × 16 columns
//
// Per 32 of k 4 loads serve 4 products, fewer loads where the terms of split operands share tiles (split_terms.h). A
// tile of sums is stored only just before its register starts the next block, so that no load waits for a store.
#pragma once

#include "codegen/cpu/amx_tiles.h"
#include "codegen/cpu/split_terms.h"

namespace tilewright::cpu {

class AmxProduct {
 public:
  /// Emits the internal function; call with no function under construction. `adds`: to what C holds.
  AmxProduct(LlvmBuilder& builder, AmxTiles& tiles, std::vector<SplitTerm> terms, bool adds, const std::string& name);

  /// Tiles of an operand, in bytes from its first: of the next 16 rows (columns of B), 32 of k, part.
  struct Operand {
    llvm::Value* tiles;
    llvm::Value *next, *k, *part;
  };
  struct Call {
    Operand a, b;
    llvm::Value* c;                         ///< dense rows of f32
    llvm::Value* c_stride;                  ///< bytes between rows, whole cache lines
    llvm::Value *row_pairs, *column_pairs;  ///< of 32, at least one each
    llvm::Value* k_steps;                   ///< of 32, at least one
    llvm::Value* file;                      ///< of AmxTiles
    llvm::Value* dummy;                     ///< kDummyBytes that anything may be written to
  };
  static constexpr int64_t kDummyBytes = 4096;
  void call(const Call& call);

 private:
  llvm::Value* argument(unsigned n) { return b_.argument(n); }
  Values block(llvm::Value* a, llvm::Value* b, llvm::Value* c, const Values& pending);
  void step(llvm::Value* a, llvm::Value* b, llvm::Value* c, const Values* pending);
  llvm::Value* place(llvm::Value* base, llvm::Value* stride, int tile);

  LlvmBuilder& b_;
  AmxTiles& tiles_;
  std::vector<SplitTerm> terms_;
  bool adds_;
  llvm::Function* function_ = nullptr;
};

}  // namespace tilewright::cpu
