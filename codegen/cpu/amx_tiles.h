// AMX tiles as code: eight registers of 16 rows by 64 bytes, named by numbers that are known when the code is made.
//
//   dp_bf16(c, a, b)     C[m][n] += Σ over k  A[m][k] · B[k][n]        f32 sums, bf16 operands
//
//        A: 16 rows m × 32 bf16 k       B: 16 rows k/2 × 16 pairs (k, k+1) of column n       C: 16 rows m × 16 f32 n
//
// Two bodies, chosen by the target. CpuIsa::amx: the instructions, through LLVM's intrinsics with immediate tile
// numbers (those with typed tiles are miscompiled when tiles spill, llvm #110190; nothing here ever spills: whoever
// names tiles allots them). CpuIsa::amx_emulated: functions of the module that work on a tile file in memory, bit for
// bit what the instructions give, on AVX-512; about as fast as FMA on widened operands.
#pragma once

#include <array>

#include "codegen/cpu/llvm_builder.h"

namespace tilewright::cpu {

/// What a tile holds; instructions leave the rest of it zero.
struct TileShape {
  int rows = 16;
  int row_bytes = 64;
};

class AmxTiles {
 public:
  static constexpr int kTiles = 8;
  static constexpr int64_t kTileRows = 16, kRowBytes = 64, kTileBytes = kTileRows * kRowBytes;

  /// Emits the functions of the emulated body; call with no function under construction.
  explicit AmxTiles(LlvmBuilder& builder);

  /// Bytes of the tile file, 64-byte aligned, one per worker: 0 where the machine has it.
  static int64_t file_bytes(const CpuTarget& target);
  /// At the start of every function that names tiles: where the worker's tile file is. The native body ignores it.
  void enter(llvm::Value* file) { file_ = file; }

  /// All tiles are usable, and hold zeros, between configure and release; once per kernel call, not per function.
  void configure(const std::array<TileShape, kTiles>& shapes = {});
  void release();

  // Memory rows are `stride` bytes apart (i64).
  void zero(int tile);
  void load(int tile, llvm::Value* pointer, llvm::Value* stride);
  void store(int tile, llvm::Value* pointer, llvm::Value* stride);
  /// Rounding, for each element of C: the products of even and those of odd k are summed apart, each a chain of fused
  /// multiply-adds in ascending k that starts at zero; odd is added to even, and that to C. Every step rounds to
  /// nearest even and flushes subnormals, operands, sums and C alike, whatever MXCSR says (the emulated body takes the
  /// flushing from MXCSR, which the runtime sets for all kernels).
  void dp_bf16(int c, int a, int b);

 private:
  bool emulated() const { return b_.target().isa != CpuIsa::amx; }
  llvm::Value* tile_number(int tile);
  void emit_load();
  void emit_store();
  void emit_product();
  // Of the function under construction in the emulated body.
  llvm::Value* tile_pointer(llvm::Value* tile);
  llvm::Value* rows(llvm::Value* tile);
  llvm::Value* row_bytes(llvm::Value* tile);
  llvm::Value* column_mask(llvm::Value* count);

  LlvmBuilder& b_;
  llvm::Value* file_ = nullptr;
  llvm::Function *load_ = nullptr, *store_ = nullptr, *product_ = nullptr;
};

}  // namespace tilewright::cpu
