#include "codegen/cpu/amx_prefill_layout.h"

#include <numeric>

#include "codegen/cpu/amx_tiles.h"
#include "codegen/cpu/split_terms.h"
#include "ir/result.h"

namespace tilewright::cpu {

AmxPrefillLayout::AmxPrefillLayout(const AttentionSpec& spec, const CpuSchedule& schedule, const CpuTarget& target)
    : head_dim(spec.dots[0].head_dim),
      value_dim(spec.value_dim),
      padded_head_dim(round_up(std::max<int64_t>(head_dim, 1), 32)),
      padded_value_dim(round_up(std::max<int64_t>(value_dim, 1), kStep)),
      products(schedule.products),
      value_products(schedule.value_products),
      parts(split_parts(schedule.products)),
      value_parts(split_parts(schedule.value_products)),
      rescale_log2(schedule.rescale_log2) {
  TW_CHECK(spec.accumulate == DType::f32);
  const DotTerm& dot = spec.dots[0];
  scales_queries = parts > 1 && operand_dtype(spec, dot.query, dot.query_row) == DType::f32;
  block_q = round_up(schedule.block_q, kUnit);
  block_kv = round_up(schedule.block_kv, std::lcm(kStep, 2 * value_steps()));
  stage_width = std::max(padded_head_dim, padded_value_dim);

  int64_t at = 0;
  const auto take = [&](int64_t bytes) {
    const int64_t here = at;
    at += round_up(bytes, 64);
    return here;
  };
  file_at = take(AmxTiles::file_bytes(target));
  state_at = take(AmxPipelineState::count * 8);
  flag_at = take(8);
  dummy_at = take(4 * kTile);
  tile_at = take(kTile);
  max_at = take(block_q * 4);
  sum_at = take(block_q * 4);
  factor_at = take(kUnit * 4);
  queries_at = take(units() * unit_queries());
  outputs_at = take(units() * unit_outputs());
  scores_at = take(2 * 2 * score_group());
  weights_at = take(2 * 2 * weight_group());
  stage_at = take(kUnit * stage_width * 4);
  const bool computes_rows = dot.query_row || dot.key_row;
  rows_at = take(computes_rows ? kGroup * head_dim * 4 : 0);
  block_at = take(packed_block());
  const int64_t wide = checked() ? 4 : 0;
  wide_queries_at = take(wide * kUnit * padded_head_dim);
  wide_keys_at = take(wide * block_kv * padded_head_dim);
  wide_values_at = take(wide * block_kv * padded_value_dim);
  ones_at = take(wide * std::max(block_kv, padded_value_dim));
  scratch_bytes = at;
}

}  // namespace tilewright::cpu
