// A strip of the backward template on AMX whose operands or weights may not be split (split_terms.h): the same sums in
// the same places, products by FMA on f32 (microkernel.h). Infinities, NaN, huge and tiny operands thus give what FMA
// on f32 gives.
//
//   S, T [32][keys] = Q·Kᵀ, dO·Vᵀ        rows of Q and dO, panels [d][keys] of K and V
//   dVᵀ, dKᵀ [d][keys] += dOᵀ·P, Qᵀ·dS    rows of dO and Q read by columns, weights where the scores were
//   dQ [32][d] += dS·K                    of strip rows, rows of K
#pragma once

#include "codegen/cpu/backward_products.h"
#include "codegen/cpu/microkernel.h"

namespace tilewright::cpu {

class AmxBackwardFma : protected BackwardScratch {
 public:
  /// Emits internal functions; call with no function under construction.
  AmxBackwardFma(LlvmBuilder& builder, const BackwardLayout& layout);

  // All emit code into the main kernel. What they read was widened (AmxBackwardPacker) for this tile and strip.
  void enter();
  void scores(const BackwardProducts::Tile& tile);
  void outputs(const BackwardProducts::Tile& tile, const BackwardProducts::Strip& strip);

 private:
  static constexpr RegisterTile kTile{8, 1};  // small: few strips come here
  llvm::Value* place(int64_t byte) { return b_.byte_pointer(b_.argument(3), b_.i64(byte)); }

  const AmxBackwardLayout& amx_;
  TileProduct by_rows_, by_columns_;
};

}  // namespace tilewright::cpu
