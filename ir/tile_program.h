// TileProgram: the online-softmax recurrence over tiles, the contract between meaning and templates.
// The generic template and the interpreter execute it op by op; fast templates implement the same recurrence by hand
// and may choose only the lazy-rescale threshold, the splits and how a product is decomposed.
#pragma once

#include <string>
#include <vector>

#include "ir/attention_spec.h"

namespace tilewright {

/// Shapes: tile_qk [block_q, block_kv], column [block_q], tile_qv [block_q, value_dim].
enum class TileShape : uint8_t { tile_qk, column, tile_qv };

enum class TileOp : uint8_t {
  fill,            ///< dst = literal
  dot,             ///< dst[q,kv] = Σ_d Q·K, keys hidden by keep_kv read as 0
  map_score,       ///< dst[q,kv] = score(a[q,kv]; b,h,q,kv) · score_scale   (log2(e) for softmax, else 1)
  mask,            ///< dst[q,kv] = keep ? a : literal
  row_max,         ///< dst[q] = max over kv of a
  row_sum,         ///< dst[q] = Σ over kv of a
  max,             ///< dst = max(a, b)
  finite_or_zero,  ///< dst = a == -inf ? 0 : a, so that (-inf) - ref stays -inf
  exp2_sub,        ///< dst = exp2(a - b), b broadcast along rows
  mul,             ///< dst = a · b, b broadcast along rows
  add,             ///< dst = a + b
  map_weight,      ///< dst[q,kv] = a[q,kv] · weight_factor(b,h,q,kv)
  dot_value,       ///< dst[q,v] = a[q,v] + Σ_kv b[q,kv]·V, values hidden by keep_kv read as 0
  load_sink,       ///< dst[q] = sink · log2(e)
  div_or_zero,     ///< dst = b == 0 ? 0 : a / b
  log2_add,        ///< dst = (a + log2(b)) · ln 2, -inf when b is 0: the LSE in natural units
  store_output,    ///< O = a
  store_lse        ///< LSE = a
};

/// Names of tiles; each value is assigned in one or more instructions (state is carried between steps).
struct TileInst {
  TileOp op = TileOp::fill;
  int dst = -1;
  int a = -1, b = -1;
  double literal = 0;
};

struct TileValue {
  std::string name;  ///< "m", "l", "acc", "s", "p", "alpha", …
  TileShape shape = TileShape::column;
};

/// init once per query block, step per visited kv block in ascending order, finish once. `merge` combines two partial
/// states (split_kv): in it, value ids < values.size() mean the left state, others (id - values.size()) the right.
struct TileProgram {
  AttentionSpec spec;
  Expr score;              ///< spec.score with log2(e) folded in (fold_softmax_scale); equals spec.score for `none`
  double score_scale = 1;  ///< what is left to multiply after folding, 1 when all of it was absorbed
  std::vector<TileValue> values;
  std::vector<int> state;  ///< the values that step carries: m, l, acc (or acc alone)
  std::vector<TileInst> init, step, merge, finish;
};

}  // namespace tilewright
