// Sizes and places of everything the backward template keeps: operands in a worker's scratch, and what all workers
// share in the workspace. Counts are elements of the accumulation type unless they say bytes; every region starts on a
// cache line.
#pragma once

#include <optional>

#include "codegen/cpu/amx_backward_layout.h"
#include "codegen/cpu/backward_tables.h"
#include "codegen/cpu/microkernel.h"
#include "compiler/fold_weights.h"

namespace tilewright::cpu {

struct BackwardLayout {
  BackwardLayout(const FoldedWeights& folded, const CpuSchedule& schedule, const CpuTarget& target);

  DType dtype;      ///< of accumulation
  int64_t element;  ///< its bytes
  int64_t lanes, k_unroll;
  int64_t block_q, block_kv, chunk_kv;
  int64_t strip_rows;  ///< query rows of the block whose scores are in the tiles at a time
  int64_t row_unit;    ///< products read rows of a strip up to a multiple of this
  RegisterTile score_tile;
  int64_t panel;        ///< keys of one panel: score_tile.nv · lanes; tiles start at panels of the chunk
  int64_t score_lanes;  ///< columns that the score pass takes at once, so that random numbers hide their latency
  int64_t rounded;      ///< the score pass leaves zeros up to a multiple of this many columns

  /// Rows of an operand, dense in scratch: [block_q or chunk_kv][stride], zero padded.
  struct Rows {
    Access access;
    DType type;
    int64_t width;
    double scale;  ///< of what memory holds
    int64_t stride;
    int64_t at;
  };
  std::vector<Rows> q_rows;   ///< loaded per query block
  std::vector<Rows> kv_rows;  ///< loaded per chunk

  /// One product of scores: q_rows[queries] against panels [panel][padded_dim][keys of a panel].
  struct Term {
    int product;  ///< 0: s, 1: t
    bool first;   ///< of its product: stores, the others add
    size_t queries;
    Access key;
    DType key_type;
    int64_t head_dim, padded_dim;
    int64_t piece;  ///< of padded_dim that is summed by itself
    int kv_rows;    ///< the same rows in `kv_rows`, -1 when they are not kept
    int64_t panels_at;
  };
  std::vector<Term> terms;

  /// out += weight · operand. Row products sum in [block_q][stride], column products in [chunk_kv + spare][stride].
  struct Product {
    size_t weight;   ///< tile
    size_t operand;  ///< kv_rows of a row product, q_rows of a column product
    RegisterTile shape;
    int64_t width, stride;
    int64_t at;
    Access output;
    DType type;
    DType rounding;  ///< what the weights may be rounded to
    /// Row products whose output is narrower than the accumulation type: [b][h][q][width] in the workspace.
    bool staged;
  };
  std::vector<Product> rows, columns;
  std::vector<ExprId> weights;  ///< by tile
  int64_t tiles;                ///< of scores and weights: scores are replaced by weights in place
  int64_t tile_stride;          ///< elements between rows of a tile
  int64_t tile(size_t i) const { return tiles_at + static_cast<int64_t>(i) * tile_rows * tile_stride; }
  int64_t tile_rows;

  struct Captured {
    /// Every element belongs to the keys of one chunk: tensor axis kv_axis is kv and no other index reads it.
    bool owned;
    int kv_axis = -1;
    /// Added up in the output itself: owned, and of the accumulation type. Else in dense tables in the workspace.
    bool direct;
    /// Direct, and every element is a (b, h, q, kv) of its own but for the b and h that share it: the first of those
    /// stores it or its zero, so that nothing has to be cleared. The axes of the tensor that b, h (or floor(h /
    /// head_group), when by_group) and q index; -1: all of them share.
    bool stored = false;
    int b_axis = -1, h_axis = -1, q_axis = -1;
    bool by_group = false;
    int64_t tables() const { return direct ? 0 : owned ? 1 : kPartialTables; }
  };
  std::vector<Captured> captured;
  bool partial_tables() const;
  /// An item is a chunk of one b and one KV head, or of all of them where an owned sum adds over them.
  bool split_batch = true, split_heads = true;

  /// Places of operands as tiles of bf16; then operands and column sums have no other place.
  std::optional<AmxBackwardLayout> amx;

  int64_t spare;  ///< rows behind the chunk's, written with zeros by row tiles that reach beyond it
  int64_t stage_stride;
  int64_t tiles_at, stage_at, ones_at;
  int64_t scratch_bytes;

  // Shared by all workers. Byte offsets into the workspace and counts, as i64 Exprs over dims.
  //   turns   [chunk][b][h]: query blocks of this head that this chunk and all before it are done with
  //   done    [kPartialTables], a cache line each: items of this list that are done; only with partial tables
  //   staged  per row product that needs it, tables per captured sum that does
  Expr done_at, workspace_bytes;
  std::vector<Expr> staged_at;  ///< by row product
  std::vector<Expr> table_at;   ///< by captured sum
  Expr items() const;           ///< of the main phase: chunks, by b and KV head where those are split
  Expr row_blocks() const;      ///< b · h · query blocks

 private:
  void list_operands(const CpuTarget& target, const FoldedWeights& folded);
  void place(const CpuSchedule& schedule, const CpuTarget& target);
  void lay_out_workspace();
  void classify(const CapturedSum& sum);
  size_t rows_of(std::vector<Rows>& list, const Access& access, int64_t width, double scale, int64_t stride);
  size_t tile_of(ExprId weight);
  Product product(const BackwardProduct& from, bool by_rows, const CpuTarget& target);
  DType type_of(int tensor) const { return spec_.tensors[static_cast<size_t>(tensor)].type.dtype; }

  const BackwardSpec& spec_;
  const bool tiled_;
};

}  // namespace tilewright::cpu
