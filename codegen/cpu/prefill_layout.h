// Sizes and places of everything the prefill template keeps: packed K/V blocks and the scratch of one worker.
// All counts are elements of the accumulation type unless they say bytes; every region starts on a cache line.
#pragma once

#include "codegen/cpu/cpu_codegen.h"
#include "codegen/cpu/microkernel.h"

namespace tilewright::cpu {

struct PrefillLayout {
  PrefillLayout(const AttentionSpec& spec, const CpuSchedule& schedule, const CpuTarget& target);

  DType dtype;      ///< of accumulation
  int64_t element;  ///< its bytes
  int64_t lanes;
  RegisterTile score_tile;   ///< rows × key vectors of S
  RegisterTile output_tile;  ///< rows × value vectors of O; the same as score_tile where the head dim allows
  int64_t block_q, block_kv, strip_rows, k_unroll;
  int64_t panel;     ///< keys of one K panel: score_tile.nv · lanes
  int64_t row_step;  ///< vectors the row pass takes at once

  int64_t head_dim, value_dim;
  int64_t padded_head_dim;   ///< k extent of the score product, zero padded
  int64_t score_piece;       ///< of padded_head_dim: the most columns that one chain of additions sums
  int64_t padded_value_dim;  ///< columns of the output product
  int64_t stage_width;       ///< elements of a staged K row
  bool computes_rows;        ///< of Q or K, `lanes` rows at a time

  // One packed block of block_kv keys: panels of K ([panel][padded_head_dim][keys]), then V rows.
  int64_t packed_keys() const { return block_kv * padded_head_dim; }
  int64_t packed_block() const { return packed_keys() + block_kv * padded_value_dim; }

  // Scratch of a worker.
  int64_t q_at, o_at, max_at, sum_at, factor_at, ones_at, scores_at, strips_at, stage_at, rows_at, block_at;
  int64_t score_stride;  ///< elements between rows of S, off the powers of two that would alias in L1
  int64_t scratch_elements;
  int64_t strips() const { return (block_q + strip_rows - 1) / strip_rows; }
};

}  // namespace tilewright::cpu
