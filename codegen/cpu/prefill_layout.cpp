#include "codegen/cpu/prefill_layout.h"

#include <numeric>

#include "codegen/cpu/expr_emitter.h"
#include "compiler/score_chain.h"
#include "ir/result.h"

namespace tilewright::cpu {

PrefillLayout::PrefillLayout(const AttentionSpec& spec, const CpuSchedule& schedule, const CpuTarget& target)
    : dtype(spec.accumulate),
      element(size_of(spec.accumulate)),
      lanes(schedule.lanes),
      score_tile{schedule.mr, schedule.nv},
      k_unroll(schedule.k_unroll),
      head_dim(spec.dots[0].head_dim),
      value_dim(spec.value_dim) {
  const int64_t value_vectors = std::max<int64_t>(1, round_up(value_dim, lanes) / lanes);
  output_tile = tile_for_columns(score_tile, value_vectors, target);
  panel = score_tile.nv * lanes;
  row_step = score_tile.nv % 2 == 0 ? 2 : 1;
  if (spec.weight_factor && draws_random(*spec.weight_factor) && score_tile.nv % 4 == 0) row_step = 4;
  strip_rows = round_up(schedule.strip_rows, std::lcm(score_tile.mr, output_tile.mr));
  block_q = round_up(schedule.block_q, strip_rows);
  block_kv = round_up(schedule.block_kv, panel);
  // Packing moves 16 bytes of a key at once, the product k_unroll elements.
  const int64_t head_dim_unit = std::lcm(k_unroll, 16 / element);
  padded_head_dim = round_up(std::max<int64_t>(head_dim, 1), head_dim_unit);
  score_piece = chain_length(padded_head_dim, head_dim_unit, score_chain(spec));
  padded_value_dim = round_up(value_vectors, output_tile.nv) * lanes;
  stage_width = padded_head_dim;
  computes_rows = spec.dots[0].query_row || spec.dots[0].key_row;
  TW_CHECK(lanes * row_step % k_unroll == 0 || lanes % k_unroll == 0);

  const int64_t line = 64 / element;
  int64_t at = 0;
  auto take = [&](int64_t count) {
    const int64_t here = at;
    at += round_up(count, line);
    return here;
  };
  q_at = take(block_q * padded_head_dim);
  o_at = take(block_q * padded_value_dim);
  max_at = take(block_q);
  sum_at = take(block_q * lanes);
  factor_at = take(block_q);
  ones_at = take(score_piece < padded_head_dim ? strip_rows : 0);
  score_stride = block_kv + line;
  scores_at = take(strip_rows * score_stride);
  strips_at = take(strips() * 2 * (8 / element));
  stage_at = take(lanes * stage_width);
  rows_at = take(computes_rows ? lanes * head_dim : 0);
  block_at = take(packed_block());
  scratch_elements = at;
}

}  // namespace tilewright::cpu
