// Sizes and places of what the decode template keeps. Counts are elements of the accumulation type unless they say
// bytes.
#pragma once

#include "codegen/cpu/cpu_codegen.h"

namespace tilewright::cpu {

/// How the last axis of K or V is read in vectors.
struct DecodeOperand {
  DType dtype;
  int64_t dim;
  bool pairs;         ///< bf16 in units of two vectors, even elements first, then odd ones: one shift or mask each
  int64_t vectors;    ///< full ones
  int64_t tail;       ///< elements of the last, partial vector
  int64_t near, far;  ///< rows from the one being read to those being prefetched into L1 and into L2
};

struct DecodeLayout {
  DecodeLayout(const AttentionSpec& spec, const CpuSchedule& schedule, const CpuTarget& target);

  DType dtype;  ///< of accumulation
  int64_t element, lanes;
  int64_t rows;      ///< query rows taken at once
  int64_t row_tile;  ///< rows of one register tile beside single rows, 1 when there are none
  bool single_rows;  ///< rows beyond whole tiles occur
  int64_t block_kv, split_kv;
  int64_t output_vectors;  ///< value vectors of a register tile
  DecodeOperand key, value;
  int64_t query_stride;  ///< elements of a packed query row, a multiple of lanes
  int64_t value_stride;  ///< elements of a row of value sums, a multiple of lanes
  /// A row's partial state in the workspace: value sums, then m and l.
  int64_t record() const { return value_stride + lanes; }

  // Scratch of a worker: rows of Q, S, m, l, factors and value sums; scores not yet summed over lanes; copies of K, V
  // (a computed K is written there at once); a computed row of Q.
  int64_t q_at, scores_at, max_at, sum_at, factor_at, sums_at, partial_at, key_copy_at, value_copy_at, row_at;
  int64_t scratch_elements;

  /// Of AmxDecodeTiles: query rows as tiles count them (4, 8 or 16; 0 when vectors multiply), and places in scratch:
  /// the tile file, a query in bf16, all of them as B tiles, S transposed, P as A tiles, a last group of keys.
  struct Tiles {
    int64_t columns = 0;
    int64_t file_at = 0, query_at = 0, queries_at = 0, scores_at = 0, weights_at = 0, tail_at = 0;
    int64_t sums_at = 0;  ///< of one block, where units of 32 columns leave a rest
  };
  Tiles tiles;
};

}  // namespace tilewright::cpu
