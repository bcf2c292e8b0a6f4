// Where the backward template on AMX keeps its operands: tiles of 1 KB in bf16 parts, in the order that each product
// reads (amx_backward_products.h has the picture). All places are bytes in a worker's scratch; every region starts on a
// cache line.
#pragma once

#include <functional>
#include <vector>

#include "compiler/schedule.h"

namespace tilewright::cpu {

struct BackwardLayout;

struct AmxBackwardLayout {
  static constexpr int64_t kTile = 1024, kGroup = 16, kStep = 32;  ///< kStep: of every dimension, whole 2×2 blocks

  /// Starts at byte `from` of scratch.
  AmxBackwardLayout(const BackwardLayout& layout, const CpuSchedule& schedule, const CpuTarget& target, int64_t from);

  /// An operand's tiles for one product: bytes from a tile to those of the next 16 rows (columns of B), of the next 32
  /// of the summed dimension and of the next part.
  struct Tiles {
    int64_t at = -1, next = 0, k = 0, part = 0;
    bool used() const { return at >= 0; }
  };
  /// By BackwardLayout::q_rows: rows × d of A for scores, dᵀ × rows of A for column products.
  struct Queries {
    int64_t padded, parts;  ///< columns, a multiple of 32
    Tiles rows, transposed;
  };
  /// Of the chunk; by term: d × keys of B for scores; by BackwardLayout::kv_rows: keys × d of B for row products.
  struct Keys {
    int64_t padded, parts;
    Tiles tiles;
  };
  /// By tile of weights: queries × keys, as B of column products (k are queries) and as A of row products (k are keys).
  struct Weights {
    int64_t parts = 1;
    Tiles columns, rows;
  };
  /// Sums of a column product: transposed, [padded][chunk_kv] of f32.
  struct ColumnSums {
    int64_t padded, at, stride;
  };
  std::vector<Queries> queries;
  std::vector<Keys> score_keys, row_keys;
  std::vector<Weights> weights;
  std::vector<ColumnSums> column_sums;

  int64_t products, value_products;  ///< of the schedule
  /// Operands or weights are split: those that may not be go through FMA.
  bool checked = false;
  /// Not 0 when something of the chunk, of the query block may not be split; one word each.
  int64_t chunk_flag_at = -1, query_flag_at = -1;
  /// Of checked layouts, for one strip and one block of keys, all f32: rows by BackwardLayout::q_rows and kv_rows,
  /// [32 or block_kv][padded], panels by term, [padded][block_kv], and ones.
  std::vector<int64_t> wide_queries_at, wide_keys_at, wide_panels_at;
  int64_t ones_at = -1;

  int64_t file_at, dummy_at, tile_at;
  int64_t stage_at, stage_stride;  ///< [32][stage_stride] of f32
  int64_t scratch_bytes;

 private:
  void place_wide(const BackwardLayout& layout, const std::function<int64_t(int64_t bytes)>& take);
};

}  // namespace tilewright::cpu
