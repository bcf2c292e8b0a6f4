#include "codegen/cpu/amx_backward_layout.h"

#include <algorithm>

#include "codegen/cpu/amx_product.h"
#include "codegen/cpu/backward_layout.h"

namespace tilewright::cpu {

AmxBackwardLayout::AmxBackwardLayout(const BackwardLayout& l, const CpuSchedule& schedule, const CpuTarget& target,
                                     int64_t from)
    : products(schedule.products), value_products(schedule.value_products) {
  int64_t end = from;
  const auto take = [&](int64_t bytes) {
    const int64_t here = end;
    end += round_up(bytes, 64);
    return here;
  };
  const auto parts_of = [&](DType type) {
    return type == DType::bf16 ? 1 : split_parts(std::max(products, value_products));
  };
  const auto pad = [](int64_t width) { return round_up(std::max<int64_t>(width, 1), kStep); };
  stage_stride = kStep;
  // As TilePacker leaves them: [row / 16][part][column / 32], and transposed [row / 32][column / 16][part].
  const auto by_rows = [&](int64_t rows, int64_t padded, int64_t parts) {
    stage_stride = std::max(stage_stride, padded);
    const int64_t part = padded / kStep * kTile;
    return Tiles{take(rows / kGroup * parts * part), parts * part, kTile, part};
  };
  const auto by_columns = [&](int64_t rows, int64_t padded, int64_t parts) {
    stage_stride = std::max(stage_stride, padded);
    const int64_t step = padded / kGroup * parts * kTile;
    return Tiles{take(rows / kStep * step), parts * kTile, step, kTile};
  };

  for (const auto& rows : l.q_rows) queries.push_back({pad(rows.width), parts_of(rows.type), {}, {}});
  for (const auto& term : l.terms) {
    Queries& q = queries[term.queries];
    if (!q.rows.used()) q.rows = by_rows(l.block_q, q.padded, q.parts);
    Keys keys{pad(term.head_dim), parts_of(term.key_type), {}};
    keys.tiles = by_rows(l.chunk_kv, keys.padded, keys.parts);
    score_keys.push_back(keys);
  }
  for (const auto& rows : l.kv_rows) {
    Keys keys{pad(rows.width), parts_of(rows.type), {}};
    keys.tiles = by_columns(l.chunk_kv, keys.padded, keys.parts);
    row_keys.push_back(keys);
  }
  weights.resize(l.weights.size());
  for (const auto* list : {&l.columns, &l.rows})
    for (const auto& p : *list) {
      Weights& w = weights[p.weight];
      w.parts = std::max(w.parts, p.rounding == DType::bf16 ? 1 : split_parts(value_products));
    }
  for (const auto& p : l.columns) {
    Queries& q = queries[p.operand];
    if (!q.transposed.used()) q.transposed = by_columns(l.block_q, q.padded, q.parts);
    Weights& w = weights[p.weight];
    const int64_t step = l.block_kv / kGroup * w.parts * kTile;
    if (!w.columns.used()) w.columns = {take(l.block_q / kStep * step), w.parts * kTile, step, kTile};
    // A cache line more, so that rows of a tile of sums do not meet in one set of the cache.
    const int64_t stride = l.chunk_kv * 4 + 64;
    column_sums.push_back({q.padded, take(q.padded * stride), stride});
  }
  for (const auto& p : l.rows) {
    Weights& w = weights[p.weight];
    const int64_t group = l.block_kv / kStep * w.parts * kTile;
    if (!w.rows.used()) w.rows = {take(l.block_q / kGroup * group), group, w.parts * kTile, kTile};
  }
  file_at = take(AmxTiles::file_bytes(target));
  dummy_at = take(AmxProduct::kDummyBytes);
  tile_at = take(kTile);
  stage_at = take(kStep * stage_stride * 4);
  const auto split = [](const auto& operand) { return operand.parts > 1; };
  checked = std::ranges::any_of(queries, split) || std::ranges::any_of(score_keys, split) ||
            std::ranges::any_of(row_keys, split) || std::ranges::any_of(weights, split);
  if (checked) place_wide(l, take);
  scratch_bytes = end;
}

void AmxBackwardLayout::place_wide(const BackwardLayout& l, const std::function<int64_t(int64_t bytes)>& take) {
  chunk_flag_at = take(8);
  query_flag_at = take(8);
  int64_t widest = kStep;  ///< rows of a sum
  for (const Queries& q : queries) {
    wide_queries_at.push_back(take(kStep * q.padded * 4));
    widest = std::max(widest, q.padded);
  }
  for (const Keys& keys : row_keys) wide_keys_at.push_back(take(l.block_kv * keys.padded * 4));
  for (const Keys& keys : score_keys) wide_panels_at.push_back(take(keys.padded * l.block_kv * 4));
  ones_at = take(widest * 4);
}

}  // namespace tilewright::cpu
