// Sizes and places of everything the matmul and matvec templates keep: packed panels of B and the scratch of one
// worker. All counts are elements of the accumulation type unless they say bytes; every region starts on a cache line.
#pragma once

#include "codegen/cpu/loop_frame.h"
#include "codegen/cpu/microkernel.h"
#include "compiler/contract_axes.h"

namespace tilewright::cpu {

struct MatmulLayout {
  MatmulLayout(const LoopStep& step, const CpuSchedule& schedule);

  ContractAxes axes;
  DType dtype;  ///< of accumulation
  int64_t element, lanes;
  RegisterTile tile;
  int64_t block_m, block_n, block_k, k_unroll;
  int64_t nr() const { return tile.nv * lanes; }  ///< columns of one panel of B
  int64_t k_unit;                                 ///< depths are padded with zeros to a multiple of it
  bool a_in_tiles;                ///< packed A is [block_m / mr][block_k][mr] (matmul) and not [block_m][lda] (matvec)
  int64_t lda;                    ///< columns of a tile of A, or rows of A, lie so far apart
  int64_t ldc;                    ///< rows of C lie so far apart
  bool transpose_a, transpose_b;  ///< the operand's neighbours in memory are not those of its panels

  // Scratch: A, one panel of B [block_k][nr], C [block_m][ldc], rows on their way through a transpose.
  int64_t a_at, b_at, c_at, ones_at, stage_at, stage_width, scratch_elements;

  /// The step's axes that templates walk themselves.
  std::vector<int> inner() const;
};

/// Axes, flattened, and how many of their positions one item takes.
struct Blocked {
  std::vector<int> axes;
  int64_t block;
};
/// Items over all positions of `outer` and all blocks, as LaunchPhase::items.
Expr item_count(const LoopStep& step, const std::vector<int>& outer, const std::vector<Blocked>& blocked);

}  // namespace tilewright::cpu
