// Sizes and places of everything the AMX prefill template keeps. All are bytes unless they say otherwise; every region
// starts on a cache line. A tile is 1 KB; a unit is 32 query rows in two groups of 16.
#pragma once

#include "codegen/cpu/cpu_codegen.h"

namespace tilewright::cpu {

struct AmxPrefillLayout {
  static constexpr int64_t kTile = 1024, kUnit = 32, kGroup = 16, kStep = 32;  ///< kStep: keys, and columns of O

  AmxPrefillLayout(const AttentionSpec& spec, const CpuSchedule& schedule, const CpuTarget& target);

  int64_t block_q, block_kv;  ///< whole units; keys in whole steps that the outputs' columns divide evenly
  int64_t head_dim, value_dim, padded_head_dim, padded_value_dim;  ///< padded to 32
  int64_t products, value_products, parts, value_parts;
  int64_t rescale_log2;
  bool scales_queries;  ///< Q is f32 and split, and multiplied by the leading scale before that

  /// Operands are split: those that may not be go through FMA.
  bool checked() const { return parts > 1 || value_parts > 1; }
  int64_t units() const { return block_q / kUnit; }
  int64_t key_steps() const { return padded_head_dim / 32; }
  int64_t value_steps() const { return padded_value_dim / kStep; }
  int64_t kv_steps() const { return block_kv / kStep; }

  // One packed block: K tiles [key / 16][part][d / 32], Vᵀ tiles [key / 32][dv / 16][part], and a line whose first word
  // is not 0 when something in the block may not be split.
  int64_t key_step_bytes() const { return 2 * parts * key_steps() * kTile; }                 ///< of 32 keys
  int64_t value_step_bytes() const { return 2 * value_parts * value_steps() * kTile; }       ///< of 32 keys
  int64_t packed_values() const { return kv_steps() * key_step_bytes(); }                    ///< offset
  int64_t packed_flag() const { return packed_values() + kv_steps() * value_step_bytes(); }  ///< offset
  int64_t packed_block() const { return packed_flag() + 64; }

  // Per unit: Q tiles [group][part][d / 32], O as f32 [group][dv][16 queries].
  int64_t unit_queries() const { return 2 * parts * key_steps() * kTile; }
  int64_t output_group() const { return padded_value_dim * kGroup * 4; }
  int64_t unit_outputs() const { return 2 * output_group(); }
  // Of a unit's block: S as f32 [group][key][16 queries], P tiles [group][part][key / 32].
  int64_t score_group() const { return block_kv * kGroup * 4; }
  int64_t weight_group() const { return value_parts * kv_steps() * kTile; }

  // Scratch of a worker. S and P are double: one unit's scores are made while another's become weights.
  int64_t file_at, state_at, dummy_at, tile_at, max_at, sum_at, factor_at, queries_at, outputs_at, scores_at,
      weights_at, stage_at, rows_at, block_at;
  int64_t stage_width;  ///< elements of a staged row
  int64_t flag_at;      ///< not 0: an element of Q of the item may not be split
  /// Of checked layouts: a unit of Q as panels [group][d][16], a block of K as dense rows and of V as
  /// columns [dv][key], all f32, and ones.
  int64_t wide_queries_at, wide_keys_at, wide_values_at, ones_at;
  int64_t scratch_bytes;
};

/// Where the pipeline's state lies, in words from AmxPrefillLayout::state_at.
struct AmxUnitFields {
  static constexpr int64_t row = 0, q = 1, rows = 2, kv = 3, columns = 4, whole = 5, steps = 6, keys = 7, values = 8,
                           scores = 9, weights = 10, count = 16;
};
struct AmxPipelineState {
  /// Three units, then where the tiles 0–3 are still to be stored, how far apart their groups are, and which of the two
  /// buffers the next unit takes.
  static constexpr int64_t next = 0, current = 16, previous = 32, pending = 48, distance = 49, turn = 50, count = 64;
};

}  // namespace tilewright::cpu
